-- Copies of the orders for the scenes that compare: one without a policy, two with the policies that teams write by
-- hand, one for Bulkhead. Made before anything is protected, and in the same order on disk.

CREATE TABLE orders_plain        AS SELECT organization_id, customer, product, total FROM orders ORDER BY placed_at;
CREATE TABLE orders_by_hand      AS TABLE orders_plain;
CREATE TABLE orders_by_subselect AS TABLE orders_plain;
CREATE TABLE orders_bulkhead     AS TABLE orders_plain;

ALTER TABLE orders_by_hand ENABLE ROW LEVEL SECURITY;
CREATE POLICY by_hand ON orders_by_hand
  USING (organization_id = current_setting('app.tenant', true)::uuid);

-- The well-known trick: the setting is read once for each query, not for each row.
ALTER TABLE orders_by_subselect ENABLE ROW LEVEL SECURITY;
CREATE POLICY by_subselect ON orders_by_subselect
  USING (organization_id = (SELECT current_setting('app.tenant', true)::uuid));

-- protect() wants an index that begins with the tenant, and builds none on a table of this size.
CREATE INDEX ON orders_bulkhead (organization_id);
