-- Somebody has disabled it since protect(): the policies are there and do nothing.
SELECT 'error',
       r.name,
       'Row level security is disabled, so its policies do nothing.',
       format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', r.name)
  FROM registered r WHERE NOT r.relrowsecurity
