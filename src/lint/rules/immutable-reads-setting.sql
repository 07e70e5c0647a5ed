-- The planner computes an IMMUTABLE call once and keeps the answer in the plan: one tenant's, for all that use the plan.
SELECT 'error',
       r.name,
       'It is IMMUTABLE and reads a setting or the tenant, which change: a cached plan keeps the first tenant''s answer.',
       format('ALTER ROUTINE %s STABLE', r.name)
  FROM routine r
 WHERE r.provolatile = 'i'
   AND regexp_replace(r.body, '--[^\n]*', '', 'g')
       ~* '\mcurrent_setting\s*\(|\mbulkhead\.(tenant_id|tenant_id_text|tenant_id_bigint|require_tenant|claims|user_id|has_role|has_permission)\s*\('
