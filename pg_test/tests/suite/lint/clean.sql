-- A schema as a careful team has it: lint() finds no error and no warning here.
DO $$ BEGIN CREATE ROLE shop_owner NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
CREATE SCHEMA shop AUTHORIZATION shop_owner;
SET ROLE shop_owner;
SET search_path = shop;
CREATE TABLE tenants (id uuid PRIMARY KEY, name text NOT NULL);
CREATE TABLE customers (
  tenant_id uuid NOT NULL REFERENCES tenants,
  id bigint GENERATED ALWAYS AS IDENTITY,
  email text NOT NULL,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, email)
);
CREATE TABLE orders (
  tenant_id uuid NOT NULL REFERENCES tenants,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  customer_id bigint NOT NULL,
  status text NOT NULL DEFAULT 'open',
  changed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, customer_id) REFERENCES customers ON DELETE CASCADE
);
CREATE INDEX ON orders (tenant_id, status, changed_at);
CREATE TABLE comments (id bigserial PRIMARY KEY, tenant_id uuid NOT NULL, order_id uuid NOT NULL, body text);
CREATE INDEX ON comments (tenant_id, order_id);
CREATE TABLE events (tenant_id uuid NOT NULL, at timestamptz NOT NULL, what jsonb) PARTITION BY RANGE (at);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE events_2027 PARTITION OF events FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
CREATE TABLE prices (sku text PRIMARY KEY, cents integer NOT NULL);
SELECT bulkhead.protect('tenants', 'id');
SELECT bulkhead.protect(t::regclass) FROM unnest(ARRAY['customers', 'orders', 'comments', 'events']) AS t;
SELECT bulkhead.share('prices');
CREATE POLICY closed_orders_stay ON orders AS RESTRICTIVE FOR DELETE USING (status <> 'closed');
CREATE VIEW open_orders WITH (security_invoker = true) AS SELECT * FROM orders WHERE status = 'open';
CREATE VIEW price_list AS SELECT sku, cents FROM prices;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.changed_at := now(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
CREATE FUNCTION order_count() RETURNS bigint STABLE SECURITY DEFINER SET search_path = shop, pg_temp
  LANGUAGE sql AS 'SELECT count(*) FROM orders';
CREATE FUNCTION cents(amount numeric) RETURNS bigint IMMUTABLE LANGUAGE sql AS 'SELECT (amount * 100)::bigint';
GRANT USAGE ON SCHEMA shop TO app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA shop TO app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA shop TO app;
RESET search_path;
RESET ROLE;
