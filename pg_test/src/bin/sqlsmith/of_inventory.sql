-- The same, where the tenant has stock.
SELECT bulkhead.decrement_inventory('stock', 'order ' || n, 'sku ' || 1 + n % 5, n) FROM generate_series(1, {rows}) n;
SELECT bulkhead.decrement_inventory('stock', '{word} order ' || n, '{word} item', n) FROM generate_series(1, {rows}) n;
SELECT bulkhead.enqueue_decrement('stock', '{word} queued ' || n, '{word} item', n) FROM generate_series(1, {rows}) n;
