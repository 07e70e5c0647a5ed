-- A day of last week with :keys keys, and the same rows in a table without partitions.
CREATE TABLE bulkhead.keys_of_last_week (LIKE bulkhead.idempotency_key, PRIMARY KEY (digest));
INSERT INTO bulkhead.keys_of_last_week
SELECT gen_random_uuid(), date_trunc('day', now(), 'UTC') - interval '132 hours', now() - interval '5 days', i, 1, 'f', 201, 'somebody', 'pay-' || i,
       NULL, '{"paid": 990}', now() - interval '5 days'
  FROM generate_series(1, :keys) i;
CREATE TABLE keys_in_one_table (digest uuid PRIMARY KEY, at timestamptz NOT NULL, key text, response jsonb);
INSERT INTO keys_in_one_table SELECT digest, claimed_at, key, response FROM bulkhead.keys_of_last_week;
DO $$
DECLARE
  day timestamptz := date_trunc('day', now(), 'UTC') - interval '144 hours';
BEGIN
  EXECUTE format('ALTER TABLE bulkhead.idempotency_key ATTACH PARTITION bulkhead.keys_of_last_week FOR VALUES FROM (%L) TO (%L)', day, day + interval '24 hours');
END $$;
