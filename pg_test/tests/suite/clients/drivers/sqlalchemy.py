"""Does what the tests ask for, with docs/examples/clients/sqlalchemy/orders.py (its folder is the argument).

A request and an answer are one line of JSON each; answers come in the order in which they are ready.
"""

import asyncio
import json
import sys

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

sys.path.insert(0, sys.argv[1])
import orders  # noqa: E402


async def list_orders(ask):
    columns = ["id", "tenant_id", "item", "quantity"]
    return [{name: getattr(row, name) for name in columns} for row in await orders.list_orders(ask["context"])]


async def order(ask):
    return await orders.post_order(ask["context"], ask["key"], ask["body"])


async def sell(ask):
    return (await orders.sell(ask["context"], ask["key"], ask["item"], ask["quantity"]))._asdict()


async def naked(_):
    async with orders.engine.connect() as db:
        return [row.id for row in await db.execute(text("SELECT id FROM orders"))]


async def left(_):
    async with orders.engine.connect() as db:
        return await db.scalar(text("SELECT bulkhead.tenant_id_text()"))


DO = {"list": list_orders, "order": order, "sell": sell, "naked": naked, "left": left}


async def answer(ask):
    try:
        told = {"ok": await DO[ask["do"]](ask)}
    except DBAPIError as error:
        told = {"sqlstate": error.orig.sqlstate, "message": str(error.orig)}
    except Exception as error:
        told = {"message": repr(error)}
    print(json.dumps({"id": ask["id"], **told}), flush=True)


async def main():
    loop = asyncio.get_running_loop()
    requests = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
    answers = [asyncio.create_task(answer(json.loads(line))) async for line in requests]
    await asyncio.gather(*answers)
    await orders.engine.dispose()


asyncio.run(main())
