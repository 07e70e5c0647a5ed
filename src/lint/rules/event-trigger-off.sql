-- Without them a new partition gets no policies, and a renamed column is lost sight of.
SELECT 'error', quote_ident(w.name),
       CASE WHEN t.oid IS NULL THEN 'The event trigger is gone: DROP and CREATE EXTENSION bring it back.'
            ELSE 'The event trigger does not fire in every session: partitions and children that appear get no policies.' END,
       CASE WHEN t.oid IS NOT NULL THEN format('ALTER EVENT TRIGGER %I ENABLE ALWAYS', w.name) END
  FROM (VALUES ('bulkhead_follow_ddl'), ('bulkhead_follow_drop'), ('bulkhead_before_alter_table')) AS w(name)
  LEFT JOIN pg_event_trigger t ON t.evtname = w.name
 WHERE t.evtenabled IS DISTINCT FROM 'A'
UNION ALL
SELECT 'error', format('%I on bulkhead.protection', t.tgname),
       'The trigger does not fire in every session: sessions do not hear of tables that become protected.',
       format('ALTER TABLE bulkhead.protection ENABLE ALWAYS TRIGGER %I', t.tgname)
  FROM pg_trigger t
 WHERE t.tgrelid = 'bulkhead.protection'::regclass AND t.tgname = 'announce' AND t.tgenabled <> 'A'
