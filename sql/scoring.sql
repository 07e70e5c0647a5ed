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

-- Read by position as well: the columns of rule_set but the tenant, in the same order.
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

CREATE TABLE bulkhead.scoring (
  relation        regclass    PRIMARY KEY,
  rule_set        text        NOT NULL,
  document_column name,
  score_column    name        NOT NULL,
  status_column   name        NOT NULL,
  version_column  name,
  attached_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
  attached_by     name        NOT NULL
);
COMMENT ON TABLE bulkhead.scoring IS 'Tables that score_pending() scores. Written by attach_scoring() and detach_scoring() only.';
COMMENT ON COLUMN bulkhead.scoring.relation IS 'the table';
COMMENT ON COLUMN bulkhead.scoring.rule_set IS 'what its rows are scored by';
COMMENT ON COLUMN bulkhead.scoring.document_column IS 'the document; NULL: the whole row';
COMMENT ON COLUMN bulkhead.scoring.score_column IS 'where the score goes';
COMMENT ON COLUMN bulkhead.scoring.status_column IS 'pending_score, scored or score_failed';
COMMENT ON COLUMN bulkhead.scoring.version_column IS 'where the rule set''s version goes, if anywhere';
COMMENT ON COLUMN bulkhead.scoring.attached_at IS 'since when';
COMMENT ON COLUMN bulkhead.scoring.attached_by IS 'by which role';
REVOKE ALL ON bulkhead.scoring FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('bulkhead.scoring', '');

CREATE TABLE bulkhead.scoring_run (
  relation   regclass    NOT NULL,
  worker     integer     NOT NULL,
  action     text        NOT NULL,
  started_at timestamptz NOT NULL,
  last_at    timestamptz NOT NULL,
  ended_at   timestamptz,
  batches    bigint      NOT NULL,
  scored     bigint      NOT NULL,
  failed     bigint      NOT NULL,
  last_error text,
  PRIMARY KEY (relation, worker, started_at)
);
COMMENT ON TABLE bulkhead.scoring_run IS 'What score_pending() and rescore() do and did: one row a call, kept for a week. Written by them only.';
COMMENT ON COLUMN bulkhead.scoring_run.relation IS 'the table';
COMMENT ON COLUMN bulkhead.scoring_run.worker IS 'the process that runs the call';
COMMENT ON COLUMN bulkhead.scoring_run.action IS 'score_pending or rescore';
COMMENT ON COLUMN bulkhead.scoring_run.started_at IS 'since when';
COMMENT ON COLUMN bulkhead.scoring_run.last_at IS 'when the last batch was done';
COMMENT ON COLUMN bulkhead.scoring_run.ended_at IS 'when it ended; NULL: it runs, or was killed';
COMMENT ON COLUMN bulkhead.scoring_run.batches IS 'how many batches';
COMMENT ON COLUMN bulkhead.scoring_run.scored IS 'rows that were scored';
COMMENT ON COLUMN bulkhead.scoring_run.failed IS 'rows whose document broke a rule';
COMMENT ON COLUMN bulkhead.scoring_run.last_error IS 'why the batch of a tenant was given up, last';
REVOKE ALL ON bulkhead.scoring_run FROM PUBLIC;

CREATE VIEW bulkhead.scoring_progress AS
  SELECT s.relation, s.rule_set, r.action, r.worker, r.started_at, r.last_at, r.ended_at, r.batches, r.scored, r.failed,
         -- A message may hold another tenant's values.
         CASE WHEN pg_catalog.pg_has_role((SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) s.relation), 'USAGE')
                OR pg_catalog.has_function_privilege('bulkhead.score_pending(pg_catalog.regclass, pg_catalog.int4, pg_catalog.int4)', 'EXECUTE')
              THEN r.last_error END AS last_error
    FROM bulkhead.scoring s LEFT JOIN bulkhead.scoring_run r ON r.relation OPERATOR(pg_catalog.=) s.relation
   WHERE pg_catalog.has_table_privilege(s.relation, 'SELECT');
COMMENT ON VIEW bulkhead.scoring_progress IS
  'The attached tables, and what score_pending() and rescore() do and did there in the last week.';
GRANT SELECT ON bulkhead.scoring_progress TO PUBLIC;

CREATE FUNCTION bulkhead.attach_scoring(relation regclass, rule_set text, document_column name DEFAULT 'document',
                                        score_column name DEFAULT 'score', status_column name DEFAULT 'status',
                                        version_column name DEFAULT NULL) RETURNS void
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'attach_scoring_wrapper'
  SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.attach_scoring(regclass, text, name, name, name, name) IS
  'From now on score_pending() may score the table''s rows whose status is pending_score. Table owner only.';

