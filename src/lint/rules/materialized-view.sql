-- Its rows are a copy, and a copy has no policies.
SELECT CASE WHEN v.granted THEN 'error' ELSE 'warning' END,
       v.name,
       format('It holds a copy of rows of %s, as REFRESH found them, and a materialized view cannot have row level security%s.',
              string_agg(p.name, ', ' ORDER BY p.name),
              CASE WHEN v.granted THEN '; granted to others, it shows them every tenant it was filled with' ELSE '' END),
       NULL
  FROM (SELECT r.oid, r.name,
               EXISTS (SELECT FROM aclexplode(r.relacl) g WHERE g.grantee <> r.relowner AND g.privilege_type = 'SELECT') AS granted
          FROM relation r WHERE r.relkind = 'm') v
  JOIN reads d ON d.reader = v.oid
  JOIN protected p ON p.oid = d.read
 GROUP BY v.name, v.granted
