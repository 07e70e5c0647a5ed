-- Roles that row level security does not bind, where they have rights to protected tables. What is sealed is filtered for them too.
SELECT CASE WHEN bool_or(NOT p.sealed) THEN 'warning' ELSE 'info' END,
       quote_ident(b.rolname),
       format('BYPASSRLS, with rights to %s protected tables%s. %s', count(*),
              CASE WHEN bool_or(NOT p.sealed) THEN ': it sees every tenant''s rows' ELSE ', which the seal filters for it; pg_stats shows it their commonest values, of all tenants' END,
              CASE WHEN b.rolcanlogin THEN 'It can log in' ELSE 'It cannot log in' END
              || coalesce('; ' || (SELECT string_agg(quote_ident(m.rolname), ', ' ORDER BY m.rolname) FROM pg_roles m
                                    WHERE m.oid <> b.oid AND NOT m.rolsuper AND pg_has_role(m.oid, b.oid, 'MEMBER')) || ' can become it', '')
              || '.'),
       CASE WHEN bool_or(NOT p.sealed) THEN format('ALTER ROLE %I NOBYPASSRLS', b.rolname) END
  FROM pg_roles b
  JOIN protected p ON has_table_privilege(b.oid, p.oid, 'SELECT, INSERT, UPDATE, DELETE')
                   OR has_any_column_privilege(b.oid, p.oid, 'SELECT, INSERT, UPDATE')
 WHERE b.rolbypassrls AND NOT b.rolsuper
 GROUP BY b.oid, b.rolname, b.rolcanlogin
