-- inventory: many orders for few items, decided in batches.

-- The registry; read by position (src/pg/inventory/registered.rs). It keys on (relation, attnum), so renames follow; a dump carries names, which count for a row whose `home` is not this database.
-- A table has a row for each pair of an item column and a tenant column that it was registered with: back at a former pair, its orders are known again.
CREATE TABLE bulkhead.inventory (
  relation        regclass    NOT NULL,
  identity        uuid        PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
  item_attnum     smallint    NOT NULL,
  item_column     name        NOT NULL,
  quantity_attnum smallint    NOT NULL,
  quantity_column name        NOT NULL,
  tenant_attnum   smallint,
  tenant_column   name,
  home            text        NOT NULL,
  is_current      boolean     NOT NULL DEFAULT true,
  registered_at   timestamptz NOT NULL DEFAULT pg_catalog.now(),
  registered_by   name        NOT NULL
);
CREATE UNIQUE INDEX inventory_current ON bulkhead.inventory (relation) WHERE is_current;
COMMENT ON TABLE bulkhead.inventory IS 'Registered inventories, as they are and as they were. Written by register_inventory() only; names follow when columns are renamed.';
COMMENT ON COLUMN bulkhead.inventory.relation IS 'the table';
COMMENT ON COLUMN bulkhead.inventory.identity IS 'what its orders are kept under';
COMMENT ON COLUMN bulkhead.inventory.item_attnum IS 'the item column''s number';
COMMENT ON COLUMN bulkhead.inventory.item_column IS 'the item column''s name';
COMMENT ON COLUMN bulkhead.inventory.quantity_attnum IS 'the quantity column''s number';
COMMENT ON COLUMN bulkhead.inventory.quantity_column IS 'the quantity column''s name';
COMMENT ON COLUMN bulkhead.inventory.tenant_attnum IS 'the tenant column''s number, where the table was protected and its orders are kept by tenant';
COMMENT ON COLUMN bulkhead.inventory.tenant_column IS 'the tenant column''s name';
COMMENT ON COLUMN bulkhead.inventory.home IS 'the database in which the numbers count';
COMMENT ON COLUMN bulkhead.inventory.is_current IS 'how the table is registered now';
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

-- Names follow renames in follow_ddl(); in a restored database the columns' numbers have to be known before the first.
CREATE FUNCTION bulkhead.before_alter_table() RETURNS event_trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'before_alter_table_wrapper' SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.before_alter_table() IS
  'Event trigger: in a restored or copied database, finds the columns of inventories by name before one is renamed.';
CREATE EVENT TRIGGER bulkhead_before_alter_table ON ddl_command_start WHEN TAG IN ('ALTER TABLE')
  EXECUTE FUNCTION bulkhead.before_alter_table();
ALTER EVENT TRIGGER bulkhead_before_alter_table ENABLE ALWAYS;
REVOKE EXECUTE ON FUNCTION bulkhead.before_alter_table() FROM PUBLIC;

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

-- The queue: four tables that requests go to in turn, 65,536 numbers to each, and which are emptied by TRUNCATE when all of it is drained. Read and written by
-- position (src/pg/queue/rows.rs), and by nobody else: no index, no trigger. No autovacuum: what is emptied needs none.
CREATE SEQUENCE bulkhead.inventory_request_number;
COMMENT ON SEQUENCE bulkhead.inventory_request_number IS 'numbers queued orders in the order of their arrival';
CREATE SEQUENCE bulkhead.inventory_batch_number;
COMMENT ON SEQUENCE bulkhead.inventory_batch_number IS 'numbers the batches of drains, for NOTIFY';

