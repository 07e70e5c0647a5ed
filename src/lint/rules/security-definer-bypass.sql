-- A function that lends its callers a role which row level security does not bind.
SELECT 'warning',
       r.name,
       format('SECURITY DEFINER of %I, whom row level security does not bind, and it names a protected table: its callers may see all tenants.',
              o.rolname),
       NULL
  FROM routine r
  JOIN pg_roles o ON o.oid = r.proowner AND (o.rolsuper OR o.rolbypassrls)
 WHERE r.prosecdef
   AND EXISTS (SELECT FROM aclexplode(coalesce(r.proacl, acldefault('f', r.proowner))) g WHERE g.grantee <> r.proowner)
   AND EXISTS (SELECT FROM protected p WHERE NOT p.sealed AND strpos(lower(r.body), lower(p.relname)) > 0)
