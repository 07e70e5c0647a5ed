-- Nobody's rows can be told apart any more.
SELECT 'error',
       p.name,
       CASE WHEN p.attnum IS NULL THEN format('The tenant column %s is gone.', p.quoted)
            ELSE format('The tenant column %s has a type that cannot tell tenants apart safely.', p.quoted) END,
       NULL
  FROM protected p WHERE p.accessor IS NULL
