-- A setting of one's own: anybody who can run SQL can set it, at any time, to any tenant; nothing checks or clears it.
SELECT 'warning',
       format('%I on %s', o.polname, r.name),
       'The policy trusts current_setting(): any statement may set that to another tenant, and '''' is left after SET LOCAL. '
       'Protect the table, and compare with bulkhead.tenant_id() instead.',
       NULL
  FROM pg_policy o
  JOIN relation r ON r.oid = o.polrelid
 WHERE concat_ws(' ', pg_get_expr(o.polqual, r.oid), pg_get_expr(o.polwithcheck, r.oid)) ~ '\mcurrent_setting\('
