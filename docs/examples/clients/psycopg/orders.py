import os
import random
import time

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

# prepare_threshold=None: behind a pooler of transactions the next one may run on another server
# connection, which does not know what was prepared on this one.
pool = ConnectionPool(
    os.environ["DATABASE_URL"],
    min_size=0,
    max_size=4,
    kwargs={"prepare_threshold": None, "row_factory": dict_row},
    open=True,
)

# Serialization failure, deadlock, lock not available: the transaction is rolled back, and may be tried again.
RETRY = {"40001", "40P01", "55P03"}


def with_tenant(context, work):
    """Runs work(connection) in a transaction of the tenant: `context` is its id, or a token."""
    for pause in (0.05, 0.2, 0.8, None):
        try:
            with pool.connection() as db:  # begins with the first statement; commits, or rolls back if work raises
                db.execute("SELECT bulkhead.set_tenant(%s)", [context])
                return work(db)
        except psycopg.Error as error:
            if pause is None or error.sqlstate not in RETRY:
                raise
            time.sleep(random.uniform(pause / 2, pause))


def list_orders(context):
    return with_tenant(context, lambda db: db.execute("SELECT * FROM orders ORDER BY id").fetchall())


def post_order(context, key, body):
    """POST /orders with an Idempotency-Key: the status and body to answer with. It is committed by then."""

    def work(db):
        claim = db.execute(
            "SELECT * FROM bulkhead.idempotency_claim(%s, bulkhead.request_fingerprint('POST', '/orders', %s))",
            [key, Jsonb(body)],
        ).fetchone()
        if claim["state"] == "replay":
            return claim["status"], claim["response"]
        if claim["state"] == "in_progress":
            return 409, {"detail": "a request with this Idempotency-Key is being worked on"}
        if claim["state"] == "mismatch":
            return 422, {"detail": "this Idempotency-Key was used for another request"}
        order = db.execute(
            "INSERT INTO orders (item, quantity) VALUES (%(item)s, %(quantity)s) RETURNING id, item, quantity", body
        ).fetchone()
        db.execute("SELECT bulkhead.idempotency_complete(%s, 201, %s, %s)", [key, Jsonb(order), claim["fence"]])
        return 201, order

    return with_tenant(context, work)


def sell(context, order_id, item, quantity):
    """Takes from the stock, durable when it is told. After an error or `pending` ask again with the same order id."""
    return with_tenant(
        context,
        lambda db: db.execute(
            "SELECT verdict, remaining FROM bulkhead.decrement_now('stock', %s, %s, %s)", [order_id, item, quantity]
        ).fetchone(),
    )
