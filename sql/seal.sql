-- seal: protected tables stay filtered for every role, and the recorded way past it.

-- Appended to by the library (src/pg/scan.rs), columns by position, when a bypass begins or first lifts something. The server
-- log has every one; this table has those whose transaction committed and could write.
CREATE TABLE bulkhead.bypass_log (
  at           timestamptz NOT NULL,
  role         text NOT NULL,
  session_role text NOT NULL,
  client       text NOT NULL,
  application  text NOT NULL,
  reason       text NOT NULL,
  statement    text NOT NULL
);
COMMENT ON TABLE bulkhead.bypass_log IS 'Who lifted the seal, when and why. The server log is complete; this table lacks bypasses of transactions that were read-only or rolled back.';
COMMENT ON COLUMN bulkhead.bypass_log.at IS 'when it was recorded';
COMMENT ON COLUMN bulkhead.bypass_log.role IS 'the role that bypassed';
COMMENT ON COLUMN bulkhead.bypass_log.session_role IS 'the role of the session';
COMMENT ON COLUMN bulkhead.bypass_log.client IS 'the client''s address, or local';
COMMENT ON COLUMN bulkhead.bypass_log.application IS 'application_name';
COMMENT ON COLUMN bulkhead.bypass_log.reason IS 'the reason that was given';
COMMENT ON COLUMN bulkhead.bypass_log.statement IS 'the statement that was running, cut to 1,000 bytes';
REVOKE ALL ON bulkhead.bypass_log FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('bulkhead.bypass_log', '');

CREATE FUNCTION bulkhead.begin_bypass(reason text) RETURNS void
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'begin_bypass_wrapper';
COMMENT ON FUNCTION bulkhead.begin_bypass(text) IS
  'Lifts the seal (never row level security) for the calling role until the transaction ends, and records it. Not for PUBLIC.';
REVOKE EXECUTE ON FUNCTION bulkhead.begin_bypass(text) FROM PUBLIC;

CREATE FUNCTION bulkhead.seal_active() RETURNS boolean
  STABLE PARALLEL RESTRICTED LANGUAGE c AS 'MODULE_PATHNAME', 'seal_active_wrapper';
COMMENT ON FUNCTION bulkhead.seal_active() IS
  'Whether protected tables are filtered for every role: the library is in shared_preload_libraries and bulkhead.seal is on.';

-- The condition that the seal adds to COPY FROM. One function a key type, because a tenant column keeps its own type there.
CREATE FUNCTION bulkhead.copied_row_uuid(tenant uuid) RETURNS boolean
  STABLE PARALLEL RESTRICTED LANGUAGE c AS 'MODULE_PATHNAME', 'copied_row_uuid_wrapper';
COMMENT ON FUNCTION bulkhead.copied_row_uuid(uuid) IS 'True for the current tenant; raises 42501 for any other. The seal adds it to COPY FROM.';
CREATE FUNCTION bulkhead.copied_row_text(tenant text) RETURNS boolean
  STABLE PARALLEL RESTRICTED LANGUAGE c AS 'MODULE_PATHNAME', 'copied_row_text_wrapper';
COMMENT ON FUNCTION bulkhead.copied_row_text(text) IS 'True for the current tenant; raises 42501 for any other. The seal adds it to COPY FROM.';
CREATE FUNCTION bulkhead.copied_row_bigint(tenant bigint) RETURNS boolean
  STABLE PARALLEL RESTRICTED LANGUAGE c AS 'MODULE_PATHNAME', 'copied_row_bigint_wrapper';
COMMENT ON FUNCTION bulkhead.copied_row_bigint(bigint) IS 'True for the current tenant; raises 42501 for any other. The seal adds it to COPY FROM.';

CREATE VIEW bulkhead.protected_tables AS
  SELECT p.relation,
         CASE WHEN p.shared THEN NULL ELSE COALESCE(a.attname, p.tenant_column) END AS tenant_column,
         pg_catalog.format_type(a.atttypid, a.atttypmod) AS tenant_type,
         NOT p.shared AND bulkhead.seal_active() AS sealed,
         p.shared
    FROM bulkhead.protection p
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) p.relation
    LEFT JOIN pg_catalog.pg_attribute a
      ON a.attrelid OPERATOR(pg_catalog.=) p.relation AND a.attname OPERATOR(pg_catalog.=) p.tenant_column;
COMMENT ON VIEW bulkhead.protected_tables IS
  'Every registered table, its tenant column and type; sealed: filtered for superuser and BYPASSRLS roles too.';
GRANT SELECT ON bulkhead.protected_tables TO PUBLIC;