CREATE FUNCTION bulkhead.detach_scoring(relation regclass) RETURNS void
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'detach_scoring_wrapper'
  SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.detach_scoring(regclass) IS
  'Ends that; rows stay as they are. Table owner only.';

CREATE FUNCTION bulkhead.score_row(rule_set text, document jsonb, OUT score numeric, OUT failed boolean, OUT version integer)
  STABLE PARALLEL SAFE COST 30 LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_score_row';
COMMENT ON FUNCTION bulkhead.score_row(text, jsonb) IS
  'The score, whether a rule failed for the document, and the rule set''s version: what score_pending() writes into a row.';

-- The work of score_pending() and rescore(), one batch a call. It asks for EXECUTE on these, so it needs no grant of its own.
CREATE FUNCTION bulkhead.scoring_step(relation regclass, action text, started_at timestamptz, after text, batch_size integer)
  RETURNS TABLE (tenant text, picked bigint)
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'scoring_step_wrapper'
  SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION bulkhead.scoring_step(regclass, text, timestamptz, text, integer) IS
  'One batch of the tenant that waits next after another one: the tenant and how many rows; no row: nobody waits after that one.';

-- No SET clause and not SECURITY DEFINER: such a procedure cannot commit. Each round gives each waiting tenant one batch; a round without a row ends it.
CREATE PROCEDURE bulkhead.score_pending(relation regclass, batch_size integer DEFAULT 1000, max_batches integer DEFAULT NULL) LANGUAGE plpgsql AS $score_pending$
DECLARE
  started pg_catalog.timestamptz := pg_catalog.clock_timestamp();
  last pg_catalog.text;
  step record;
  batches integer := 0;
  picked bigint := 0;
BEGIN
  LOOP
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    EXIT WHEN batches OPERATOR(pg_catalog.>=) max_batches;
    SELECT s.tenant, s.picked INTO step
      FROM bulkhead.scoring_step(relation, 'score_pending', started, last, batch_size) s;
    IF step.picked IS NULL THEN
      EXIT WHEN picked OPERATOR(pg_catalog.=) 0;
      last := NULL;
      picked := 0;
    ELSE
      last := step.tenant;
      picked := picked OPERATOR(pg_catalog.+) step.picked;
      batches := batches OPERATOR(pg_catalog.+) 1;
    END IF;
  END LOOP;
  PERFORM bulkhead.scoring_step(relation, 'score_pending', started, NULL, 0);
END
$score_pending$;
COMMENT ON PROCEDURE bulkhead.score_pending(regclass, integer, integer) IS
  'Scores the rows of an attached table whose status is pending_score, the tenants in turn, one transaction a batch. Any number of calls at once.';
REVOKE EXECUTE ON PROCEDURE bulkhead.score_pending(regclass, integer, integer) FROM PUBLIC;

CREATE PROCEDURE bulkhead.rescore(relation regclass, only_stale boolean DEFAULT true) LANGUAGE plpgsql AS $rescore$
DECLARE
  started pg_catalog.timestamptz := pg_catalog.clock_timestamp();
  last pg_catalog.text;
  step record;
  picked bigint;
  todo pg_catalog.text;
BEGIN
  -- What is not only the stale: first every version is forgotten, one statement a tenant.
  FOREACH todo IN ARRAY CASE WHEN only_stale THEN ARRAY['rescore'] ELSE ARRAY['forget', 'rescore'] END LOOP
    last := NULL;
    picked := 0;
    LOOP
      COMMIT;
      SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
      SELECT s.tenant, s.picked INTO step FROM bulkhead.scoring_step(relation, todo, started, last, 1000) s;
      IF step.picked IS NULL THEN
        EXIT WHEN picked OPERATOR(pg_catalog.=) 0 OR todo OPERATOR(pg_catalog.=) 'forget';
        last := NULL;
        picked := 0;
      ELSE
        last := step.tenant;
        picked := picked OPERATOR(pg_catalog.+) step.picked;
      END IF;
    END LOOP;
  END LOOP;
  PERFORM bulkhead.scoring_step(relation, 'rescore', started, NULL, 0);
END
$rescore$;
COMMENT ON PROCEDURE bulkhead.rescore(regclass, boolean) IS
  'Scores rows again that were scored by another version than the active one, or all. Needs a version column.';
REVOKE EXECUTE ON PROCEDURE bulkhead.rescore(regclass, boolean) FROM PUBLIC;
