-- A row without a tenant is in nobody's sight and in everybody's counts. A partition's NOT NULL is its parent's.
SELECT 'error',
       p.name,
       format('The tenant column %s may be NULL.', p.quoted),
       format('ALTER TABLE %s ALTER COLUMN %s SET NOT NULL', p.name, p.quoted)
  FROM protected p
 WHERE NOT p.attnotnull AND NOT (p.relispartition AND p.oid IN (SELECT t.oid FROM tree t WHERE t.oid <> t.root))
