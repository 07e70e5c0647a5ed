"""Does what the tests ask for, with docs/examples/clients/psycopg/orders.py (its folder is the argument).

A request and an answer are one line of JSON each; answers come in the order in which they are ready.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import psycopg

sys.path.insert(0, sys.argv[1])
import orders  # noqa: E402


def naked(_):
    with orders.pool.connection() as db:
        return db.execute("SELECT id FROM orders").fetchall()


def left(_):
    with orders.pool.connection() as db:
        return db.execute("SELECT bulkhead.tenant_id_text() AS tenant").fetchone()["tenant"]


DO = {
    "list": lambda ask: orders.list_orders(ask["context"]),
    "order": lambda ask: orders.post_order(ask["context"], ask["key"], ask["body"]),
    "sell": lambda ask: orders.sell(ask["context"], ask["key"], ask["item"], ask["quantity"]),
    "naked": naked,
    "left": left,
}
printing = Lock()


def answer(ask):
    try:
        told = {"ok": DO[ask["do"]](ask)}
    except psycopg.Error as error:
        told = {"sqlstate": error.sqlstate, "message": str(error)}
    except Exception as error:
        told = {"message": repr(error)}
    with printing:
        print(json.dumps({"id": ask["id"], **told}), flush=True)


with ThreadPoolExecutor(64) as threads:
    for line in sys.stdin:
        threads.submit(answer, json.loads(line))
orders.pool.close()
