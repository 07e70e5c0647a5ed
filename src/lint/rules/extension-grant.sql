-- What the extension took from PUBLIC and kept to its owner, and somebody has given away since. Rights to single roles on functions
-- are how it is meant to be used.
SELECT 'error',
       f.oid::regprocedure::text,
       'Every role may call this function, which acts for all tenants or weakens their protection.',
       format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f.oid::regprocedure)
  FROM pg_proc f
  JOIN pg_init_privs i ON i.classoid = 'pg_proc'::regclass AND i.objoid = f.oid
 WHERE f.pronamespace = 'bulkhead'::regnamespace
   AND EXISTS (SELECT FROM aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a WHERE a.grantee = 0)
   AND NOT EXISTS (SELECT FROM aclexplode(i.initprivs) a WHERE a.grantee = 0)
UNION ALL
SELECT 'error',
       format('%s to %s', c.oid::regclass, g.grantee),
       format('%s on the extension''s own table, which only its functions may use.', g.rights),
       format('REVOKE %s ON %s FROM %s', g.rights, c.oid::regclass, g.grantee)
  FROM pg_class c
  CROSS JOIN LATERAL (
    SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee,
           string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) AS rights
      FROM aclexplode(c.relacl) a
     WHERE a.grantee <> c.relowner
       AND NOT EXISTS (SELECT FROM pg_init_privs i CROSS JOIN aclexplode(i.initprivs) was
                        WHERE i.classoid = 'pg_class'::regclass AND i.objoid = c.oid
                          AND was.grantee = a.grantee AND was.privilege_type = a.privilege_type)
     GROUP BY a.grantee) g
 WHERE c.relnamespace = 'bulkhead'::regnamespace AND c.relkind IN ('r', 'p')
