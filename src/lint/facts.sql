-- What every rule starts from. A rule is a query over these; it returns level, object, detail and remedy.
-- It runs as the caller, under search_path = pg_catalog, pg_temp.
WITH RECURSIVE
-- Tables and views of users: not the system's, not an extension's, not temporary.
relation AS MATERIALIZED (
  SELECT c.oid, c.relname, c.relkind, c.relowner, c.relrowsecurity, c.relforcerowsecurity, c.relispartition,
         c.reloptions, c.relacl, format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
     AND n.nspname NOT IN ('information_schema', 'bulkhead') AND n.nspname !~ '^pg_'
     AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')),
-- A domain and the type at its bottom.
domain(oid, base) AS (
  SELECT t.oid, t.typbasetype FROM pg_type t WHERE t.typtype = 'd'
  UNION ALL
  SELECT d.oid, t.typbasetype FROM domain d JOIN pg_type t ON t.oid = d.base AND t.typtype = 'd'),
bottom(oid, base) AS (
  SELECT d.oid, d.base FROM domain d JOIN pg_type t ON t.oid = d.base AND t.typtype <> 'd'),
-- accessor: what the column is compared with; NULL where the column is gone or its type cannot tell tenants apart.
registered AS MATERIALIZED (
  SELECT r.*, t.shared, t.sealed, t.tenant_column, quote_ident(t.tenant_column) AS quoted, a.attnum, a.attnotnull,
         CASE coalesce(b.base, a.atttypid)
           WHEN 'uuid'::regtype THEN 'bulkhead.tenant_id()'
           WHEN 'text'::regtype THEN 'bulkhead.tenant_id_text()'
           WHEN 'varchar'::regtype THEN 'bulkhead.tenant_id_text()'
           WHEN 'bigint'::regtype THEN 'bulkhead.tenant_id_bigint()'
           WHEN 'integer'::regtype THEN 'bulkhead.tenant_id_bigint()'
         END AS accessor
    FROM bulkhead.protected_tables t
    JOIN relation r ON r.oid = t.relation
    LEFT JOIN pg_attribute a ON a.attrelid = r.oid AND a.attname = t.tenant_column AND NOT a.attisdropped
    LEFT JOIN bottom b ON b.oid = a.atttypid),
protected AS MATERIALIZED (SELECT r.* FROM registered r WHERE NOT r.shared),
-- A table and the topmost registered table above it, itself where there is none; unregistered children are in it too.
tree(oid, root) AS (
  SELECT p.oid, p.oid FROM registered p
   WHERE NOT EXISTS (SELECT FROM pg_inherits i JOIN registered q ON q.oid = i.inhparent WHERE i.inhrelid = p.oid)
  UNION
  SELECT i.inhrelid, t.root FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid),
-- The call that puts the protection of a table's tree back.
repair(oid, call) AS (
  SELECT t.oid, CASE WHEN r.shared THEN format('SELECT bulkhead.share(%L)', r.name)
                     ELSE format('SELECT bulkhead.protect(%L, %L)', r.name, r.tenant_column) END
    FROM tree t JOIN registered r ON r.oid = t.root),
-- The tables that are protected by their own key: the tenants themselves.
tenants(oid, attnum) AS (
  SELECT p.oid, p.attnum FROM protected p JOIN pg_index x ON x.indrelid = p.oid
   WHERE x.indisunique AND x.indpred IS NULL AND x.indnkeyatts = 1 AND x.indkey[0] = p.attnum),
-- The names that a tenant column goes by in this database.
tenant_name(name) AS (
  SELECT p.tenant_column FROM protected p WHERE p.oid NOT IN (SELECT t.oid FROM tenants t)
  UNION SELECT 'tenant_id'),
-- What a view or materialized view reads, at any depth.
direct(reader, read) AS MATERIALIZED (
  SELECT DISTINCT w.ev_class, d.refobjid
    FROM pg_rewrite w
    JOIN relation v ON v.oid = w.ev_class AND v.relkind IN ('v', 'm')
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
     AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class
   WHERE w.ev_type = '1'),
reads(reader, read) AS (
  SELECT d.reader, d.read FROM direct d
  UNION
  SELECT r.reader, d.read FROM reads r JOIN direct d ON d.reader = r.read),
-- Functions and procedures of users.
routine AS MATERIALIZED (
  SELECT p.oid, p.oid::regprocedure::text AS name, p.proname, p.proowner, p.prosecdef, p.proleakproof, p.provolatile,
         p.proconfig, p.proacl, p.prosqlbody IS NOT NULL AS parsed, l.lanname,
         coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) AS body
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
   WHERE p.prokind IN ('f', 'p')
     AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'bulkhead') AND n.nspname !~ '^pg_(toast|temp)'
     AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')),
-- Our settings as ALTER ROLE and ALTER DATABASE have set them here, and the statement that takes one back.
preset(name, value, scope, reset) AS (
  SELECT split_part(c.setting, '=', 1), substr(c.setting, strpos(c.setting, '=') + 1),
         concat_ws(' ', 'role ' || quote_ident(r.rolname), 'database ' || quote_ident(d.datname)),
         CASE WHEN r.oid IS NULL THEN format('ALTER DATABASE %I', d.datname)
              WHEN d.oid IS NULL THEN format('ALTER ROLE %I', r.rolname)
              ELSE format('ALTER ROLE %I IN DATABASE %I', r.rolname, d.datname) END
         || ' RESET ' || split_part(c.setting, '=', 1)
    FROM pg_db_role_setting s
    CROSS JOIN unnest(s.setconfig) AS c(setting)
    LEFT JOIN pg_roles r ON r.oid = s.setrole
    LEFT JOIN pg_database d ON d.oid = s.setdatabase
   WHERE c.setting LIKE 'bulkhead.%' AND (s.setdatabase = 0 OR d.datname = current_database())
     AND (r.oid IS NOT NULL OR d.oid IS NOT NULL))
