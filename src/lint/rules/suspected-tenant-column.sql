-- In a schema that uses other names, the usual names of a tenant column: a hint for the first look.
SELECT 'info',
       r.name,
       format('Column %I is a usual name of a tenant column. If it tells tenants apart: SELECT bulkhead.protect(%L, %L).',
              a.attname, r.name, a.attname),
       NULL
  FROM relation r
  JOIN pg_attribute a ON a.attrelid = r.oid AND NOT a.attisdropped
   AND a.attname IN ('org_id', 'organization_id', 'organisation_id', 'workspace_id', 'account_id', 'company_id',
                     'team_id', 'site_id', 'shop_id', 'store_id', 'customer_id', 'project_id')
   AND a.attname NOT IN (SELECT n.name FROM tenant_name n)
 WHERE r.relkind IN ('r', 'p') AND NOT r.relispartition
   AND r.oid NOT IN (SELECT t.oid FROM tree t)
