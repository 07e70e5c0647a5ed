-- A permissive policy that asks nothing. Behind an intact floor it shows no other tenant, but it undoes what other policies narrow;
-- without one it shows everything.
SELECT CASE WHEN EXISTS (SELECT FROM pg_policy f WHERE f.polrelid = p.oid AND f.polname = 'bulkhead_floor' AND NOT f.polpermissive)
                 THEN 'warning' ELSE 'error' END,
       format('%I on %s', o.polname, p.name),
       'The policy lets every row through. Only bulkhead_floor keeps other tenants'' rows out, and no narrower policy has any effect beside it.',
       CASE WHEN EXISTS (SELECT FROM pg_policy t WHERE t.polrelid = p.oid AND t.polname = 'bulkhead_tenant')
            THEN format('DROP POLICY %I ON %s', o.polname, p.name) END
  FROM protected p
  JOIN pg_policy o ON o.polrelid = p.oid AND o.polpermissive
 WHERE 'true' IN (pg_get_expr(o.polqual, p.oid), pg_get_expr(o.polwithcheck, p.oid))
