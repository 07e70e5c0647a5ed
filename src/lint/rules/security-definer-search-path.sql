-- It runs with its owner's rights and its caller's search_path: the caller chooses what its names mean. A body that was parsed when the
-- function was made (BEGIN ATOMIC) has no names left to look up.
SELECT 'warning',
       r.name,
       format('SECURITY DEFINER without a search_path of its own: its caller decides which tables and operators the owner %I uses.',
              pg_get_userbyid(r.proowner)),
       format('ALTER ROUTINE %s SET search_path = %I, pg_temp', r.name, n.nspname)
  FROM routine r
  JOIN pg_proc p ON p.oid = r.oid
  JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE r.prosecdef AND NOT r.parsed AND r.lanname NOT IN ('c', 'internal')
   AND NOT EXISTS (SELECT FROM unnest(r.proconfig) AS s(setting) WHERE s.setting LIKE 'search_path=%')
