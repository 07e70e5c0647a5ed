-- Every statement is filtered by the tenant; without an index that begins with it, each one reads the whole table.
SELECT 'warning',
       p.name,
       format('No complete index begins with %s, so every query reads all tenants'' rows.', p.quoted),
       format(CASE WHEN p.relkind = 'p' THEN 'CREATE INDEX ON %s (%s)' ELSE 'CREATE INDEX CONCURRENTLY ON %s (%s)' END, p.name, p.quoted)
  FROM protected p
 WHERE p.attnum IS NOT NULL
   AND NOT (p.relispartition AND p.oid IN (SELECT t.oid FROM tree t WHERE t.oid <> t.root))
   AND EXISTS (
     -- A partitioned table may have the index on each leaf.
     SELECT FROM (SELECT p.oid UNION SELECT l.relid FROM pg_partition_tree(p.oid) l WHERE p.relkind = 'p' AND l.isleaf) AS leaf(oid)
      WHERE (leaf.oid <> p.oid OR p.relkind = 'r' OR NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = p.oid))
        AND NOT EXISTS (
          SELECT FROM pg_index x JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
           WHERE x.indrelid = leaf.oid AND a.attname = p.tenant_column AND x.indisvalid AND x.indisready AND x.indpred IS NULL))
