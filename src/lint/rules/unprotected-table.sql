-- A table that has a tenant column and no protection. So has a copy (CREATE TABLE AS, LIKE) of a protected table, and a
-- table that was dropped and made anew under its old name.
WITH tenant_key AS (
  SELECT DISTINCT k.conrelid, k.conkey[1] AS attnum
    FROM pg_constraint k JOIN tenants t ON t.oid = k.confrelid AND k.confkey = ARRAY[t.attnum]
   WHERE k.contype = 'f')
SELECT 'error',
       r.name,
       format('Column %I tells tenants apart in this database, and the table is neither protected nor shared.', a.attname),
       CASE WHEN t.oid IS NOT NULL THEN format('SELECT bulkhead.protect(%L, %L)', r.name, a.attname) END
  FROM relation r
  CROSS JOIN LATERAL (
    SELECT a.attname, a.atttypid FROM pg_attribute a
     WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
       AND (a.attname IN (SELECT n.name FROM tenant_name n)
            OR a.attnum IN (SELECT k.attnum FROM tenant_key k WHERE k.conrelid = r.oid))
     ORDER BY a.attname <> 'tenant_id', a.attnum LIMIT 1) a
  LEFT JOIN bottom b ON b.oid = a.atttypid
  LEFT JOIN pg_type t ON t.oid = coalesce(b.base, a.atttypid)
   AND t.oid IN ('uuid'::regtype, 'text'::regtype, 'varchar'::regtype, 'bigint'::regtype, 'integer'::regtype)
 WHERE r.relkind IN ('r', 'p')
   AND r.oid NOT IN (SELECT t.oid FROM tree t)
   -- Below a parent that is reported itself.
   AND NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_attribute p ON p.attrelid = i.inhparent
                    WHERE i.inhrelid = r.oid AND p.attname = a.attname)
