-- The restrictive policy that no other can widen: missing, or no longer what protect() made. The server prints a column of
-- type varchar or of a domain with a cast.
SELECT 'error',
       p.name,
       CASE WHEN o.oid IS NULL THEN 'The restrictive policy bulkhead_floor is missing: any permissive policy shows what it likes.'
            ELSE 'The restrictive policy bulkhead_floor is not the one that protect() made.' END,
       repair.call
  FROM protected p
  JOIN repair USING (oid)
  LEFT JOIN pg_policy o ON o.polrelid = p.oid AND o.polname = 'bulkhead_floor'
 WHERE p.accessor IS NOT NULL
   AND (o.oid IS NULL OR o.polpermissive OR o.polcmd <> '*' OR o.polroles <> '{0}' OR o.polqual IS NULL
        OR EXISTS (
          SELECT FROM (VALUES (pg_get_expr(o.polqual, p.oid)), (pg_get_expr(coalesce(o.polwithcheck, o.polqual), p.oid))) AS e(printed)
           WHERE e.printed <> ALL (
             SELECT format('(%s = %s)', c.printed, p.accessor)
               FROM unnest(ARRAY[p.quoted, '(' || p.quoted || ')::text', '(' || p.quoted || ')::uuid',
                                 '(' || p.quoted || ')::bigint', '(' || p.quoted || ')::integer']) AS c(printed))))
