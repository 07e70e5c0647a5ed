-- What a tenant has in Bulkhead's own tables. By a plain role that acts for {tenant}.
SELECT bulkhead.idempotency_claim('shared key ' || n, 'fingerprint {word}') FROM generate_series(1, {rows}) n;
SELECT bulkhead.idempotency_complete('shared key ' || n, 200, jsonb_build_object('answer', '{word}-answer-' || n || '-{word}')) FROM generate_series(1, {rows} - 2) n;
