-- The switch for emergencies. A server whose library knows no seal has no such setting.
SELECT 'error', 'bulkhead.seal',
       'The seal is off: superuser and BYPASSRLS roles see every tenant''s rows.', NULL
 WHERE current_setting('bulkhead.seal', true) = 'off'
