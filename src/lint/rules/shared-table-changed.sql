-- A shared table is read by all and written by its owner only; each of the four policies has its part in that.
SELECT 'error',
       r.name,
       'The policies that keep tenants from writing a shared table are not those that share() made.',
       repair.call
  FROM registered r
  JOIN repair USING (oid)
 WHERE r.shared
   AND EXISTS (
     SELECT FROM (VALUES ('bulkhead_shared_read', true, 'r', 'true', NULL),
                         ('bulkhead_shared_insert', false, 'a', NULL, 'false'),
                         ('bulkhead_shared_update', false, 'w', 'false', NULL),
                         ('bulkhead_shared_delete', false, 'd', 'false', NULL)) AS w(name, permissive, command, qual, checks)
      WHERE NOT EXISTS (
        SELECT FROM pg_policy o
         WHERE o.polrelid = r.oid AND o.polname = w.name AND o.polpermissive = w.permissive AND o.polcmd::text = w.command
           AND o.polroles = '{0}'
           AND pg_get_expr(o.polqual, r.oid) IS NOT DISTINCT FROM w.qual
           AND pg_get_expr(o.polwithcheck, r.oid) IS NOT DISTINCT FROM w.checks))