CREATE TABLE bulkhead.inventory_queue_0 (
  number     bigint      NOT NULL,
  relation   regclass    NOT NULL,
  queued_at  timestamptz NOT NULL,
  identity   uuid        NOT NULL,
  tenant     text        NOT NULL,
  order_id   text        NOT NULL,
  items      text[]      NOT NULL,
  quantities bigint[]    NOT NULL
) WITH (autovacuum_enabled = off);
CREATE TABLE bulkhead.inventory_queue_1 (LIKE bulkhead.inventory_queue_0) WITH (autovacuum_enabled = off);
CREATE TABLE bulkhead.inventory_queue_2 (LIKE bulkhead.inventory_queue_0) WITH (autovacuum_enabled = off);
CREATE TABLE bulkhead.inventory_queue_3 (LIKE bulkhead.inventory_queue_0) WITH (autovacuum_enabled = off);

-- The same columns, then why.
CREATE TABLE bulkhead.inventory_poison (
  LIKE bulkhead.inventory_queue_0,
  set_aside_at timestamptz NOT NULL,
  sqlstate     text        NOT NULL,
  reason       text        NOT NULL
);
COMMENT ON TABLE bulkhead.inventory_poison IS 'Queued orders that could not be decided, and why. Written by drain_inventory() only.';
COMMENT ON COLUMN bulkhead.inventory_poison.set_aside_at IS 'when it was set aside';
COMMENT ON COLUMN bulkhead.inventory_poison.sqlstate IS 'the code of the error that it met';
COMMENT ON COLUMN bulkhead.inventory_poison.reason IS 'the error''s message';

DO $queue$
DECLARE
  queue text;
BEGIN
  FOREACH queue IN ARRAY ARRAY['inventory_queue_0', 'inventory_queue_1', 'inventory_queue_2', 'inventory_queue_3', 'inventory_poison'] LOOP
    IF queue OPERATOR(pg_catalog.<>) 'inventory_poison' THEN
      EXECUTE pg_catalog.format('COMMENT ON TABLE bulkhead.%I IS %L', queue, 'Queued orders. Written by enqueue_decrement() and drain_inventory() only.');
    END IF;
    EXECUTE pg_catalog.format('COMMENT ON COLUMN bulkhead.%I.number IS %L', queue, 'the order of arrival');
    EXECUTE pg_catalog.format('COMMENT ON COLUMN bulkhead.%I.relation IS %L', queue, 'the inventory');
    EXECUTE pg_catalog.format('COMMENT ON COLUMN bulkhead.%I.queued_at IS %L', queue, 'when it was queued');
    EXECUTE pg_catalog.format('COMMENT ON COLUMN bulkhead.%I.identity IS %L', queue, 'the inventory''s identity when it was queued');
    EXECUTE pg_catalog.format('COMMENT ON COLUMN bulkhead.%I.tenant IS %L', queue, 'whose order it is; empty for a table without tenants');
    EXECUTE pg_catalog.format('COMMENT ON COLUMN bulkhead.%I.order_id IS %L', queue, 'as the client sent it');
    EXECUTE pg_catalog.format('COMMENT ON COLUMN bulkhead.%I.items IS %L', queue, 'an item for each line');
    EXECUTE pg_catalog.format('COMMENT ON COLUMN bulkhead.%I.quantities IS %L', queue, 'a quantity for each line');
    EXECUTE pg_catalog.format('REVOKE ALL ON bulkhead.%I FROM PUBLIC', queue);
    PERFORM pg_catalog.pg_extension_config_dump('bulkhead.' OPERATOR(pg_catalog.||) queue, '');
  END LOOP;
END
$queue$;
REVOKE ALL ON SEQUENCE bulkhead.inventory_request_number, bulkhead.inventory_batch_number FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('bulkhead.inventory_request_number', '');
SELECT pg_catalog.pg_extension_config_dump('bulkhead.inventory_batch_number', '');

CREATE FUNCTION bulkhead.enqueue_decrement(relation regclass, order_id text, items text[], quantities bigint[]) RETURNS bigint
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_enqueue_decrement';
COMMENT ON FUNCTION bulkhead.enqueue_decrement(regclass, text, text[], bigint[]) IS
  'Queues an order; it is decided by a drain. Returns the request''s number.';

