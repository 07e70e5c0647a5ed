-- Rows that belong to a tenant's row by a foreign key, in a table that has no tenant column of its own.
SELECT DISTINCT ON (r.name)
       'warning',
       r.name,
       format('Its rows belong to rows of %s, but nothing keeps other tenants from reading them. '
              'Give it the column %s, fill it, and protect it.', p.name, p.quoted),
       NULL
  FROM relation r
  JOIN pg_constraint k ON k.conrelid = r.oid AND k.contype = 'f'
  JOIN protected p ON p.oid = k.confrelid
 WHERE r.relkind IN ('r', 'p') AND NOT r.relispartition
   AND r.oid NOT IN (SELECT t.oid FROM tree t)
   AND NOT EXISTS (SELECT FROM tenants t WHERE t.oid = p.oid AND k.confkey = ARRAY[t.attnum])
   AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = r.oid AND NOT a.attisdropped
                      AND a.attname IN (SELECT n.name FROM tenant_name n))
 ORDER BY r.name, p.name
