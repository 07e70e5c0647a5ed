-- A foreign table has no row level security.
SELECT 'warning',
       r.name,
       format('Column %I tells tenants apart, and a foreign table cannot have row level security. Protect the table on '
              'the server where the rows are, and keep this one from tenants'' roles.', a.attname),
       NULL
  FROM relation r
  JOIN pg_attribute a ON a.attrelid = r.oid AND NOT a.attisdropped
   AND a.attname IN (SELECT n.name FROM tenant_name n)
 WHERE r.relkind = 'f'
