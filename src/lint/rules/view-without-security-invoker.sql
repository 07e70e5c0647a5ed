-- A view reads as its owner unless told otherwise: whoever may read the view gets what the owner's rights and policies give.
SELECT CASE WHEN (o.rolsuper OR o.rolbypassrls) AND bool_or(NOT p.sealed) THEN 'error' ELSE 'warning' END,
       v.name,
       format('It reads %s with the rights of its owner %I%s.', string_agg(p.name, ', ' ORDER BY p.name), o.rolname,
              CASE WHEN o.rolsuper OR o.rolbypassrls THEN ', whom row level security does not bind' ELSE ', not those of the role that asks' END),
       CASE WHEN current_setting('server_version_num')::integer >= 150000
            THEN format('ALTER VIEW %s SET (security_invoker = true)', v.name) END
  FROM relation v
  JOIN pg_roles o ON o.oid = v.relowner
  JOIN reads d ON d.reader = v.oid
  JOIN protected p ON p.oid = d.read
 WHERE v.relkind = 'v'
   AND NOT EXISTS (SELECT FROM unnest(v.reloptions) AS s(setting) WHERE s.setting ~* '^security_invoker=(true|tru|tr|t|yes|ye|y|on|1)$')
 GROUP BY v.name, o.rolname, o.rolsuper, o.rolbypassrls
