-- The context: the tenant that the current transaction acts for.

-- The accessors stand in policies and defaults. LEAKPROOF, so that a policy's qual may be pushed down and use an index;
-- STABLE and not IMMUTABLE, so that no plan is ever made for one tenant; no SET clause, which would cost more than the scan.
CREATE FUNCTION bulkhead.tenant_id() RETURNS uuid
  STABLE PARALLEL SAFE LEAKPROOF LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_tenant_id';
COMMENT ON FUNCTION bulkhead.tenant_id() IS
  'The current tenant as uuid; NULL when there is none or it is not a uuid. Never raises.';

CREATE FUNCTION bulkhead.tenant_id_text() RETURNS text
  STABLE PARALLEL SAFE LEAKPROOF LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_tenant_id_text';
COMMENT ON FUNCTION bulkhead.tenant_id_text() IS
  'The current tenant as text; NULL when there is none. Never raises.';

CREATE FUNCTION bulkhead.tenant_id_bigint() RETURNS bigint
  STABLE PARALLEL SAFE LEAKPROOF LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_tenant_id_bigint';
COMMENT ON FUNCTION bulkhead.tenant_id_bigint() IS
  'The current tenant as bigint; NULL when there is none or it is not a canonical decimal. Never raises.';

CREATE FUNCTION bulkhead.set_tenant(context text, is_local boolean DEFAULT true) RETURNS void
  VOLATILE PARALLEL UNSAFE LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_set_tenant';
COMMENT ON FUNCTION bulkhead.set_tenant(text, boolean) IS
  'Sets the tenant for the transaction, or for the session when is_local is false; '''' clears it.';

CREATE FUNCTION bulkhead.require_tenant() RETURNS text
  STABLE PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_require_tenant';
COMMENT ON FUNCTION bulkhead.require_tenant() IS
  'The current tenant as text; raises 42501 when there is none.';

-- From the verified token, for policies: no table is read. Not STRICT: what is asked with NULL is not granted.
CREATE FUNCTION bulkhead.claims() RETURNS jsonb
  STABLE PARALLEL SAFE LEAKPROOF LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_claims';
COMMENT ON FUNCTION bulkhead.claims() IS
  'The claims of the signed token in force; NULL when there is none. Never raises.';

CREATE FUNCTION bulkhead.user_id() RETURNS text
  STABLE PARALLEL SAFE LEAKPROOF LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_user_id';
COMMENT ON FUNCTION bulkhead.user_id() IS
  'The subject (sub) of the signed token in force; NULL when there is none. Never raises.';

CREATE FUNCTION bulkhead.has_role(role text) RETURNS boolean
  STABLE PARALLEL SAFE LEAKPROOF LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_has_role';
COMMENT ON FUNCTION bulkhead.has_role(text) IS
  'Whether the signed token in force names this role, at the path bulkhead.roles_claim; false without a token. Never raises.';

CREATE FUNCTION bulkhead.has_permission(permission text) RETURNS boolean
  STABLE PARALLEL SAFE LEAKPROOF LANGUAGE c AS 'MODULE_PATHNAME', 'bulkhead_has_permission';
COMMENT ON FUNCTION bulkhead.has_permission(text) IS
  'Whether the signed token in force names this permission, at the path bulkhead.permissions_claim; false without a token. Never raises.';

CREATE FUNCTION bulkhead.status() RETURNS TABLE (item text, value text, detail text)
  VOLATILE PARALLEL RESTRICTED LANGUAGE c AS 'MODULE_PATHNAME', 'status_wrapper';
COMMENT ON FUNCTION bulkhead.status() IS
  'What is in force in this session and why: tenant, source, mode, load level, seal, bypass, versions. Ask it when a table looks empty.';
