-- Behind a transaction pooler, a tenant that a session keeps is the next client's.
SELECT 'info', quote_ident(p.pooler),
       'Sessions seem to come through a pooler. In transaction mode, set the tenant with SET LOCAL or set_tenant() inside each transaction, never with SET.',
       NULL
  FROM (SELECT DISTINCT lower(m.name[1]) AS pooler
          FROM pg_stat_activity a
          CROSS JOIN LATERAL regexp_match(concat_ws(' ', a.application_name, a.usename), 'pgbouncer|pgcat|supavisor|odyssey|pgdog', 'i') AS m(name)
         WHERE m.name IS NOT NULL) p
