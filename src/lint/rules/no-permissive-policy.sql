-- Restrictive policies alone show nothing to anybody.
SELECT 'warning',
       p.name,
       'No permissive policy is left, so nobody sees or writes any row.',
       repair.call
  FROM protected p
  JOIN repair USING (oid)
 WHERE NOT EXISTS (SELECT FROM pg_policy o WHERE o.polrelid = p.oid AND o.polpermissive)
