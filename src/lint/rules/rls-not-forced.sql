-- Without FORCE the owner is not bound.
SELECT 'error',
       p.name,
       format('Row level security is not forced, so the owner %I sees every tenant.', pg_get_userbyid(p.relowner)),
       format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', p.name)
  FROM protected p WHERE NOT p.relforcerowsecurity
