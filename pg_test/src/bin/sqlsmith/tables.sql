-- What random queries run over: the same in the database that is protected and in the plain twins of it. Nothing here is of Bulkhead.

-- Tenants by uuid.
CREATE TABLE accounts (
    tenant_id uuid NOT NULL, id bigint NOT NULL, name text NOT NULL, email text, code int, balance numeric,
    details jsonb, tags text[], secret bytea, born timestamptz, ref uuid,
    shout text GENERATED ALWAYS AS (upper(name)) STORED,
    PRIMARY KEY (tenant_id, id));
CREATE INDEX ON accounts (lower(email));
CREATE INDEX ON accounts USING gin (details);
CREATE STATISTICS accounts_together (mcv, dependencies) ON code, balance FROM accounts;

CREATE TABLE orders (
    tenant_id uuid NOT NULL, id bigint NOT NULL, account bigint, note varchar(200), amount bigint, placed date,
    PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, account) REFERENCES accounts ON UPDATE CASCADE ON DELETE CASCADE);
CREATE INDEX ON orders (tenant_id, account);
CREATE TABLE order_lines (
    tenant_id uuid NOT NULL, "order" bigint NOT NULL, line int NOT NULL, item text, pieces int, price double precision,
    PRIMARY KEY (tenant_id, "order", line), FOREIGN KEY (tenant_id, "order") REFERENCES orders ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE audit (tenant_id uuid NOT NULL, at timestamptz DEFAULT '2020-02-02', what text, old jsonb);
CREATE INDEX ON audit (tenant_id);

CREATE TABLE events (tenant_id uuid NOT NULL, at date NOT NULL, kind text NOT NULL, payload json) PARTITION BY RANGE (at);
CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (kind);
CREATE TABLE events_2025_click PARTITION OF events_2025 FOR VALUES IN ('click');
CREATE TABLE events_2025_other PARTITION OF events_2025 DEFAULT;
CREATE TABLE events_rest PARTITION OF events DEFAULT;

CREATE TABLE documents (tenant_id uuid NOT NULL, id bigint, title text, body text, search tsvector);
CREATE TABLE old_documents (archived date, reason text) INHERITS (documents);

CREATE TABLE stock (tenant_id uuid NOT NULL, sku text NOT NULL, pieces bigint NOT NULL CHECK (pieces >= 0), shelf text, PRIMARY KEY (tenant_id, sku));

-- Tenants by text.
CREATE TABLE notes (
    tenant_id text NOT NULL, id bigint NOT NULL, body text, parent bigint, mood name, stamp timestamptz, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, parent) REFERENCES notes ON DELETE CASCADE);
CREATE TABLE leads (
    tenant_id varchar(80) NOT NULL, id bigint NOT NULL, document jsonb, score numeric, status text DEFAULT 'pending_score', PRIMARY KEY (tenant_id, id));

-- Tenants by bigint.
CREATE TABLE visits (tenant_id bigint NOT NULL, id bigint NOT NULL, page text, seconds int, visitor uuid, PRIMARY KEY (tenant_id, id));
CREATE TABLE metrics (tenant_id bigint NOT NULL, name text NOT NULL, value numeric, during tstzrange) PARTITION BY HASH (tenant_id);
CREATE TABLE metrics_0 PARTITION OF metrics FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE metrics_1 PARTITION OF metrics FOR VALUES WITH (MODULUS 2, REMAINDER 1);

-- Nobody's, for all.
CREATE TABLE prices (sku text PRIMARY KEY, price numeric, currency text);
INSERT INTO prices SELECT 'sku ' || n, n * 1.5, 'EUR' FROM generate_series(1, 8) n;

CREATE VIEW account_orders AS SELECT a.name, a.email, o.id, o.note, o.amount FROM accounts a JOIN orders o ON (o.tenant_id, o.account) = (a.tenant_id, a.id);
CREATE VIEW order_totals AS SELECT o.account, count(*) AS orders, sum(l.pieces * l.price) AS total, max(l.item) AS last_item
    FROM orders o LEFT JOIN order_lines l ON l."order" = o.id GROUP BY o.account;
