-- The tables of payments.py. Run as the role that owns them; the service logs in as another (here: app).
CREATE TABLE orders (
  id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id text   NOT NULL,
  item      text   NOT NULL,
  quantity  integer NOT NULL CHECK (quantity > 0)
);
CREATE TABLE payments (
  id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id text   NOT NULL,
  amount    bigint NOT NULL,
  charge    text   NOT NULL
);
SELECT bulkhead.protect('orders');
SELECT bulkhead.protect('payments');
GRANT SELECT, INSERT ON orders, payments TO app;
