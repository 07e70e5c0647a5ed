-- The columns of a table: number, name, whether a value has to be given, whether the server insists on giving it, and a literal
-- that its type takes and that no other row is likely to have.
WITH RECURSIVE domain(oid, base, typmod) AS (
  SELECT t.oid, t.typbasetype, t.typtypmod FROM pg_type t WHERE t.typtype = 'd'
  UNION ALL
  SELECT d.oid, t.typbasetype, t.typtypmod FROM domain d JOIN pg_type t ON t.oid = d.base AND t.typtype = 'd'),
-- The first literal in the bound of a partition, for the first column of the key.
bound AS (
  SELECT p.partattrs[0] AS attnum,
         (SELECT m.text[1] FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
           CROSS JOIN LATERAL regexp_match(pg_get_expr(c.relpartbound, c.oid), '\(((?:''(?:[^'']|'''')*'')|-?[0-9.]+)') AS m(text)
           WHERE i.inhparent = $1 AND m.text IS NOT NULL ORDER BY c.oid LIMIT 1) AS value
    FROM pg_partitioned_table p WHERE p.partrelid = $1)
SELECT a.attnum,
       quote_ident(a.attname),
       a.attgenerated = '' AND (b.value IS NOT NULL OR a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''),
       a.attidentity = 'a',
       coalesce(b.value, quote_literal(CASE
         WHEN t.oid = 'uuid'::regtype THEN gen_random_uuid()::text
         WHEN t.oid = 'smallint'::regtype THEN (30000 + $2 % 2000)::text
         WHEN t.oid IN ('json'::regtype, 'jsonb'::regtype) THEN '{}'
         WHEN t.typtype = 'e' THEN (SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder LIMIT 1)
         WHEN t.typcategory = 'N' THEN (1900000000 + $2)::text
         WHEN t.typcategory = 'S' THEN left('leak' || $2 || substr(md5(random()::text), 1, 8),
                                            CASE WHEN coalesce(nullif(a.atttypmod, -1), d.typmod) > 4
                                                 THEN coalesce(nullif(a.atttypmod, -1), d.typmod) - 4 ELSE 40 END)
         WHEN t.typcategory = 'B' THEN 'false'
         WHEN t.typcategory = 'D' THEN 'now'
         WHEN t.typcategory = 'T' THEN '1 second'
         WHEN t.typcategory = 'A' THEN '{}'
         WHEN t.typcategory = 'R' THEN 'empty'
         WHEN t.typcategory = 'I' THEN '127.0.0.1'
         ELSE '' END))
  FROM pg_attribute a
  LEFT JOIN bound b ON b.attnum = a.attnum
  LEFT JOIN LATERAL (
    SELECT x.base, x.typmod FROM domain x JOIN pg_type y ON y.oid = x.base AND y.typtype <> 'd' WHERE x.oid = a.atttypid) d ON true
  JOIN pg_type t ON t.oid = coalesce(d.base, a.atttypid)
 WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