CREATE VIEW all_texts WITH (security_barrier) AS
    SELECT name AS text, 'account' AS of FROM accounts UNION ALL SELECT body, 'note' FROM notes UNION ALL SELECT title, 'document' FROM documents;
CREATE VIEW threads AS WITH RECURSIVE thread AS (
    SELECT id, body, 1 AS depth FROM notes WHERE parent IS NULL
    UNION ALL SELECT n.id, thread.body || n.body, depth + 1 FROM notes n JOIN thread ON n.parent = thread.id) SELECT * FROM thread;
CREATE VIEW ranked AS SELECT id, page, rank() OVER (PARTITION BY page ORDER BY seconds) AS place, sum(seconds) OVER () AS all_seconds FROM visits;
CREATE VIEW cheap_accounts AS SELECT id, tenant_id, name, code, balance FROM accounts WHERE balance < 1000000000000 WITH CHECK OPTION;

-- Functions that are inlined, that are not, that tell what they see.
CREATE FUNCTION accounts_like(text) RETURNS SETOF accounts LANGUAGE sql STABLE AS 'SELECT * FROM accounts WHERE name LIKE $1';
CREATE VIEW accounts_found AS SELECT * FROM accounts_like('%');
CREATE FUNCTION name_of(bigint) RETURNS text LANGUAGE sql STABLE AS 'SELECT max(name) FROM accounts WHERE id >= $1';
CREATE FUNCTION whole(accounts) RETURNS text LANGUAGE sql STABLE AS 'SELECT to_jsonb($1)::text';
CREATE FUNCTION notes_of(kind text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN RETURN (SELECT string_agg(body, kind ORDER BY body) FROM notes); END $$;
CREATE FUNCTION table_text(name) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE all_of_it text; BEGIN
    EXECUTE format('SELECT string_agg(t::text, '';'' ORDER BY t::text) FROM %I t', CASE WHEN $1 < 'm' THEN 'orders' ELSE 'documents' END) INTO all_of_it;
    RETURN all_of_it; END $$;
-- Cheaper than anything, so that the planner would like to ask them first. The word is in two parts: it stands in no catalog.
CREATE FUNCTION peek(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$
BEGIN IF $1 ~* ('kanarien' || 'zwitscher') THEN RAISE 'seen: %', $1; END IF; RETURN true; END $$;
CREATE FUNCTION peek(bigint) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$
BEGIN IF $1::text LIKE '19182' || '73645%' THEN RAISE 'seen: %', $1; END IF; RETURN true; END $$;
CREATE FUNCTION peek_both(text, text) RETURNS boolean LANGUAGE sql COST 0.0001 AS 'SELECT peek($1) AND peek($2)';
CREATE OPERATOR <?> (LEFTARG = text, RIGHTARG = text, FUNCTION = peek_both, RESTRICT = eqsel, JOIN = eqjoinsel, COMMUTATOR = <?>);
CREATE AGGREGATE last_text(text) (SFUNC = textcat, STYPE = text, INITCOND = '');

CREATE FUNCTION record_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit (tenant_id, what, old) VALUES (coalesce(NEW.tenant_id, OLD.tenant_id), TG_OP, to_jsonb(OLD));
    RETURN NULL;
END $$;
CREATE TRIGGER record_change AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION record_change();
CREATE FUNCTION count_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM count(*), string_agg(changed::text, '') FROM changed; RETURN NULL; END $$;
CREATE TRIGGER count_changes AFTER UPDATE ON accounts REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_changes();
CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.body := coalesce(NEW.body, (SELECT max(body) FROM notes)); RETURN NEW; END $$;
CREATE TRIGGER tidy BEFORE INSERT OR UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION tidy();
