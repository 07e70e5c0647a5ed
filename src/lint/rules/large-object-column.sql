-- Large objects are all in one table of the system's, with rights for each but no tenant.
SELECT 'info',
       p.name,
       format('Column %I seems to hold large objects: their contents are not in the table, and no policy filters them.', a.attname),
       NULL
  FROM protected p
  JOIN pg_attribute a ON a.attrelid = p.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type t ON t.oid = a.atttypid AND (t.oid = 'oid'::regtype OR t.typname = 'lo')
