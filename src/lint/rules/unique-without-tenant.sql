-- A unique key across tenants tells one tenant what another has: the second INSERT fails, or ON CONFLICT DO NOTHING does nothing.
-- A key that the database makes up is no secret and is hard to meet by chance: only a note.
SELECT CASE WHEN k.surrogate THEN 'info' ELSE 'warning' END,
       x.indexrelid::regclass::text,
       format(CASE WHEN k.surrogate THEN 'A generated key that is unique across the tenants of %1$s. Harmless unless tenants choose its values; foreign keys need one with %2$s.'
                   ELSE 'Unique across all tenants of %1$s: a tenant finds out what others have by what it cannot insert, and takes it from them. Begin the key with %2$s.' END,
              p.name, p.quoted),
       NULL
  FROM protected p
  JOIN pg_index x ON x.indrelid = p.oid AND (x.indisunique OR x.indisexclusion)
  CROSS JOIN LATERAL (
    SELECT coalesce(bool_and(x.indexprs IS NULL AND a.atttypid IN ('uuid'::regtype, 'bigint'::regtype, 'integer'::regtype)
                    AND (a.attidentity <> '' OR a.atttypid = 'uuid'::regtype
                         OR pg_get_expr(d.adbin, d.adrelid) ~ '^nextval\(')), false) AS surrogate
      FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = p.oid AND x.indnkeyatts = 1 AND a.attnum = x.indkey[0]) k
 WHERE p.attnum IS NOT NULL
   AND NOT EXISTS (SELECT FROM generate_series(0, x.indnkeyatts - 1) AS n WHERE x.indkey[n] = p.attnum)
   AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE x.indexprs IS NOT NULL AND d.classid = 'pg_class'::regclass AND d.objid = x.indexrelid
                      AND d.refclassid = 'pg_class'::regclass AND d.refobjid = p.oid AND d.refobjsubid = p.attnum
                      AND p.attnum <> ALL (x.indkey))
   AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = x.indexrelid)
