-- observe: tables on the way to being protected, and the statements that protect() would refuse.

-- Read by position (src/pg/scan.rs). A dump carries it, and a restored row goes by the column's name.
CREATE TABLE bulkhead.observation (
  relation      regclass    PRIMARY KEY,
  tenant_attnum smallint    NOT NULL,
  tenant_column name        NOT NULL,
  observed_at   timestamptz NOT NULL DEFAULT pg_catalog.now(),
  observed_by   name        NOT NULL
);
COMMENT ON TABLE bulkhead.observation IS 'Observed tables. Written by observe() and protect() only.';
COMMENT ON COLUMN bulkhead.observation.relation IS 'the table';
COMMENT ON COLUMN bulkhead.observation.tenant_attnum IS 'the tenant column''s number when observe() was called';
COMMENT ON COLUMN bulkhead.observation.tenant_column IS 'the tenant column''s name';
COMMENT ON COLUMN bulkhead.observation.observed_at IS 'since when';
COMMENT ON COLUMN bulkhead.observation.observed_by IS 'by which role';
REVOKE ALL ON bulkhead.observation FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('bulkhead.observation', '');
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON bulkhead.observation
  FOR EACH STATEMENT EXECUTE FUNCTION bulkhead.announce_protection();
ALTER TABLE bulkhead.observation ENABLE ALWAYS TRIGGER announce;

CREATE FUNCTION bulkhead.observe(relation regclass, tenant_column name DEFAULT 'tenant_id') RETURNS void
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'observe_wrapper' SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.observe(regclass, name) IS
  'Changes nothing about the table, and counts the statements that protect() would refuse. Table owner only.';

CREATE FUNCTION bulkhead.read_naked_statements()
  RETURNS TABLE (relation oid, role oid, application_name text, queryid bigint, query text, count bigint, last_seen timestamptz)
  VOLATILE PARALLEL RESTRICTED LANGUAGE c AS 'MODULE_PATHNAME', 'naked_statements_wrapper';
COMMENT ON FUNCTION bulkhead.read_naked_statements() IS
  'What bulkhead.naked_statements shows.';

CREATE VIEW bulkhead.naked_statements AS
  SELECT n.relation::regclass AS relation, pg_catalog.pg_get_userbyid(n.role) AS role, n.application_name, n.queryid, n.query, n.count, n.last_seen
    FROM bulkhead.read_naked_statements() n;
COMMENT ON VIEW bulkhead.naked_statements IS
  'Statements that reached an observed table without a tenant, since the server started: of the caller''s tables, or of all for pg_read_all_stats.';
GRANT SELECT ON bulkhead.naked_statements TO PUBLIC;
