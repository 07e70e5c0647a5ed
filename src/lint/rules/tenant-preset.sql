-- A tenant that nobody has to choose: forgetting to set one then goes unnoticed, in that tenant's rows.
SELECT 'warning',
       s.scope,
       format('Every session of it begins with the tenant %L, so a forgotten context is not noticed.', s.value),
       s.reset
  FROM preset s WHERE s.name = 'bulkhead.tenant_context' AND s.value <> ''
UNION ALL
SELECT 'warning',
       r.name,
       'It runs as a fixed tenant, whoever calls it.',
       format('ALTER ROUTINE %s RESET bulkhead.tenant_context', r.name)
  FROM routine r
 WHERE EXISTS (SELECT FROM unnest(r.proconfig) AS c(setting) WHERE c.setting LIKE 'bulkhead.tenant\_context=_%')
