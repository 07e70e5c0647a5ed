-- last_value counts the rows of all tenants. nextval() needs USAGE only.
SELECT 'info',
       format('%s to %s', s.oid::regclass, g.grantee),
       format('SELECT on the sequence of protected table %s shows how many rows all tenants together have made.', p.name),
       format('REVOKE SELECT ON SEQUENCE %s FROM %s', s.oid::regclass, g.grantee)
  FROM protected p
  JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = p.oid AND d.classid = 'pg_class'::regclass
   AND d.deptype IN ('a', 'i')
  JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
  CROSS JOIN LATERAL (
    SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee
      FROM aclexplode(s.relacl) a WHERE a.privilege_type = 'SELECT' AND a.grantee <> s.relowner) g
