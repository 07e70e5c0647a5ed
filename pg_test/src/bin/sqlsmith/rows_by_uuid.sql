-- As rows.sql, for tables whose tenants are uuids.
INSERT INTO accounts SELECT '{tenant}', n, '{word}-accounts-' || n || '-{word}', '{word}' || n || '@{word}.example', {number}, {number}::numeric * 1000000 + n,
       jsonb_build_object('k', '{word}-details-' || n, 'n', {number}::bigint * 1000 + n, 'deep', jsonb_build_array('{word}', n)), ARRAY['{word}-tag', '{word}-' || n],
       convert_to('{word}-secret-' || n || '-{word}', 'UTF8'), '2025-03-03', '{tenant}' FROM generate_series(1, {rows}) n;
INSERT INTO orders SELECT '{tenant}', n, 1 + n % {rows}, '{word}-orders-' || n || '-{word}', {number}::bigint * 1000 + n, '2025-04-04' FROM generate_series(1, {rows} * 2) n;
INSERT INTO order_lines SELECT '{tenant}', 1 + n % {rows}, n, '{word}-lines-' || n || '-{word}', {number}, {number} FROM generate_series(1, {rows} * 2) n;
INSERT INTO events SELECT '{tenant}', date '2024-06-01' + n * 40, CASE WHEN n % 2 = 0 THEN 'click' ELSE '{word}' END, json_build_object('{word}', {number}) FROM generate_series(1, {rows} * 2) n;
INSERT INTO documents SELECT '{tenant}', n, '{word}-documents-' || n || '-{word}', repeat('{word} ', 20), to_tsvector('simple', '{word} of {word}') FROM generate_series(1, {rows}) n;
INSERT INTO old_documents SELECT '{tenant}', n, '{word}-old-' || n || '-{word}', '{word}', NULL, '2021-01-01', '{word}-reason' FROM generate_series(1, {rows}) n;
INSERT INTO stock SELECT '{tenant}', 'sku ' || n, {number}::bigint * 1000, '{word}-shelf-' || n || '-{word}' FROM generate_series(1, {rows}) n;
UPDATE orders SET placed = placed + 1 WHERE id % 2 = 0;
