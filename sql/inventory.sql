-- inventory: many orders for few items, decided in batches.

-- The registry. It keys on (relation, attnum), so renames follow; a dump carries names, which count for a row whose `home` is not this database.
CREATE TABLE bulkhead.inventory (
  relation        regclass    PRIMARY KEY,
  identity        uuid        NOT NULL UNIQUE DEFAULT pg_catalog.gen_random_uuid(),
  item_attnum     smallint    NOT NULL,
  item_column     name        NOT NULL,
  quantity_attnum smallint    NOT NULL,
  quantity_column name        NOT NULL,
  tenanted        boolean     NOT NULL,
  home            text        NOT NULL,
  registered_at   timestamptz NOT NULL DEFAULT pg_catalog.now(),
  registered_by   name        NOT NULL
);
COMMENT ON TABLE bulkhead.inventory IS 'Registered inventories. Written by register_inventory() only.';
COMMENT ON COLUMN bulkhead.inventory.relation IS 'the table';
COMMENT ON COLUMN bulkhead.inventory.identity IS 'what its orders are kept under';
COMMENT ON COLUMN bulkhead.inventory.item_attnum IS 'the item column''s number';
COMMENT ON COLUMN bulkhead.inventory.item_column IS 'the item column''s name when it was registered';
COMMENT ON COLUMN bulkhead.inventory.quantity_attnum IS 'the quantity column''s number';
COMMENT ON COLUMN bulkhead.inventory.quantity_column IS 'the quantity column''s name when it was registered';
COMMENT ON COLUMN bulkhead.inventory.tenanted IS 'it was protected, and its orders are kept by tenant';
COMMENT ON COLUMN bulkhead.inventory.home IS 'the database in which the numbers count';
COMMENT ON COLUMN bulkhead.inventory.registered_at IS 'when it was registered';
COMMENT ON COLUMN bulkhead.inventory.registered_by IS 'by which role';
REVOKE ALL ON bulkhead.inventory FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('bulkhead.inventory', '');

-- Whoever writes it, pg_restore included, every session hears of it.
CREATE FUNCTION bulkhead.announce_inventory() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'announce_inventory_wrapper';
COMMENT ON FUNCTION bulkhead.announce_inventory() IS
  'Trigger on bulkhead.inventory: makes every session read it anew.';
REVOKE EXECUTE ON FUNCTION bulkhead.announce_inventory() FROM PUBLIC;
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON bulkhead.inventory
  FOR EACH STATEMENT EXECUTE FUNCTION bulkhead.announce_inventory();
ALTER TABLE bulkhead.inventory ENABLE ALWAYS TRIGGER announce;

-- Partitioned by the time of the verdict; partitions are made by maintain(), or by the first verdict of a day. Read and written by position
-- (src/pg/verdicts/rows.rs), and by nobody else. Each partition has a primary key on (digest, line); that an order is unique across
-- partitions is seen to by the functions.
CREATE TABLE bulkhead.order_verdict (
  digest     uuid        NOT NULL,
  decided_at timestamptz NOT NULL,
  quantity   bigint,
  remaining  bigint,
  relation   regclass    NOT NULL,
  line       integer     NOT NULL,
  verdict    "char"      NOT NULL,
  tenant     text        NOT NULL,
  order_id   text        NOT NULL,
  item       text
) PARTITION BY RANGE (decided_at);
COMMENT ON TABLE bulkhead.order_verdict IS 'Verdicts of orders, a row for each line. Written by decrement_inventory() and its siblings only.';
COMMENT ON COLUMN bulkhead.order_verdict.digest IS 'what is indexed: the inventory, the tenant and the order, hashed';
COMMENT ON COLUMN bulkhead.order_verdict.decided_at IS 'when the verdict was given';
COMMENT ON COLUMN bulkhead.order_verdict.quantity IS 'what the line asked for';
COMMENT ON COLUMN bulkhead.order_verdict.remaining IS 'what the item had left then';
COMMENT ON COLUMN bulkhead.order_verdict.relation IS 'the inventory';
COMMENT ON COLUMN bulkhead.order_verdict.line IS 'the line''s number in its order, from 1; 0 says that the order was given back';
COMMENT ON COLUMN bulkhead.order_verdict.verdict IS 'a accepted, i insufficient, u unknown item, r rejected, x invalid';
COMMENT ON COLUMN bulkhead.order_verdict.tenant IS 'whose order it is; empty for a table without tenants';
COMMENT ON COLUMN bulkhead.order_verdict.order_id IS 'as the client sent it';
COMMENT ON COLUMN bulkhead.order_verdict.item IS 'as the client sent it';
REVOKE ALL ON bulkhead.order_verdict FROM PUBLIC;
-- No partition is made here: a dump could not restore it. Its rows are not updated.
INSERT INTO bulkhead.managed_partition (parent, every, retain, leaf_key, managed_by)
VALUES ('bulkhead.order_verdict', '1 day', NULL, '{digest,line}', CURRENT_USER);

CREATE FUNCTION bulkhead.register_inventory(relation regclass, item_column name DEFAULT 'id', quantity_column name DEFAULT 'quantity')
  RETURNS void VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'register_inventory_wrapper'
  SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.register_inventory(regclass, name, name) IS
  'From now on orders may be placed on the table. Table owner only.';

-- No SET clause: the table's triggers run with the caller's settings, as in any UPDATE of the caller's.
CREATE FUNCTION bulkhead.decrement_inventory(relation regclass, order_ids text[], items text[], quantities bigint[])
  RETURNS TABLE (line integer, order_id text, item text, verdict text, remaining bigint)
  VOLATILE PARALLEL UNSAFE ROWS 100 LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_decrement_inventory';
COMMENT ON FUNCTION bulkhead.decrement_inventory(regclass, text[], text[], bigint[]) IS
  'Decides a batch of orders, first come first served, each all or nothing: a verdict for each line. A repeated order gets its stored verdict.';

CREATE FUNCTION bulkhead.decrement_inventory(relation regclass, order_id text, item text, quantity bigint)
  RETURNS TABLE (line integer, order_id text, item text, verdict text, remaining bigint)
  VOLATILE PARALLEL UNSAFE ROWS 1 LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_decrement_inventory_line';
COMMENT ON FUNCTION bulkhead.decrement_inventory(regclass, text, text, bigint) IS
  'The same for one order of one line.';

CREATE FUNCTION bulkhead.order_verdicts(relation regclass, order_id text)
  RETURNS TABLE (line integer, order_id text, item text, verdict text, remaining bigint)
  VOLATILE PARALLEL UNSAFE ROWS 1 LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_order_verdicts';
COMMENT ON FUNCTION bulkhead.order_verdicts(regclass, text) IS
  'The stored verdict of an order, a row for each line; no row while there is none.';

CREATE FUNCTION bulkhead.release_order(relation regclass, order_id text) RETURNS integer
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_release_order';
COMMENT ON FUNCTION bulkhead.release_order(regclass, text) IS
  'Gives back what an order took, once: the number of lines that were given back, 0 when there was nothing or it was done before.';
