-- The rows of one tenant; {word} and {number} are the canaries of B, and plain things of A's. By a session that acts for {tenant}.
INSERT INTO notes (tenant_id, id, body, mood, stamp) SELECT '{tenant}', n, '{word}-notes-' || n || '-{word}', '{word}', '2025-05-05' FROM generate_series(1, {rows}) n;
INSERT INTO notes (tenant_id, id, body, parent, mood) SELECT '{tenant}', 100 + n, '{word}-answers-' || n || '-{word}', 1 + n % 3, '{word}' FROM generate_series(1, {rows}) n;
INSERT INTO leads (tenant_id, id, document) SELECT '{tenant}', n, jsonb_build_object('name', '{word}-leads-' || n || '-{word}', 'budget', {number}) FROM generate_series(1, {rows}) n;
SELECT bulkhead.put_rule_set('lead', '[{"id": "{word} budget", "when": {">": [{"var": "budget"}, 1]}, "score": {"var": "budget"}}]');
