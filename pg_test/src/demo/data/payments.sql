CREATE TABLE payments (organization_id uuid NOT NULL, amount bigint NOT NULL, paid_at timestamptz NOT NULL DEFAULT now());
SELECT bulkhead.protect('payments', 'organization_id');
GRANT SELECT, INSERT ON payments TO app;
