-- operations: what is watched of all rooms.

CREATE FUNCTION bulkhead.read_metrics() RETURNS TABLE (name text, labels jsonb, value double precision, help text)
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'read_metrics_wrapper'
  SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO, YMD' SET jit = off;
COMMENT ON FUNCTION bulkhead.read_metrics() IS
  'What bulkhead.metrics shows. For pg_monitor.';
REVOKE EXECUTE ON FUNCTION bulkhead.read_metrics() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION bulkhead.read_metrics() TO pg_monitor;

-- Not for PUBLIC: it counts all tenants' rows, and names tables that the caller may not know.
CREATE VIEW bulkhead.metrics AS
  SELECT m.name, m.labels, m.value, m.help FROM bulkhead.read_metrics() m;
COMMENT ON VIEW bulkhead.metrics IS
  'Numbers for Prometheus, cheap enough for every 15 seconds: of this database, or of the server where help says so. For pg_monitor.';
REVOKE ALL ON bulkhead.metrics FROM PUBLIC;
GRANT SELECT ON bulkhead.metrics TO pg_monitor;
