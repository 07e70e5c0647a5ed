import asyncio
import os
import random

from sqlalchemy import Identity, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# Behind a pooler of transactions no statement may stay prepared: both caches off, and the unnamed statement
# for each execution, because SQLAlchemy prepares whatever it runs and would name it.
engine = create_async_engine(
    os.environ["DATABASE_URL"],  # postgresql+asyncpg://…
    pool_size=4,
    max_overflow=0,
    connect_args={
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": lambda: "",
    },
)
sessions = async_sessionmaker(engine, expire_on_commit=False)

# Serialization failure, deadlock, lock not available: the transaction is rolled back, and may be tried again.
RETRY = {"40001", "40P01", "55P03"}


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(server_default=func.bulkhead.tenant_id_text())
    item: Mapped[str]
    quantity: Mapped[int]


async def with_tenant(context, work):
    """Runs work(session) in a transaction of the tenant: `context` is its id, or a token."""
    for pause in (0.05, 0.2, 0.8, None):
        try:
            async with sessions.begin() as db:  # commits, or rolls back if work raises
                await db.execute(select(func.bulkhead.set_tenant(context)))
                return await work(db)
        except DBAPIError as error:
            if pause is None or error.orig.sqlstate not in RETRY:
                raise
            await asyncio.sleep(random.uniform(pause / 2, pause))


async def list_orders(context):
    async def work(db: AsyncSession):
        return (await db.scalars(select(Order).order_by(Order.id))).all()

    return await with_tenant(context, work)


CLAIM = text(
    "SELECT * FROM bulkhead.idempotency_claim(:key, bulkhead.request_fingerprint('POST', '/orders', :body))"
).bindparams(bindparam("body", type_=JSONB))
COMPLETE = text("SELECT bulkhead.idempotency_complete(:key, 201, :body, :fence)").bindparams(
    bindparam("body", type_=JSONB)
)


async def post_order(context, key, body):
    """POST /orders with an Idempotency-Key: the status and body to answer with. It is committed by then."""

    async def work(db: AsyncSession):
        claim = (await db.execute(CLAIM, {"key": key, "body": body})).one()
        if claim.state == "replay":
            return claim.status, claim.response
        if claim.state == "in_progress":
            return 409, {"detail": "a request with this Idempotency-Key is being worked on"}
        if claim.state == "mismatch":
            return 422, {"detail": "this Idempotency-Key was used for another request"}
        order = Order(item=body["item"], quantity=body["quantity"])
        db.add(order)
        await db.flush()
        answer = {"id": order.id, "item": order.item, "quantity": order.quantity}
        await db.execute(COMPLETE, {"key": key, "body": answer, "fence": claim.fence})
        return 201, answer

    return await with_tenant(context, work)


SELL = text("SELECT verdict, remaining FROM bulkhead.decrement_now('stock', :order_id, :item, CAST(:quantity AS bigint))")


async def sell(context, order_id, item, quantity):
    """Takes from the stock, durable when it is told. After an error or `pending` ask again with the same order id."""

    async def work(db: AsyncSession):
        return (await db.execute(SELL, {"order_id": order_id, "item": item, "quantity": quantity})).one()

    return await with_tenant(context, work)
