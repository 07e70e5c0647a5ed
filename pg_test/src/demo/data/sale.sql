-- An item on sale, once for Bulkhead and once by hand.
CREATE TABLE sale (sku text PRIMARY KEY, pieces integer NOT NULL CHECK (pieces >= 0));
INSERT INTO sale VALUES ('anchor', :pieces);
SELECT bulkhead.register_inventory('sale', 'sku', 'pieces');
CREATE TABLE sale_by_hand (LIKE sale INCLUDING ALL);
INSERT INTO sale_by_hand SELECT * FROM sale;
CREATE TABLE sold_by_hand (order_id text PRIMARY KEY);
GRANT SELECT, UPDATE ON sale, sale_by_hand TO app;
GRANT SELECT, INSERT ON sold_by_hand TO app;