CREATE FUNCTION bulkhead.enqueue_decrement(relation regclass, order_id text, item text, quantity bigint) RETURNS bigint
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_enqueue_decrement_line';
COMMENT ON FUNCTION bulkhead.enqueue_decrement(regclass, text, text, bigint) IS
  'The same for an order of one line.';

-- Group commit: the call waits for the database's worker, which decides for all callers at once. Its rows have a type with a name: for columns that only the function names, the server makes the row's type
-- anew for each call, which would be a tenth of what the call costs.
CREATE TYPE bulkhead.order_line AS (line integer, order_id text, item text, verdict text, remaining bigint);
COMMENT ON TYPE bulkhead.order_line IS 'What decrement_now() tells of each line of an order.';

CREATE FUNCTION bulkhead.decrement_now(relation regclass, order_id text, items text[], quantities bigint[], wait interval DEFAULT '5 s')
  RETURNS SETOF bulkhead.order_line
  VOLATILE PARALLEL UNSAFE ROWS 1 LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_decrement_now';
COMMENT ON FUNCTION bulkhead.decrement_now(regclass, text, text[], bigint[], interval) IS
  'Decides an order together with those of all other callers, in a transaction of its own: the verdict is durable when it is told. pending: the wait ran out.';

CREATE FUNCTION bulkhead.decrement_now(relation regclass, order_id text, item text, quantity bigint, wait interval DEFAULT '5 s')
  RETURNS SETOF bulkhead.order_line
  VOLATILE PARALLEL UNSAFE ROWS 1 LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_decrement_now_line';
COMMENT ON FUNCTION bulkhead.decrement_now(regclass, text, text, bigint, interval) IS
  'The same for an order of one line.';

-- The work of drain_inventory(), a batch a call. It asks for EXECUTE on drain_inventory(), so it needs no grant of its own.
CREATE FUNCTION bulkhead.drain_batch(relation regclass, batch_size integer, passed bigint[])
  RETURNS TABLE (done bigint, passed_by bigint[], code text, message text)
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'drain_batch_wrapper'
  SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.drain_batch(regclass, integer, bigint[]) IS
  'One batch of drain_inventory(), which calls it in a transaction of its own: how many requests are done with, which wait on, and the error they met. No row when another transaction was in the way.';

-- No SET clause and not SECURITY DEFINER: such a procedure cannot commit. The first COMMIT refuses a transaction block before anything is done.
CREATE PROCEDURE bulkhead.drain_inventory(relation regclass, batch_size integer DEFAULT 500, max_batches integer DEFAULT NULL)
LANGUAGE plpgsql AS $drain$
DECLARE
  batches integer := 0;
  tries integer := 0;
  -- Requests that wait on: another transaction is deciding them, or they fail for a reason that is none of theirs.
  passed bigint[] := '{}';
  batch record;
  -- Qualified: types are looked up in pg_temp first, and a procedure that commits has no SET clause.
  code pg_catalog.text;
  message pg_catalog.text;
