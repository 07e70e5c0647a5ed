-- Permissive policies add up: beside bulkhead_tenant, which lets the whole tenant through, another can narrow nothing.
SELECT 'warning',
       format('%I on %s', o.polname, p.name),
       'It is permissive, and bulkhead_tenant beside it lets all rows of the tenant through. Make it AS RESTRICTIVE, or drop bulkhead_tenant.',
       NULL
  FROM protected p
  JOIN pg_policy o ON o.polrelid = p.oid AND o.polpermissive AND o.polname <> 'bulkhead_tenant'
  JOIN pg_policy t ON t.polrelid = p.oid AND t.polname = 'bulkhead_tenant' AND t.polpermissive
 WHERE NOT coalesce('true' IN (pg_get_expr(o.polqual, p.oid), pg_get_expr(o.polwithcheck, p.oid)), false)
