-- Row level security lets only leakproof operators near an index before the policy has spoken. These indexes wait for operators that
-- are not, and stay unused under a policy.
SELECT 'info',
       x.indexrelid::regclass::text,
       format('No operator of the class %s is leakproof, so a query on %s under row level security cannot use this index for it. '
              'Put %s in front of it (btree_gin, btree_gist).', string_agg(DISTINCT o.opcname, ', '), p.name, p.quoted),
       NULL
  FROM protected p
  JOIN pg_index x ON x.indrelid = p.oid
  CROSS JOIN LATERAL unnest(x.indclass) AS class(oid)
  JOIN pg_opclass o ON o.oid = class.oid
 WHERE NOT EXISTS (
         SELECT FROM pg_amop m JOIN pg_operator r ON r.oid = m.amopopr JOIN pg_proc f ON f.oid = r.oprcode
          WHERE m.amopfamily = o.opcfamily AND f.proleakproof)
   AND p.attnum <> ALL (x.indkey)
   AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = x.indexrelid)
 GROUP BY x.indexrelid, p.name, p.quoted
