-- partition: the manager of every partitioned table.

-- on_expire is a text because pg_upgrade refuses a database with a column of type regprocedure: functions have other oids afterwards.
CREATE TABLE bulkhead.managed_partition (
  parent        regclass    PRIMARY KEY,
  every         interval    NOT NULL,
  retain        interval,
  premake       integer     NOT NULL DEFAULT 3,
  on_expire     text,
  on_expire_owner regrole,
  leaf_key      text[],
  leaf_options  text[],
  managed_at    timestamptz NOT NULL DEFAULT pg_catalog.now(),
  managed_by    name        NOT NULL,
  last_run      timestamptz,
  suspect_since timestamptz
);
COMMENT ON TABLE bulkhead.managed_partition IS 'Managed tables. Written by manage_partitions(), unmanage_partitions() and maintain() only.';
COMMENT ON COLUMN bulkhead.managed_partition.parent IS 'the partitioned table';
COMMENT ON COLUMN bulkhead.managed_partition.every IS 'the length of a partition';
COMMENT ON COLUMN bulkhead.managed_partition.retain IS 'how long rows are kept; NULL for a table of the extension''s own, whose setting says it';
COMMENT ON COLUMN bulkhead.managed_partition.premake IS 'how many partitions there are ahead of the present one';
COMMENT ON COLUMN bulkhead.managed_partition.on_expire IS 'called with a partition before that is dropped';
COMMENT ON COLUMN bulkhead.managed_partition.on_expire_owner IS 'whose function that is: another role''s of the same name is not called';
COMMENT ON COLUMN bulkhead.managed_partition.leaf_key IS 'columns of the primary key that each new partition gets and the parent does not have';
COMMENT ON COLUMN bulkhead.managed_partition.leaf_options IS 'storage parameters that each new partition gets';
COMMENT ON COLUMN bulkhead.managed_partition.managed_at IS 'since when';
COMMENT ON COLUMN bulkhead.managed_partition.managed_by IS 'by which role';
COMMENT ON COLUMN bulkhead.managed_partition.last_run IS 'when maintain() last went through the table';
COMMENT ON COLUMN bulkhead.managed_partition.suspect_since IS 'since when the clock is in doubt, because it jumped ahead of the last run';
REVOKE ALL ON bulkhead.managed_partition FROM PUBLIC;
-- The extension's own tables come with CREATE EXTENSION.
SELECT pg_catalog.pg_extension_config_dump('bulkhead.managed_partition', 'WHERE retain IS NOT NULL');

-- Read by position (src/pg/hold.rs).
CREATE TABLE bulkhead.partition_hold (
  partition regclass    PRIMARY KEY,
  reason    text        NOT NULL CHECK (pg_catalog.btrim(reason) OPERATOR(pg_catalog.<>) ''),
  held_at   timestamptz NOT NULL DEFAULT pg_catalog.now(),
  held_by   name        NOT NULL
);
COMMENT ON TABLE bulkhead.partition_hold IS 'Partitions that must not be dropped, and why. Written by hold_partition() and release_hold() only.';
COMMENT ON COLUMN bulkhead.partition_hold.partition IS 'the partition';
COMMENT ON COLUMN bulkhead.partition_hold.reason IS 'why it is held';
COMMENT ON COLUMN bulkhead.partition_hold.held_at IS 'since when';
COMMENT ON COLUMN bulkhead.partition_hold.held_by IS 'by which role';
REVOKE ALL ON bulkhead.partition_hold FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('bulkhead.partition_hold', '');

