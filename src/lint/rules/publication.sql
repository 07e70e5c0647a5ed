-- A subscriber gets every tenant's rows: publishing knows no policies.
SELECT 'warning',
       format('%s in %I', p.name, t.pubname),
       'The publication sends the rows of all tenants to its subscribers, where no policy of this database applies.',
       CASE WHEN r.prrelid IS NOT NULL THEN format('ALTER PUBLICATION %I DROP TABLE %s', t.pubname, p.name) END
  FROM pg_publication_tables t
  JOIN pg_publication b ON b.pubname = t.pubname
  JOIN protected p ON p.name = format('%I.%I', t.schemaname, t.tablename)
  LEFT JOIN pg_publication_rel r ON r.prpubid = b.oid AND r.prrelid = p.oid
