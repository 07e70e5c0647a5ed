-- Every query asks for one tenant, so an index that has the tenant column in front finds less to throw away.
SELECT 'info',
       x.indexrelid::regclass::text,
       format('Every query on %s is filtered by %s, which this index does not have. One that begins with it reads only the tenant''s part.',
              p.name, p.quoted),
       NULL
  FROM protected p
  JOIN pg_index x ON x.indrelid = p.oid
 WHERE NOT x.indisunique AND p.attnum <> ALL (x.indkey)
   AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = x.indexrelid)
