-- Neither protected nor shared, and without a tenant column: perhaps forgotten, perhaps nobody's in particular.
SELECT 'info',
       r.name,
       'It has no tenant column. If every tenant may read it, say so with bulkhead.share(); if not, it needs one.',
       NULL
  FROM relation r
 WHERE r.relkind IN ('r', 'p') AND NOT r.relispartition
   AND r.oid NOT IN (SELECT t.oid FROM tree t)
   AND EXISTS (SELECT FROM registered)
   AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = r.oid AND NOT a.attisdropped
                      AND a.attname IN (SELECT n.name FROM tenant_name n))
