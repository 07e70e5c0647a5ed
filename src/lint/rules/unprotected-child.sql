-- A child that appeared while event triggers were off.
SELECT 'error',
       c.oid::regclass::text,
       format('It is below the registered table %s and has no policies of its own: read directly, it shows every tenant.', r.name),
       CASE WHEN c.relkind <> 'f' THEN repair.call END
  FROM tree t
  JOIN repair USING (oid)
  JOIN registered r ON r.oid = t.root
  JOIN pg_class c ON c.oid = t.oid
 WHERE t.oid NOT IN (SELECT q.oid FROM registered q)
