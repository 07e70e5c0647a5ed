-- LEAKPROOF lets a function see rows before the policies have spoken. It is a promise that only its author can keep.
SELECT 'warning',
       r.name,
       'It is marked LEAKPROOF, so it is handed rows of other tenants before the policy removes them; an error or a notice tells their values.',
       format('ALTER ROUTINE %s NOT LEAKPROOF', r.name)
  FROM routine r WHERE r.proleakproof
