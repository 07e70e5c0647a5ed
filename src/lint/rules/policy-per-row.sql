-- What a policy calls or looks up for each row. A call in a sub-select of its own, (SELECT f()), runs once; so does a sub-select
-- that does not mention the table's columns.
WITH policy AS (
  SELECT o.oid, o.polname, r.oid AS relation, r.name, r.relname,
         concat_ws(' ', pg_get_expr(o.polqual, r.oid), pg_get_expr(o.polwithcheck, r.oid)) AS expression
    FROM pg_policy o JOIN relation r ON r.oid = o.polrelid),
reason AS (
  SELECT p.oid,
         CASE WHEN f.provolatile = 'v' THEN format('calls the volatile function %s for each row', f.oid::regprocedure)
              ELSE format('calls %s, which reads tables, for each row', f.oid::regprocedure) END AS what
    FROM policy p
    JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
    JOIN pg_proc f ON f.oid = d.refobjid
    JOIN pg_language l ON l.oid = f.prolang
   WHERE f.pronamespace <> 'bulkhead'::regnamespace
     AND (f.provolatile = 'v'
          OR l.lanname NOT IN ('c', 'internal') AND coalesce(pg_get_function_sqlbody(f.oid), f.prosrc) ~* '\mfrom\M')
     AND strpos(regexp_replace(p.expression, '\( SELECT ([^()]|\([^()]*\))* AS [^()]+\)', '', 'g'), f.proname || '(') > 0
  UNION ALL
  SELECT p.oid, format('looks into %s for each row', d.refobjid::regclass)
    FROM policy p
    JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_class'::regclass
     AND d.refobjid <> p.relation
    JOIN pg_class c ON c.oid = d.refobjid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
   WHERE strpos(p.expression, quote_ident(p.relname) || '.') > 0)
SELECT 'warning',
       format('%I on %s', p.polname, p.name),
       format('The policy %s. Wrap a call that does not depend on the row as (SELECT ...), or compare with a claim of the context.',
              string_agg(DISTINCT reason.what, ', and ')),
       NULL
  FROM policy p JOIN reason USING (oid)
 GROUP BY p.oid, p.polname, p.name
