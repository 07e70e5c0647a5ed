-- A statement that forgot its tenant then finds no rows, and nobody notices.
SELECT 'warning', 'bulkhead.missing_context',
       'It is empty in this session: a statement that forgot its tenant finds no rows instead of failing.', NULL
 WHERE current_setting('bulkhead.missing_context') = 'empty'
UNION ALL
SELECT 'warning', s.scope, 'Its sessions run with bulkhead.missing_context = empty: a forgotten tenant is not noticed.', s.reset
  FROM preset s WHERE s.name = 'bulkhead.missing_context' AND s.value = 'empty'
