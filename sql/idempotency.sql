-- idempotency: keys that make a retried request run once.

-- Partitioned by the time of the claim; partitions are made by maintain(), or by the first claim of a day. Read and written by position
-- (src/pg/keys/rows.rs), and by nobody else. Each partition has a primary key on the digest; that a key is unique across
-- partitions is seen to by the functions.
CREATE TABLE bulkhead.idempotency_key (
  digest      uuid        NOT NULL,
  claimed_at  timestamptz NOT NULL,
  lease_until timestamptz NOT NULL,
  fence       bigint      NOT NULL,
  attempt     integer     NOT NULL,
  stage       "char"      NOT NULL,
  status      integer,
  tenant      text        NOT NULL,
  key         text        NOT NULL,
  fingerprint text,
  response    jsonb,
  finished_at timestamptz
) PARTITION BY RANGE (claimed_at);
COMMENT ON TABLE bulkhead.idempotency_key IS 'Claimed keys and stored answers. Written by idempotency_claim() and its siblings only.';
COMMENT ON COLUMN bulkhead.idempotency_key.digest IS 'what is indexed: the tenant and the key, hashed; a UUIDv7''s begins with its date';
COMMENT ON COLUMN bulkhead.idempotency_key.claimed_at IS 'when the key was claimed, taken over or extended last';
COMMENT ON COLUMN bulkhead.idempotency_key.lease_until IS 'until then nobody can take the key over';
COMMENT ON COLUMN bulkhead.idempotency_key.fence IS 'tells the holder from those who held it before';
COMMENT ON COLUMN bulkhead.idempotency_key.attempt IS '1 for the first claim, one more for each that followed';
COMMENT ON COLUMN bulkhead.idempotency_key.stage IS 's started, f finished, r released';
COMMENT ON COLUMN bulkhead.idempotency_key.status IS 'the stored status, of HTTP for example';
COMMENT ON COLUMN bulkhead.idempotency_key.tenant IS 'whose key it is';
COMMENT ON COLUMN bulkhead.idempotency_key.key IS 'as the client sent it';
COMMENT ON COLUMN bulkhead.idempotency_key.fingerprint IS 'of the request, if the claim gave one';
COMMENT ON COLUMN bulkhead.idempotency_key.response IS 'the stored answer';
COMMENT ON COLUMN bulkhead.idempotency_key.finished_at IS 'when the answer was stored';
REVOKE ALL ON bulkhead.idempotency_key FROM PUBLIC;
-- Room in each page for the answer, so that it is stored beside the claim and no index is touched. No partition is made here: a dump could not restore it.
INSERT INTO bulkhead.managed_partition (parent, every, retain, leaf_key, leaf_options, managed_by)
VALUES ('bulkhead.idempotency_key', '1 day', NULL, '{digest}', '{fillfactor=70}', CURRENT_USER);

CREATE FUNCTION bulkhead.idempotency_claim(key text, fingerprint text DEFAULT NULL, lease interval DEFAULT '1 minute')
  RETURNS TABLE (state text, status integer, response jsonb, attempt integer, fence bigint)
  VOLATILE PARALLEL UNSAFE ROWS 1 LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_idempotency_claim';
COMMENT ON FUNCTION bulkhead.idempotency_claim(text, text, interval) IS
  'Claims a key for the current tenant. started: go on; replay: the stored answer; in_progress: another holds it; mismatch: the same key, another request.';

CREATE FUNCTION bulkhead.idempotency_complete(key text, status integer, response jsonb, fence bigint DEFAULT NULL) RETURNS void
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_idempotency_complete';
COMMENT ON FUNCTION bulkhead.idempotency_complete(text, integer, jsonb, bigint) IS
  'Stores the answer of a claimed key; 55000 when another has taken it over.';

CREATE FUNCTION bulkhead.idempotency_release(key text, fence bigint DEFAULT NULL) RETURNS void
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_idempotency_release';
COMMENT ON FUNCTION bulkhead.idempotency_release(text, bigint) IS
  'Gives a claimed key back: the work failed, and the next claim may start at once.';

CREATE FUNCTION bulkhead.idempotency_extend(key text, lease interval, fence bigint DEFAULT NULL) RETURNS void
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_idempotency_extend';
COMMENT ON FUNCTION bulkhead.idempotency_extend(text, interval, bigint) IS
  'Makes the lease of a claimed key last so long from now.';

-- Each part with its length, so that no two requests run into each other. jsonb has sorted its keys.
CREATE FUNCTION bulkhead.request_fingerprint(method text, path text, body jsonb) RETURNS text
  IMMUTABLE PARALLEL SAFE LANGUAGE sql
  RETURN pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
    (SELECT pg_catalog.string_agg(COALESCE(pg_catalog.length(part)::text, 'null') OPERATOR(pg_catalog.||) ':' OPERATOR(pg_catalog.||) COALESCE(part, ''), ',' ORDER BY number)
       FROM (VALUES (1, pg_catalog.upper(method)), (2, path), (3, body::text)) AS parts (number, part)),
    'UTF8')), 'hex');
COMMENT ON FUNCTION bulkhead.request_fingerprint(text, text, jsonb) IS
  'A request''s fingerprint for idempotency_claim(): the same for the same body in another order of keys.';