CREATE TABLE bulkhead.partition_archived (
  partition   regclass    PRIMARY KEY,
  archived_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE bulkhead.partition_archived IS 'Expired partitions that on_expire has seen, so that it sees each once. Written by maintain() only.';
COMMENT ON COLUMN bulkhead.partition_archived.partition IS 'the partition';
COMMENT ON COLUMN bulkhead.partition_archived.archived_at IS 'when on_expire returned';
REVOKE ALL ON bulkhead.partition_archived FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('bulkhead.partition_archived', '');

CREATE TABLE bulkhead.maintenance_log (
  id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at        timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  parent    regclass    NOT NULL,
  partition text,
  action    text        NOT NULL,
  ok        boolean     NOT NULL,
  detail    text,
  lock_wait interval    NOT NULL,
  duration  interval    NOT NULL
);
COMMENT ON TABLE bulkhead.maintenance_log IS 'What maintain() did and what it could not do. The last 10,000 rows are kept.';
COMMENT ON COLUMN bulkhead.maintenance_log.id IS 'the row''s number';
COMMENT ON COLUMN bulkhead.maintenance_log.at IS 'when it was done';
COMMENT ON COLUMN bulkhead.maintenance_log.parent IS 'the partitioned table';
COMMENT ON COLUMN bulkhead.maintenance_log.partition IS 'the partition''s name; NULL when the action is about the table';
COMMENT ON COLUMN bulkhead.maintenance_log.action IS 'create, adopt, archive, empty, drop, finalize, orphan, clock or check';
COMMENT ON COLUMN bulkhead.maintenance_log.ok IS 'it was done; when not, the next run tries again';
COMMENT ON COLUMN bulkhead.maintenance_log.detail IS 'what is new, or why it was not done';
COMMENT ON COLUMN bulkhead.maintenance_log.lock_wait IS 'from the first attempt at the locks to the last';
COMMENT ON COLUMN bulkhead.maintenance_log.duration IS 'from having the locks to the end';
REVOKE ALL ON bulkhead.maintenance_log FROM PUBLIC;

-- What these read of the catalogs is text that depends on the session: bounds are read and written in UTC and ISO, whatever the
-- caller's settings. The search_path is pinned, because statements on users' tables run here.
CREATE FUNCTION bulkhead.manage_partitions(parent regclass, every interval, retain interval, premake integer DEFAULT 3,
                                           on_expire regprocedure DEFAULT NULL) RETURNS void
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'manage_partitions_wrapper'
  SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO, YMD' SET jit = off;
COMMENT ON FUNCTION bulkhead.manage_partitions(regclass, interval, interval, integer, regprocedure) IS
  'From now on maintain() makes the table''s partitions ahead and drops those that are past retention. Table owner only.';

CREATE FUNCTION bulkhead.unmanage_partitions(parent regclass) RETURNS void
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'unmanage_partitions_wrapper' SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.unmanage_partitions(regclass) IS
  'Ends the management of a table; its partitions stay as they are. Table owner only.';

CREATE FUNCTION bulkhead.hold_partition(partition regclass, reason text) RETURNS void
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'hold_partition_wrapper' SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.hold_partition(regclass, text) IS
  'The partition is neither emptied nor dropped by maintain(), and cannot be dropped by anybody, until release_hold(). Table owner only.';

CREATE FUNCTION bulkhead.release_hold(partition regclass) RETURNS void
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'release_hold_wrapper' SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.release_hold(regclass) IS
  'Ends a hold; when the partition is past retention the next maintain() drops it. Table owner only.';

CREATE FUNCTION bulkhead.partition_plan(relation regclass, control_column name, every interval) RETURNS SETOF text
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'partition_plan_wrapper'
  SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO, YMD' SET jit = off;
COMMENT ON FUNCTION bulkhead.partition_plan(regclass, name, interval) IS
  'The statements that turn an ordinary table into a partitioned one without a long lock, in order. Changes nothing. Table owner only.';

CREATE VIEW bulkhead.managed_partitions AS
  SELECT m.parent,
         a.attname AS control_column,
         m.every, m.retain, m.premake, m.on_expire,
         (SELECT pg_catalog.count(*) FROM pg_catalog.pg_inherits i WHERE i.inhparent OPERATOR(pg_catalog.=) m.parent) AS partitions,
         (SELECT pg_catalog.count(*) FROM pg_catalog.pg_inherits i JOIN bulkhead.partition_hold h ON h.partition OPERATOR(pg_catalog.=) i.inhrelid
           WHERE i.inhparent OPERATOR(pg_catalog.=) m.parent) AS held,
         m.last_run, m.managed_at, m.managed_by
    FROM bulkhead.managed_partition m
    JOIN pg_catalog.pg_partitioned_table t ON t.partrelid OPERATOR(pg_catalog.=) m.parent
    LEFT JOIN pg_catalog.pg_attribute a
      ON a.attrelid OPERATOR(pg_catalog.=) m.parent AND a.attnum OPERATOR(pg_catalog.=) t.partattrs[0];
COMMENT ON VIEW bulkhead.managed_partitions IS
  'Every managed table: what it is partitioned by, how it is managed, how many partitions it has and how many of them are held.';
GRANT SELECT ON bulkhead.managed_partitions TO PUBLIC;

-- The work of maintain(), one step a call. It asks for EXECUTE on maintain(), so it needs no grant of its own.
CREATE FUNCTION bulkhead.maintenance_step() RETURNS double precision
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'maintenance_step_wrapper'
  SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO, YMD' SET jit = off;
COMMENT ON FUNCTION bulkhead.maintenance_step() IS
  'One step of maintain(), which calls it in a transaction of its own: seconds to wait before the next, or NULL when there is none.';

-- No SET clause and not SECURITY DEFINER: such a procedure cannot commit. The first COMMIT refuses a transaction block before
-- anything is done. Steps need to see what others committed, whatever default_transaction_isolation says.
CREATE PROCEDURE bulkhead.maintain() LANGUAGE plpgsql AS $maintain$
DECLARE
  pause double precision;
BEGIN
  LOOP
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    pause := bulkhead.maintenance_step();
    EXIT WHEN pause IS NULL;
    IF pause OPERATOR(pg_catalog.>) 0 THEN
      COMMIT;
      PERFORM pg_catalog.pg_sleep(pause);
    END IF;
  END LOOP;
END
$maintain$;
COMMENT ON PROCEDURE bulkhead.maintain() IS
  'Makes the partitions ahead and drops the expired, one transaction each; never queues behind or in front of live traffic. For every managed table.';
REVOKE EXECUTE ON PROCEDURE bulkhead.maintain() FROM PUBLIC;

CREATE FUNCTION bulkhead.ensure_partitions(parent regclass) RETURNS void
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'ensure_partitions_wrapper' SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.ensure_partitions(regclass) IS
  'Makes the partitions of a managed table at once when it has none for now, without waiting for maintain(). Table owner only.';

CREATE FUNCTION bulkhead.schedule_maintenance(cron text DEFAULT '*/10 * * * *') RETURNS bigint
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'schedule_maintenance_wrapper' SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.schedule_maintenance(text) IS
  'Has pg_cron call maintain() in this database; the number of the job. A second call changes the schedule.';
REVOKE EXECUTE ON FUNCTION bulkhead.schedule_maintenance(text) FROM PUBLIC;

CREATE FUNCTION bulkhead.health() RETURNS TABLE (check_name text, ok boolean, value text, detail text)
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'health_wrapper'
  SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO, YMD' SET "IntervalStyle" = 'postgres' SET jit = off;
COMMENT ON FUNCTION bulkhead.health() IS
  'What a DBA watches: one row a check, ok or not, and what to do. For pg_monitor.';
REVOKE EXECUTE ON FUNCTION bulkhead.health() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION bulkhead.health() TO pg_monitor;
