-- rls: which tables are protected, and the functions that protect them.

-- The registry. It keys on (relation, tenant_attnum), so renames follow. The first five columns are read by position
-- (src/pg/scan.rs). A dump carries names: `relation` prints as one, and `tenant_column` names the column for a row whose
-- `home` is not this database, because a restored table numbers its columns anew.
CREATE TABLE bulkhead.protection (
  relation      regclass    PRIMARY KEY,
  tenant_attnum smallint    NOT NULL,
  tenant_column name        NOT NULL,
  shared        boolean     NOT NULL,
  home          text        NOT NULL,
  inherited     boolean     NOT NULL,
  earlier       jsonb       NOT NULL,
  protected_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
  protected_by  name        NOT NULL
);
COMMENT ON TABLE bulkhead.protection IS 'Registered tables. Written by protect(), share() and unprotect() only.';
COMMENT ON COLUMN bulkhead.protection.relation IS 'the table';
COMMENT ON COLUMN bulkhead.protection.tenant_attnum IS 'the tenant column''s number; 0 for a shared table';
COMMENT ON COLUMN bulkhead.protection.tenant_column IS 'the tenant column''s name; empty for a shared table';
COMMENT ON COLUMN bulkhead.protection.shared IS 'all tenants read it and none writes it';
COMMENT ON COLUMN bulkhead.protection.home IS 'the database in which tenant_attnum counts';
COMMENT ON COLUMN bulkhead.protection.inherited IS 'protected because a parent is: a partition or an inheritance child';
COMMENT ON COLUMN bulkhead.protection.earlier IS 'what unprotect() restores';
COMMENT ON COLUMN bulkhead.protection.protected_at IS 'when it was registered';
COMMENT ON COLUMN bulkhead.protection.protected_by IS 'by which role';
REVOKE ALL ON bulkhead.protection FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('bulkhead.protection', '');

-- Whoever writes it, pg_restore included, every session hears of it.
CREATE FUNCTION bulkhead.announce_protection() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'announce_protection_wrapper';
COMMENT ON FUNCTION bulkhead.announce_protection() IS
  'Trigger on bulkhead.protection: makes every session read it anew.';
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON bulkhead.protection
  FOR EACH STATEMENT EXECUTE FUNCTION bulkhead.announce_protection();
ALTER TABLE bulkhead.protection ENABLE ALWAYS TRIGGER announce;

-- These run DDL as the caller, so they pin the search_path: no operator or function of the caller's may stand in. JIT
-- would cost more than the catalog queries that it compiles.
CREATE FUNCTION bulkhead.protect(relation regclass, tenant_column name DEFAULT 'tenant_id') RETURNS SETOF text
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'protect_wrapper' SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.protect(regclass, name) IS
  'Isolates the table''s tenants by row level security, children included; returns the statements it ran. Table owner only.';

CREATE FUNCTION bulkhead.protect_plan(relation regclass, tenant_column name DEFAULT 'tenant_id') RETURNS SETOF text
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'protect_plan_wrapper' SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.protect_plan(regclass, name) IS
  'The statements that protect a live table without a long lock, in order: run them one by one, outside a transaction block.';

CREATE FUNCTION bulkhead.unprotect(relation regclass) RETURNS SETOF text
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'unprotect_wrapper' SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.unprotect(regclass) IS
  'Puts the table, children included, back into the state that protect() or share() found; returns the statements it ran. Table owner only.';

CREATE FUNCTION bulkhead.unprotect_all() RETURNS SETOF text
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'unprotect_all_wrapper' SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.unprotect_all() IS
  'unprotect() for every registered table, as before DROP EXTENSION; the caller must own them all.';

CREATE FUNCTION bulkhead.share(relation regclass) RETURNS SETOF text
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'share_wrapper' SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.share(regclass) IS
  'Declares a table that every tenant reads and none writes (its owner does); returns the statements it ran. Table owner only.';

-- Partitions and children that come later, renames, and drops. No filter by tag: CREATE SCHEMA makes tables, ALTER VIEW renames their
-- columns. ENABLE ALWAYS: replication roles make partitions too.
CREATE FUNCTION bulkhead.follow_ddl() RETURNS event_trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'follow_ddl_wrapper' SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.follow_ddl() IS
  'Event trigger: protects partitions and children of protected tables as they appear, and follows renames.';
CREATE EVENT TRIGGER bulkhead_follow_ddl ON ddl_command_end
  EXECUTE FUNCTION bulkhead.follow_ddl();
ALTER EVENT TRIGGER bulkhead_follow_ddl ENABLE ALWAYS;

CREATE FUNCTION bulkhead.follow_drop() RETURNS event_trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'follow_drop_wrapper' SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.follow_drop() IS
  'Event trigger: forgets dropped tables, so that a new table of the same name does not count as protected.';
CREATE EVENT TRIGGER bulkhead_follow_drop ON sql_drop
  EXECUTE FUNCTION bulkhead.follow_drop();
ALTER EVENT TRIGGER bulkhead_follow_drop ENABLE ALWAYS;

-- They run as triggers, which asks for no right; nobody has to call them.
REVOKE EXECUTE ON FUNCTION bulkhead.announce_protection(), bulkhead.follow_ddl(), bulkhead.follow_drop() FROM PUBLIC;
