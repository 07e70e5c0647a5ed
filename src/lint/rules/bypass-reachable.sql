-- Ordinary roles that can become one which nothing binds, read the server's files, or grant themselves such a role.
SELECT 'warning',
       quote_ident(m.rolname),
       'The role can ' || string_agg(w.what, ', and ' ORDER BY w.what) || '.',
       min(w.remedy)
  FROM pg_roles m
  CROSS JOIN LATERAL (
    SELECT format(CASE WHEN g.rolsuper THEN 'become superuser %I'
                       WHEN g.rolbypassrls THEN 'become %I, whom row level security does not bind'
                       ELSE 'reach the server''s files as %I' END, g.rolname) AS what,
           (SELECT format('REVOKE %I FROM %I', g.rolname, m.rolname) FROM pg_auth_members a
             WHERE a.roleid = g.oid AND a.member = m.oid LIMIT 1) AS remedy
      FROM pg_roles g
     WHERE g.oid <> m.oid AND pg_has_role(m.oid, g.oid, 'MEMBER')
       AND (g.rolsuper OR g.rolbypassrls
            OR g.rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'))
    UNION ALL
    -- From version 16 on, CREATEROLE reaches only roles that one was made administrator of.
    SELECT 'grant itself any role that is not superuser, by CREATEROLE', format('ALTER ROLE %I NOCREATEROLE', m.rolname)
     WHERE m.rolcreaterole AND current_setting('server_version_num')::integer < 160000) w
 WHERE NOT m.rolsuper AND m.rolname !~ '^pg_'
   AND (m.rolcanlogin OR EXISTS (SELECT FROM pg_roles l WHERE l.rolcanlogin AND NOT l.rolsuper AND pg_has_role(l.oid, m.oid, 'MEMBER')))
 GROUP BY m.rolname
