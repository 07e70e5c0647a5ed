-- A foreign key is checked past row level security: without the tenant on both sides, a row may point to another tenant's row,
-- which tells that it exists, and ON DELETE reaches across.
WITH crossing AS (
  SELECT k.*, c.name AS child, c.quoted AS child_tenant, p.name AS parent, p.quoted AS parent_tenant,
         p.attnum AS parent_attnum,
         row_number() OVER (PARTITION BY k.confrelid, k.confkey ORDER BY c.name, k.conname) = 1
           AND NOT EXISTS (
             SELECT FROM pg_index x
              WHERE x.indrelid = k.confrelid AND x.indisunique AND x.indisvalid AND x.indpred IS NULL AND x.indexprs IS NULL
                AND x.indnkeyatts = cardinality(k.confkey) + 1
                AND (x.indkey::smallint[])[0:x.indnkeyatts - 1] @> k.confkey
                AND p.attnum = ANY ((x.indkey::smallint[])[0:x.indnkeyatts - 1])) AS needs_key
    FROM pg_constraint k
    JOIN protected c ON c.oid = k.conrelid
    JOIN protected p ON p.oid = k.confrelid
   WHERE k.contype = 'f' AND k.conparentid = 0 AND c.attnum IS NOT NULL AND p.attnum IS NOT NULL
     AND NOT EXISTS (SELECT FROM generate_subscripts(k.conkey, 1) n WHERE k.conkey[n] = c.attnum AND k.confkey[n] = p.attnum)),
written AS (
  SELECT x.*,
         (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY n.i) FROM unnest(x.conkey) WITH ORDINALITY n(attnum, i)
            JOIN pg_attribute a ON a.attrelid = x.conrelid AND a.attnum = n.attnum) AS child_columns,
         (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY n.i) FROM unnest(x.confkey) WITH ORDINALITY n(attnum, i)
            JOIN pg_attribute a ON a.attrelid = x.confrelid AND a.attnum = n.attnum) AS parent_columns
    FROM crossing x)
SELECT 'warning',
       format('%I on %s', w.conname, w.child),
       format('It does not compare the tenants: a row of one tenant may refer to a row of another in %s, and finds out that it is there%s.',
              w.parent, CASE WHEN w.confdeltype IN ('c', 'n', 'd') THEN '; deleting that row reaches across tenants' ELSE '' END),
       -- SET NULL and SET DEFAULT would take the tenant from the row.
       CASE WHEN w.confdeltype IN ('a', 'r', 'c') AND w.confupdtype IN ('a', 'r', 'c') THEN
         CASE WHEN w.needs_key THEN format('ALTER TABLE %s ADD UNIQUE (%s, %s); ', w.parent, w.parent_tenant, w.parent_columns) ELSE '' END
         || format('ALTER TABLE %s ADD FOREIGN KEY (%s, %s) REFERENCES %s (%s, %s)%s%s; ALTER TABLE %1$s DROP CONSTRAINT %9$I',
                   w.child, w.child_tenant, w.child_columns, w.parent, w.parent_tenant, w.parent_columns,
                   CASE w.confdeltype WHEN 'r' THEN ' ON DELETE RESTRICT' WHEN 'c' THEN ' ON DELETE CASCADE' ELSE '' END,
                   CASE w.confupdtype WHEN 'r' THEN ' ON UPDATE RESTRICT' WHEN 'c' THEN ' ON UPDATE CASCADE' ELSE '' END,
                   w.conname)
       END
  FROM written w
