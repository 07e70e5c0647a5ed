-- What is replicated is not filtered.
SELECT 'info',
       quote_ident(r.rolname),
       'REPLICATION: it may copy the whole cluster, or decode all changes of all tenants. It is trusted like a superuser.',
       NULL
  FROM pg_roles r WHERE r.rolreplication AND NOT r.rolsuper
