"""Orders and payments over HTTP that a client may send twice: the example of docs/idempotency.md.

POST /orders    the work is in the database: claim, work and answer are one transaction.
POST /payments  the work is elsewhere, at a card processor: claim with a lease, charge, finish.

    pip install fastapi uvicorn 'psycopg[binary,pool]'
    (Debian, Ubuntu: python3-fastapi python3-uvicorn python3-psycopg python3-psycopg-pool)
    psql -f payments.sql
    DATABASE_URL='dbname=shop user=app' PROCESSOR_URL=http://localhost:9000 python3 payments.py

    curl -i localhost:8000/orders -H 'Idempotency-Key: "5f3b"' -H 'X-Tenant: h2o' \
         -H 'Content-Type: application/json' -d '{"item": "anchor", "quantity": 2}'
"""

import json
import os
import urllib.error
import urllib.request
from contextlib import contextmanager

import psycopg
import uvicorn
from fastapi import FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool
from pydantic import BaseModel, Field

# How long a charge may take before another request may take it over; longer than the time-out of the call.
LEASE = os.environ.get("LEASE", "1 minute")
CHARGE_TIMEOUT = 20
PROCESSOR_URL = os.environ.get("PROCESSOR_URL", "http://localhost:9000")

app = FastAPI()
pool = ConnectionPool(os.environ.get("DATABASE_URL", ""), max_size=16, kwargs={"row_factory": namedtuple_row}, open=True)


class Order(BaseModel):
    item: str
    quantity: int


class Payment(BaseModel):
    # What the tables cannot hold has to be refused before the card is charged: after it, no retry could store the answer.
    amount: int = Field(gt=0, le=1_000_000_000)
    # The processor's token for the card and not its number: a hash of that, such as the fingerprint, can be turned back into it.
    card: str


@app.post("/orders")
def post_order(
    request: Request,
    order: Order,
    idempotency_key: str = Header(default=""),
    x_tenant: str = Header(default=""),
):
    key = unquoted(idempotency_key)
    if not key:
        return missing_key()
    with transaction(x_tenant) as db:
        held = claim(db, request, key, dict(order))
        if held.state != "started":
            return answer(held)
        row = db.execute(
            "INSERT INTO orders (item, quantity) VALUES (%s, %s) RETURNING id", [order.item, order.quantity]
        ).fetchone()
        created = {"id": row.id, "item": order.item, "quantity": order.quantity}
        complete(db, key, 201, created, held.fence)
    # Not before the commit: an answer that is sent is an answer that stays.
    return JSONResponse(created, 201)


@app.post("/payments")
def post_payment(
    request: Request,
    payment: Payment,
    idempotency_key: str = Header(default=""),
    x_tenant: str = Header(default=""),
):
    key = unquoted(idempotency_key)
    if not key:
        return missing_key()
    with transaction(x_tenant) as db:
        held = claim(db, request, key, dict(payment), LEASE)
    if held.state != "started":
        return answer(held)
    # The claim is committed: no transaction is open while the processor works, and a crash leaves a lease that runs out.
    try:
        charge = charge_card(x_tenant, key, payment)
    except urllib.error.HTTPError as refused:
        if refused.code != 402:
            return failed(x_tenant, key, held)
        # Declined: that is an answer, and a retry shall hear the same.
        declined = {"detail": "the card was declined"}
        with transaction(x_tenant) as db:
            complete(db, key, 402, declined, held.fence)
        return JSONResponse(declined, 402)
    except OSError:
        return failed(x_tenant, key, held)
    with transaction(x_tenant) as db:
        paid = {"charge": charge, "amount": payment.amount}
        complete(db, key, 201, paid, held.fence)
        db.execute("INSERT INTO payments (amount, charge) VALUES (%s, %s)", [payment.amount, charge])
    return JSONResponse(paid, 201)


def charge_card(tenant: str, key: str, payment: Payment) -> str:
    """The processor takes a key, too: whoever comes second is told of the first charge. Keys are the tenant's own, so it names both."""
    call = urllib.request.Request(
        f"{PROCESSOR_URL}/charges",
        data=json.dumps(dict(payment)).encode(),
        headers={"Content-Type": "application/json", "Idempotency-Key": f"{tenant}/{key}"},
    )
    with urllib.request.urlopen(call, timeout=CHARGE_TIMEOUT) as reply:
        return json.load(reply)["charge"]


def failed(tenant: str, key: str, held) -> JSONResponse:
    """No answer: the next request with this key may try at once, and the processor's key keeps it from charging twice."""
    with transaction(tenant) as db:
        db.execute("SELECT bulkhead.idempotency_release(%s, %s)", [key, held.fence])
    return problem(502, "the card processor could not be reached", {"Retry-After": "1"})


@contextmanager
def transaction(tenant: str):
    """A transaction for the tenant; committed at the end, rolled back by an exception.

    A real service takes the tenant from a verified session and not from a header.
    """
    if not tenant:
        raise HTTPException(401, "who is asking?")
    with pool.connection() as db:
        db.execute("SELECT bulkhead.set_tenant(%s)", [tenant])
        yield db


@app.exception_handler(psycopg.errors.ObjectNotInPrerequisiteState)
def taken_over(request: Request, error: psycopg.Error) -> JSONResponse:
    """55000: the lease ran out, another request works on it, and what this one did was rolled back. Its retry hears the answer."""
    return problem(409, "another request with this Idempotency-Key has taken over", {"Retry-After": "1"})


def claim(db, request: Request, key: str, body: dict, lease: str = "1 minute"):
    return db.execute(
        "SELECT * FROM bulkhead.idempotency_claim(%s, bulkhead.request_fingerprint(%s, %s, %s), %s)",
        [key, request.method, request.url.path, Jsonb(body), lease],
    ).fetchone()


def complete(db, key: str, status: int, body: dict, fence: int):
    db.execute("SELECT bulkhead.idempotency_complete(%s, %s, %s, %s)", [key, status, Jsonb(body), fence])


def answer(held) -> JSONResponse:
    """What a request is told that does not do the work."""
    if held.state == "replay":
        return JSONResponse(held.response, held.status, {"Idempotent-Replayed": "true"})
    if held.state == "in_progress":
        return problem(409, "a request with this Idempotency-Key is being worked on", {"Retry-After": "1"})
    return problem(422, "this Idempotency-Key was used for another request")


def missing_key() -> JSONResponse:
    return problem(400, "send an Idempotency-Key, a new one for each order or payment, the same one for each retry")


def problem(status: int, detail: str, headers: dict = {}) -> JSONResponse:
    return JSONResponse({"status": status, "detail": detail}, status, headers, "application/problem+json")


def unquoted(key: str) -> str:
    """The draft makes the header a quoted string; many clients send it bare."""
    return key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
