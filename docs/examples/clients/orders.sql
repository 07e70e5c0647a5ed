-- The tables of the examples in this folder; run by their owner, with the extension in place.

CREATE TABLE orders (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL,
    item      text NOT NULL,
    quantity  integer NOT NULL CHECK (quantity > 0)
);
CREATE INDEX ON orders (tenant_id, id);
SELECT bulkhead.protect('orders');

CREATE TABLE stock (
    tenant_id text NOT NULL,
    sku       text NOT NULL,
    pieces    integer NOT NULL CHECK (pieces >= 0),
    PRIMARY KEY (tenant_id, sku)
);
SELECT bulkhead.protect('stock');
SELECT bulkhead.register_inventory('stock', item_column => 'sku', quantity_column => 'pieces');
