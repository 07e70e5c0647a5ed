-- A day that ends in :seconds seconds, for the table of keys and for one that is made by hand. Its value is when.
CREATE TABLE keys_by_hand (
  key text NOT NULL,
  at  timestamptz NOT NULL DEFAULT clock_timestamp()
) PARTITION BY RANGE (at);
CREATE TABLE keys_by_hand_1 (LIKE keys_by_hand INCLUDING ALL, PRIMARY KEY (key));
CREATE TABLE keys_by_hand_2 (LIKE keys_by_hand INCLUDING ALL, PRIMARY KEY (key));
ALTER TABLE keys_by_hand OWNER TO owner;
CREATE TABLE bulkhead.keys_before_midnight (LIKE bulkhead.idempotency_key, PRIMARY KEY (digest));
CREATE TABLE bulkhead.keys_after_midnight (LIKE bulkhead.idempotency_key, PRIMARY KEY (digest));
DO $$
DECLARE
  today    timestamptz := date_trunc('day', now(), 'UTC') - interval '24 hours';
  midnight timestamptz := clock_timestamp() + interval ':seconds seconds';
BEGIN
  EXECUTE format('ALTER TABLE keys_by_hand ATTACH PARTITION keys_by_hand_1 FOR VALUES FROM (%L) TO (%L)', today, midnight);
  EXECUTE format('ALTER TABLE keys_by_hand ATTACH PARTITION keys_by_hand_2 FOR VALUES FROM (%L) TO (%L)', midnight, today + interval '72 hours');
  EXECUTE format('ALTER TABLE bulkhead.idempotency_key ATTACH PARTITION bulkhead.keys_before_midnight FOR VALUES FROM (%L) TO (%L)', today, midnight);
  EXECUTE format('ALTER TABLE bulkhead.idempotency_key ATTACH PARTITION bulkhead.keys_after_midnight FOR VALUES FROM (%L) TO (%L)', midnight, today + interval '72 hours');
  PERFORM set_config('story.midnight', midnight::text, false);
END $$;
SELECT current_setting('story.midnight');
