-- A query on a parent asks the parent's policies only.
SELECT 'error',
       p.name,
       format('Its rows can be read through its parent %s, which is not protected.', u.oid::regclass),
       format(CASE WHEN p.relispartition THEN 'ALTER TABLE %2$s DETACH PARTITION %1$s' ELSE 'ALTER TABLE %1$s NO INHERIT %2$s' END,
              p.name, u.oid::regclass)
  FROM protected p
  JOIN pg_inherits i ON i.inhrelid = p.oid
  JOIN pg_class u ON u.oid = i.inhparent
 WHERE u.oid NOT IN (SELECT q.oid FROM protected q)
