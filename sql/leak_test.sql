-- leak_test: tries to cross the border between tenants, and rolls it back.

CREATE FUNCTION bulkhead.leak_test(relation regclass DEFAULT NULL)
  RETURNS TABLE (relation regclass, role name, attempt text, result text, detail text)
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'leak_test_wrapper'
  SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.leak_test(regclass) IS
  'Tries to reach another tenant''s rows as every role that can log in or be become, and rolls each attempt back: held, leaked or skipped. Superuser only.';
REVOKE EXECUTE ON FUNCTION bulkhead.leak_test(regclass) FROM PUBLIC;
