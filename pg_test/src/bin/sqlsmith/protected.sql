-- What makes the tables of tables.sql Bulkhead's, by their owner; and ways for a random query to Bulkhead's functions that return rows.
SELECT bulkhead.protect(t) FROM unnest(ARRAY['accounts', 'orders', 'order_lines', 'audit', 'events', 'documents', 'stock', 'notes', 'leads', 'visits', 'metrics']::regclass[]) t;
SELECT bulkhead.share('prices');
SELECT bulkhead.register_inventory('stock', 'sku', 'pieces');
SELECT bulkhead.attach_scoring('leads', 'lead');
-- A policy that somebody added later, and thought it harmless.
CREATE POLICY wide ON accounts USING (true);

CREATE FUNCTION claim(text) RETURNS text LANGUAGE sql AS 'SELECT concat_ws('' '', state, response, fence) FROM bulkhead.idempotency_claim(left($1, 100))';
CREATE FUNCTION buy(text, text, bigint) RETURNS text LANGUAGE sql AS 'SELECT concat_ws('' '', verdict, remaining) FROM bulkhead.decrement_inventory(''stock'', left($1, 100), $2, $3)';
CREATE FUNCTION verdicts(text) RETURNS text LANGUAGE sql AS 'SELECT string_agg(v::text, '';'') FROM bulkhead.order_verdicts(''stock'', left($1, 100)) v';
CREATE VIEW verdicts_of_one AS SELECT * FROM bulkhead.order_verdicts('stock', 'order 1');
CREATE VIEW state AS SELECT * FROM bulkhead.status();
CREATE VIEW rules AS SELECT * FROM bulkhead.rule_sets;
