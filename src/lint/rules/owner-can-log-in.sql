-- An owner may disable what protects its tables; injected SQL in a session of its own may, too.
SELECT 'warning',
       quote_ident(r.rolname),
       format('The role can log in and owns %s protected tables (%s): a session of it can disable their row level security. '
              'Let a role own them that cannot log in, and log in as one that has the rights it needs.',
              count(*), string_agg(p.name, ', ' ORDER BY p.name) FILTER (WHERE p.rank <= 3)
                        || CASE WHEN count(*) > 3 THEN ', ...' ELSE '' END),
       NULL
  FROM (SELECT q.*, row_number() OVER (PARTITION BY q.relowner ORDER BY q.name) AS rank FROM protected q) p
  JOIN pg_roles r ON r.oid = p.relowner AND r.rolcanlogin
 GROUP BY r.rolname
