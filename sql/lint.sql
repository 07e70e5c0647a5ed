-- lint: what would let a tenant see or change another's rows. The rules are queries in src/lint/rules.

-- The key's parts are compared byte by byte: names are identity here.
CREATE TABLE bulkhead.lint_exceptions (
  rule       text        NOT NULL COLLATE "C",
  object     text        NOT NULL COLLATE "C",
  reason     text        NOT NULL CHECK (pg_catalog.btrim(reason) OPERATOR(pg_catalog.<>) ''),
  allowed_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
  allowed_by name        NOT NULL,
  PRIMARY KEY (rule, object)
);
COMMENT ON TABLE bulkhead.lint_exceptions IS 'Findings of lint() that are meant, and why. Written by lint_allow() only.';
COMMENT ON COLUMN bulkhead.lint_exceptions.rule IS 'the rule''s name';
COMMENT ON COLUMN bulkhead.lint_exceptions.object IS 'the object, as lint() shows it';
COMMENT ON COLUMN bulkhead.lint_exceptions.reason IS 'why the finding is meant';
COMMENT ON COLUMN bulkhead.lint_exceptions.allowed_at IS 'when that was last said';
COMMENT ON COLUMN bulkhead.lint_exceptions.allowed_by IS 'by which role';
REVOKE ALL ON bulkhead.lint_exceptions FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('bulkhead.lint_exceptions', '');

-- The rules name catalogs without a schema, so the search_path is pinned: no operator or table of the caller's may stand in. JIT
-- would cost more than the queries that it compiles.
CREATE FUNCTION bulkhead.lint() RETURNS TABLE (level text, rule text, object text, detail text, remedy text)
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'lint_wrapper' SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.lint() IS
  'What would let a tenant see or change another''s rows, errors first; remedy is SQL to run, or NULL. Any role may call it.';

CREATE FUNCTION bulkhead.lint_allow(rule text, object text, reason text) RETURNS void
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'lint_allow_wrapper' SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION bulkhead.lint_allow(text, text, text) IS
  'Records that a finding of lint() is meant, and why: it is then shown as info. A NULL reason takes that back.';
REVOKE EXECUTE ON FUNCTION bulkhead.lint_allow(text, text, text) FROM PUBLIC;
