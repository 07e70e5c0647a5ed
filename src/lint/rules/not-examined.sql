-- What these rules cannot judge, so that their silence is not taken for an answer.
SELECT 'info',
       f.oid::regprocedure::text,
       format('A trigger function on %s protected tables (%s). Its body is not read: it could copy rows where no policy is.',
              count(DISTINCT p.oid), string_agg(DISTINCT p.name, ', ') FILTER (WHERE p.rank <= 3)
                                     || CASE WHEN count(DISTINCT p.oid) > 3 THEN ', ...' ELSE '' END),
       NULL
  FROM (SELECT q.oid, q.name, t.tgfoid, dense_rank() OVER (PARTITION BY t.tgfoid ORDER BY q.name) AS rank
          FROM protected q JOIN pg_trigger t ON t.tgrelid = q.oid AND NOT t.tgisinternal) p
  JOIN pg_proc f ON f.oid = p.tgfoid
 GROUP BY f.oid
UNION ALL
SELECT 'info', 'rewrite rules of ' || p.name, 'The table has rules (CREATE RULE) that change statements into others; they are not read.', NULL
  FROM protected p
 WHERE EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = p.oid)
UNION ALL
SELECT 'info', 'functions',
       format('%s functions: apart from the words that single rules look for, their bodies and the SQL that they put together are not read.', count(*)),
       NULL
  FROM routine HAVING count(*) > 0
UNION ALL
SELECT 'info', 'extension ' || quote_ident(e.extname),
       CASE e.extname WHEN 'pg_cron' THEN 'Jobs run as the role that scheduled them, without a tenant unless they set one; their commands are not read.'
                      ELSE 'It opens connections of its own, with a role and a tenant that are decided elsewhere.' END,
       NULL
  FROM pg_extension e WHERE e.extname IN ('dblink', 'postgres_fdw', 'pg_cron')
UNION ALL
SELECT 'info', 'outside', 'Other databases of the cluster, the application''s code, a pooler''s configuration, backups and pg_hba.conf are not examined.', NULL
UNION ALL
SELECT 'info', 'settings', format('Role %I may not see the server''s settings for superusers only.', current_user), NULL
 WHERE NOT pg_has_role('pg_read_all_settings', 'USAGE')
