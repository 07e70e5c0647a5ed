-- Rights that row level security does not filter: TRUNCATE empties all tenants, REFERENCES finds out which keys exist, TRIGGER runs the
-- grantee's code with every writer's rights.
SELECT 'warning',
       format('%s to %s', p.name, g.grantee),
       format('%s on the table: row level security does not apply to %s.', g.rights,
              CASE WHEN g.rights LIKE '%,%' THEN 'them' ELSE 'it' END),
       format('REVOKE %s ON %s FROM %s', g.rights, p.name, g.grantee)
  FROM protected p
  CROSS JOIN LATERAL (
    SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END AS grantee,
           string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) AS rights
      FROM aclexplode(p.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
     WHERE a.privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER') AND a.grantee <> p.relowner
       AND (a.grantee = 0 OR NOT r.rolsuper)
     GROUP BY a.grantee, r.rolname) g
