-- A shop system: 40 organizations by uuid, what they have in stock, and what was ordered from them.
-- Keys begin with the tenant, as they should: a foreign key can then never point into another tenant.

CREATE TABLE organizations (
  id   uuid PRIMARY KEY,
  name text NOT NULL
);

CREATE TABLE inventory (
  organization_id uuid    NOT NULL REFERENCES organizations,
  product         text    NOT NULL,
  on_hand         integer NOT NULL,
  PRIMARY KEY (organization_id, product)
);

CREATE TABLE orders (
  organization_id uuid          NOT NULL,
  id              bigint        GENERATED ALWAYS AS IDENTITY,
  customer        text          NOT NULL,
  product         text          NOT NULL,
  total           numeric(10,2) NOT NULL,
  status          text          NOT NULL DEFAULT 'paid',
  placed_at       timestamptz   NOT NULL DEFAULT now()
);

INSERT INTO organizations
SELECT md5('organization ' || tree || trade)::uuid, tree || ' ' || trade
  FROM unnest('{Alder,Birch,Cedar,Elm,Hazel,Juniper,Maple,Rowan}'::text[]) AS tree,
       unnest('{Books,Bikes,Tea,Toys,Tools}'::text[]) AS trade;

INSERT INTO inventory
SELECT id, format('item %s', n), 10 + (n * 37) % 90
  FROM organizations, generate_series(1, 100) AS n;

-- Scattered over the organizations, so that neighbours in time belong to different tenants.
WITH numbered AS (SELECT id, row_number() OVER (ORDER BY id) - 1 AS number FROM organizations)
INSERT INTO orders (organization_id, customer, product, total, status, placed_at)
SELECT o.id,
       (ARRAY['Ana','Ben','Chloe','Dev','Eve','Finn','Gita','Hugo','Iris','Jon'])[1 + n * 7 % 10]
         || ' ' || chr(65 + (n * 11 % 26)) || '.',
       format('item %s', 1 + (n * 31) % 100),
       5 + (n * 1301 % 24000) / 100.0,
       (ARRAY['paid','paid','paid','packed','sent'])[1 + n % 5],
       timestamptz '2026-01-01 08:00+00' + n * interval '30 seconds'
  FROM generate_series(1, 200000) AS n
  JOIN numbered o ON o.number = (n * 17 + n / 10) % 40;

ALTER TABLE orders ADD PRIMARY KEY (organization_id, id);
CREATE INDEX ON orders (organization_id, placed_at);
CREATE INDEX ON orders (placed_at);
ALTER TABLE orders ADD FOREIGN KEY (organization_id, product) REFERENCES inventory;
ANALYZE organizations, inventory, orders;
