-- As rows.sql, for tables whose tenants are numbers.
INSERT INTO visits SELECT {tenant}, n, '{word}-visits-' || n || '-{word}', {number}, '{uuid}' FROM generate_series(1, {rows}) n;
INSERT INTO metrics SELECT {tenant}, '{word}-metrics-' || n || '-{word}', {number}::numeric * 1000 + n, '[2025-01-01,2025-02-02)' FROM generate_series(1, {rows}) n;
