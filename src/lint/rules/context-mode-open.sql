-- In mode open, any statement may choose any tenant at any time: one injected SET is enough.
SELECT 'warning', 'bulkhead.context_mode',
       'It is open in this session: injected SQL can switch the tenant within a transaction.', NULL
 WHERE current_setting('bulkhead.context_mode') = 'open'
UNION ALL
SELECT 'warning', s.scope, 'Its sessions run with bulkhead.context_mode = open: injected SQL can switch the tenant within a transaction.', s.reset
  FROM preset s WHERE s.name = 'bulkhead.context_mode' AND s.value = 'open'
