-- scoring: rule sets, and what is scored by them.

-- Read by position (src/pg/scoring/lookup.rs), and written by put_rule_set() and its siblings only. Collation "C": looked up by bytes.
CREATE TABLE bulkhead.rule_set (
  tenant  text        COLLATE "C" NOT NULL,
  name    text        COLLATE "C" NOT NULL,
  version integer     NOT NULL CHECK (version OPERATOR(pg_catalog.>) 0),
  active  boolean     NOT NULL,
  digest  bytea       NOT NULL,
  rules   jsonb       NOT NULL,
  put_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
  put_by  name        NOT NULL,
  PRIMARY KEY (tenant, name, version)
);
CREATE UNIQUE INDEX rule_set_active ON bulkhead.rule_set (tenant, name) WHERE active;
COMMENT ON TABLE bulkhead.rule_set IS 'The tenants'' rule sets, every version. Written by put_rule_set() and activate_rule_set() only.';
COMMENT ON COLUMN bulkhead.rule_set.tenant IS 'whose it is';
COMMENT ON COLUMN bulkhead.rule_set.name IS 'what it is called';
COMMENT ON COLUMN bulkhead.rule_set.version IS 'counts up from 1';
COMMENT ON COLUMN bulkhead.rule_set.active IS 'the version that counts: one of a name, or none';
COMMENT ON COLUMN bulkhead.rule_set.digest IS 'of the rules: compiled programs are kept by it';
COMMENT ON COLUMN bulkhead.rule_set.rules IS 'as they were put';
COMMENT ON COLUMN bulkhead.rule_set.put_at IS 'when';
COMMENT ON COLUMN bulkhead.rule_set.put_by IS 'by which role';
REVOKE ALL ON bulkhead.rule_set FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('bulkhead.rule_set', '');

CREATE TABLE bulkhead.shared_rule_set (
  name    text        COLLATE "C" NOT NULL,
  version integer     NOT NULL CHECK (version OPERATOR(pg_catalog.>) 0),
  active  boolean     NOT NULL,
  digest  bytea       NOT NULL,
  rules   jsonb       NOT NULL,
  put_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
  put_by  name        NOT NULL,
  PRIMARY KEY (name, version)
);
CREATE UNIQUE INDEX shared_rule_set_active ON bulkhead.shared_rule_set (name) WHERE active;
COMMENT ON TABLE bulkhead.shared_rule_set IS 'Rule sets for all tenants, every version. Written by put_shared_rule_set() and activate_shared_rule_set() only.';
COMMENT ON COLUMN bulkhead.shared_rule_set.name IS 'what it is called';
COMMENT ON COLUMN bulkhead.shared_rule_set.version IS 'counts up from 1';
COMMENT ON COLUMN bulkhead.shared_rule_set.active IS 'the version that counts: one of a name, or none';
COMMENT ON COLUMN bulkhead.shared_rule_set.digest IS 'of the rules: compiled programs are kept by it';
COMMENT ON COLUMN bulkhead.shared_rule_set.rules IS 'as they were put';
COMMENT ON COLUMN bulkhead.shared_rule_set.put_at IS 'when';
COMMENT ON COLUMN bulkhead.shared_rule_set.put_by IS 'by which role';
REVOKE ALL ON bulkhead.shared_rule_set FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('bulkhead.shared_rule_set', '');

CREATE FUNCTION bulkhead.jsonlogic(rule jsonb, data jsonb) RETURNS jsonb
  STABLE PARALLEL SAFE STRICT COST 10 LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_jsonlogic';
COMMENT ON FUNCTION bulkhead.jsonlogic(jsonb, jsonb) IS
  'The value of a JsonLogic rule for a document.';

CREATE FUNCTION bulkhead.score(rule_set text, document jsonb) RETURNS numeric
  STABLE PARALLEL SAFE STRICT COST 25 LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_score';
COMMENT ON FUNCTION bulkhead.score(text, jsonb) IS
  'A document''s score by the active version of a rule set: the tenant''s own, or the shared one of that name.';

CREATE FUNCTION bulkhead.score_explain(rule_set text, document jsonb) RETURNS jsonb
  STABLE PARALLEL SAFE STRICT COST 50 LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_score_explain';
COMMENT ON FUNCTION bulkhead.score_explain(text, jsonb) IS
  'The score, the version of the rule set, the rules that fired with what they saw, and those that failed.';

CREATE FUNCTION bulkhead.score_explain(rules jsonb, document jsonb) RETURNS jsonb
  STABLE PARALLEL SAFE STRICT COST 100 LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_score_draft';
COMMENT ON FUNCTION bulkhead.score_explain(jsonb, jsonb) IS
  'The same for rules that are not put yet: a draft.';

-- What these write is the extension's own; names are pinned all the same.
CREATE FUNCTION bulkhead.put_rule_set(name text, rules jsonb, activate boolean DEFAULT true) RETURNS integer
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_put_rule_set'
  SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.put_rule_set(text, jsonb, boolean) IS
  'Checks rules and stores them as the next version of the current tenant''s rule set: the version.';
REVOKE EXECUTE ON FUNCTION bulkhead.put_rule_set(text, jsonb, boolean) FROM PUBLIC;

CREATE FUNCTION bulkhead.put_shared_rule_set(name text, rules jsonb, activate boolean DEFAULT true) RETURNS integer
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_put_shared_rule_set'
  SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.put_shared_rule_set(text, jsonb, boolean) IS
  'The same for all tenants: each that has no rule set of that name scores by this one.';
REVOKE EXECUTE ON FUNCTION bulkhead.put_shared_rule_set(text, jsonb, boolean) FROM PUBLIC;

CREATE FUNCTION bulkhead.activate_rule_set(name text, version integer) RETURNS void
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_activate_rule_set'
  SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.activate_rule_set(text, integer) IS
  'From now on that version of the current tenant''s rule set counts. NULL: none, and the shared one of the name shows again.';
REVOKE EXECUTE ON FUNCTION bulkhead.activate_rule_set(text, integer) FROM PUBLIC;

CREATE FUNCTION bulkhead.activate_shared_rule_set(name text, version integer) RETURNS void
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_activate_shared_rule_set'
  SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.activate_shared_rule_set(text, integer) IS
  'The same for all tenants.';
REVOKE EXECUTE ON FUNCTION bulkhead.activate_shared_rule_set(text, integer) FROM PUBLIC;

-- As text: what jsonb holds does not pass through Rust's numbers unharmed.
CREATE FUNCTION bulkhead.tenant_rule_sets()
  RETURNS TABLE (name text, tenant text, version integer, active boolean, rules text, put_at timestamptz, put_by text)
  STABLE PARALLEL RESTRICTED LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_rule_sets_wrapper'
  SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.tenant_rule_sets() IS
  'The current tenant''s own rule sets, for the view bulkhead.rule_sets.';

CREATE VIEW bulkhead.rule_sets AS
  SELECT t.name, t.tenant, t.version, t.active, t.rules::jsonb AS rules, t.put_at, t.put_by::name AS put_by
    FROM bulkhead.tenant_rule_sets() t
  UNION ALL
  SELECT s.name, NULL, s.version, s.active, s.rules, s.put_at, s.put_by
    FROM bulkhead.shared_rule_set s;
COMMENT ON VIEW bulkhead.rule_sets IS
  'The rule sets that the current tenant scores by, every version: its own, and the shared ones, whose tenant is NULL.';
GRANT SELECT ON bulkhead.rule_sets TO PUBLIC;
