-- Tables of every kind, registered in every way, as the role `owner`. {A} and {B} are two tenants.
CREATE TABLE customers (gone int, tenant_id uuid, id int PRIMARY KEY, name text);
ALTER TABLE customers DROP gone;
INSERT INTO customers VALUES ('{A}', 1, 'of a'), ('{B}', 2, 'of b');
CREATE TABLE orders (id int PRIMARY KEY, tenant_id uuid DEFAULT gen_random_uuid(), customer int REFERENCES customers, item text);
INSERT INTO orders VALUES (1, '{A}', 1, 'one'), (2, '{A}', 1, 'two'), (3, '{B}', 2, 'three');
CREATE TABLE notes (id int, tenant_id text, note text);
CREATE TABLE labels (id int, tenant varchar(40) NOT NULL, label text);
CREATE TABLE jobs (id int, account bigint, what text);
CREATE TABLE chats (id int, tenant_id integer, what text);
CREATE INDEX chats_tenant ON chats (tenant_id, id);
INSERT INTO notes VALUES (1, '{A}', 'of a'), (2, '{B}', 'of b');
INSERT INTO labels VALUES (1, '{A}', 'of a'), (2, '{B}', 'of b');
INSERT INTO jobs VALUES (1, 7, 'of 7'), (2, -8, 'of -8');
INSERT INTO chats VALUES (1, 7, 'of 7'), (2, 8, 'of 8');
ALTER TABLE labels ENABLE ROW LEVEL SECURITY;
CREATE POLICY known ON labels USING (id > 0);
CREATE TABLE readings (id int, tenant_id bigint, n int) PARTITION BY RANGE (id);
CREATE TABLE readings_low PARTITION OF readings FOR VALUES FROM (0) TO (10) PARTITION BY HASH (id);
CREATE TABLE readings_low_0 PARTITION OF readings_low FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE readings_rest PARTITION OF readings DEFAULT;
INSERT INTO readings VALUES (1, 7, 1), (2, 8, 2), (11, 7, 3);
CREATE TABLE base (id int, tenant_id uuid);
CREATE TABLE heir (more int) INHERITS (base);
INSERT INTO base VALUES (1, '{A}'), (2, '{B}');
INSERT INTO heir VALUES (3, '{A}', 30);
SELECT bulkhead.protect('customers'), bulkhead.protect('orders'), bulkhead.protect('notes'), bulkhead.protect('labels', 'tenant'),
       bulkhead.protect('jobs', 'account'), bulkhead.protect('chats'), bulkhead.protect('readings'), bulkhead.protect('base');
CREATE TABLE prices (sku text PRIMARY KEY, cents int);
INSERT INTO prices VALUES ('a', 100);
SELECT bulkhead.share('prices');
CREATE TABLE watched (id int, tenant_id uuid);
SELECT bulkhead.observe('watched');
CREATE TABLE "Semi; ""quoted"" it's" (id int, "größe" text);
INSERT INTO "Semi; ""quoted"" it's" VALUES (1, '{A}'), (2, '{B}');
SELECT bulkhead.protect('"Semi; ""quoted"" it''s"', 'größe');

CREATE TABLE events (id bigint, tenant_id uuid, at timestamptz NOT NULL) PARTITION BY RANGE (at);
DO $$ DECLARE today timestamptz := date_trunc('day', now(), 'UTC'); BEGIN
  FOR i IN REVERSE 5..1 LOOP
    EXECUTE format('CREATE TABLE events_%s PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
                   i, today - i * interval '24 hours', today - (i - 1) * interval '24 hours');
  END LOOP;
  INSERT INTO events SELECT i, t::uuid, today - interval '1 hour' - i * interval '24 hours'
    FROM generate_series(0, 4) i, unnest(ARRAY['{A}', '{B}']) t;
END $$;
CREATE TABLE archived (partition text);
CREATE FUNCTION archive(partition regclass) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.archived VALUES (partition::text) $$;
SELECT bulkhead.manage_partitions('events', '1 day', '3 days', 2, on_expire => 'archive(regclass)'::regprocedure);
SELECT bulkhead.ensure_partitions('events'), bulkhead.hold_partition('events_5', 'case 2026-17');
SELECT bulkhead.protect('events');

CREATE TABLE stock (sku text PRIMARY KEY, pieces int NOT NULL CHECK (pieces >= 0));
INSERT INTO stock VALUES ('a', 10), ('b', 5);
SELECT bulkhead.register_inventory('stock', 'sku', 'pieces');
CREATE TABLE shops (tenant_id uuid NOT NULL, id text NOT NULL, quantity bigint NOT NULL CHECK (quantity >= 0), PRIMARY KEY (tenant_id, id));
INSERT INTO shops VALUES ('{A}', 'x', 10), ('{B}', 'x', 3), ('{B}', 'y', 7);
SELECT bulkhead.protect('shops'), bulkhead.register_inventory('shops');
ALTER TABLE shops ADD CONSTRAINT closed CHECK (id <> 'y' OR quantity = 7);

CREATE TABLE leads (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id text NOT NULL, document jsonb,
  score numeric, status text NOT NULL DEFAULT 'pending_score', rules_version integer);
CREATE INDEX leads_pending ON leads (tenant_id) WHERE status = 'pending_score';
CREATE INDEX ON leads (tenant_id);
SELECT bulkhead.protect('leads'), bulkhead.attach_scoring('leads', 'lead', version_column => 'rules_version');

CREATE VIEW order_items WITH (security_barrier) AS SELECT o.id, o.item, c.name FROM orders o JOIN customers c ON c.id = o.customer;
GRANT SELECT ON order_items TO app;
COMMENT ON TABLE orders IS 'what was ordered';
COMMENT ON COLUMN orders.item IS 'the item';