BEGIN
  LOOP
    COMMIT;
    EXIT WHEN batches OPERATOR(pg_catalog.>=) max_batches;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SELECT b.done, b.passed_by, b.code, b.message INTO batch FROM bulkhead.drain_batch(relation, batch_size, passed) AS b;
    IF batch.done IS NULL THEN
      tries := tries OPERATOR(pg_catalog.+) 1;
      IF tries OPERATOR(pg_catalog.>) 100 THEN
        RAISE EXCEPTION 'other transactions keep standing in the way of the drain'
          USING ERRCODE = '40001', HINT = 'Run it again. What was drained so far stays.';
      END IF;
      COMMIT;
      PERFORM pg_catalog.pg_sleep(0.02);
    ELSIF batch.done OPERATOR(pg_catalog.>) 0 OR pg_catalog.cardinality(batch.passed_by) OPERATOR(pg_catalog.>) 0 THEN
      batches := batches OPERATOR(pg_catalog.+) 1;
      tries := CASE WHEN batch.done OPERATOR(pg_catalog.>) 0 THEN 0 ELSE tries END;
      passed := passed OPERATOR(pg_catalog.||) batch.passed_by;
      IF code IS NULL THEN
        code := batch.code;
        message := batch.message;
      END IF;
      -- A whole batch of which nothing goes through: what is wrong is wrong with the table.
      EXIT WHEN batch.code IS NOT NULL AND batch.done OPERATOR(pg_catalog.=) 0 AND pg_catalog.cardinality(passed) OPERATOR(pg_catalog.>=) 100;
    ELSE
      -- Nothing is left but what was passed by. Another transaction may have ended meanwhile.
      EXIT WHEN code IS NOT NULL OR pg_catalog.cardinality(passed) OPERATOR(pg_catalog.=) 0 OR tries OPERATOR(pg_catalog.>=) 10;
      tries := tries OPERATOR(pg_catalog.+) 1;
      passed := '{}';
      COMMIT;
      PERFORM pg_catalog.pg_sleep(0.02);
    END IF;
  END LOOP;
  IF code IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message,
      DETAIL = 'Queued orders meet this error, and wait. What was decided besides stays.',
      HINT = 'Mend the cause and drain again.';
  END IF;
END
$drain$;
COMMENT ON PROCEDURE bulkhead.drain_inventory(regclass, integer, integer) IS
  'Decides what is queued for the table, in the order of arrival, one transaction a batch, until nothing waits or max_batches are done. For all tenants.';
REVOKE EXECUTE ON PROCEDURE bulkhead.drain_inventory(regclass, integer, integer) FROM PUBLIC;

CREATE FUNCTION bulkhead.poisoned_orders(relation regclass)
  RETURNS TABLE (number bigint, order_id text, items text[], quantities bigint[], queued_at timestamptz, set_aside_at timestamptz,
                 sqlstate text, reason text)
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'poisoned_orders_wrapper';
COMMENT ON FUNCTION bulkhead.poisoned_orders(regclass) IS
  'Queued orders of the current tenant that the table''s constraints or triggers refused, and why.';

-- For all tenants, which is why EXECUTE is revoked from PUBLIC.
CREATE FUNCTION bulkhead.all_poisoned_orders(relation regclass DEFAULT NULL)
  RETURNS TABLE (relation regclass, tenant text, number bigint, order_id text, items text[], quantities bigint[], queued_at timestamptz,
                 set_aside_at timestamptz, sqlstate text, reason text)
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'all_poisoned_orders_wrapper';
COMMENT ON FUNCTION bulkhead.all_poisoned_orders(regclass) IS
  'What was set aside of all tenants, and why, of one table or of all: also orders of no tenant any more, and of tables that were dropped.';
REVOKE EXECUTE ON FUNCTION bulkhead.all_poisoned_orders(regclass) FROM PUBLIC;

CREATE FUNCTION bulkhead.requeue_poisoned(relation regclass, numbers bigint[] DEFAULT NULL) RETURNS bigint
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'requeue_poisoned_wrapper'
  SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.requeue_poisoned(regclass, bigint[]) IS
  'Queues again what drains set aside of the table, for all tenants, or the requests of these numbers: how many.';
REVOKE EXECUTE ON FUNCTION bulkhead.requeue_poisoned(regclass, bigint[]) FROM PUBLIC;

CREATE FUNCTION bulkhead.forget_poisoned(relation regclass, numbers bigint[] DEFAULT NULL) RETURNS bigint
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'forget_poisoned_wrapper'
  SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.forget_poisoned(regclass, bigint[]) IS
  'Deletes what drains set aside of the table, for all tenants, or the requests of these numbers: how many.';
REVOKE EXECUTE ON FUNCTION bulkhead.forget_poisoned(regclass, bigint[]) FROM PUBLIC;
