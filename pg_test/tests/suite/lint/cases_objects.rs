//! The cases of tables, policies, keys, indexes, views and functions.

use super::cases::Case;

const ORDERS: &str = "shop.orders";

pub const TABLES: &[Case] = &[
    Case::new("unprotected-table", "error", "shop.notes", "CREATE TABLE shop.notes (id int, tenant_id uuid NOT NULL)")
        .mended(),
    Case::new("unprotected-table", "error", "shop.copy", "CREATE TABLE shop.copy AS TABLE shop.orders").mended(),
    Case::new("unprotected-table", "error", "shop.copy", "CREATE TABLE shop.copy (LIKE shop.orders INCLUDING ALL)")
        .mended(),
    // The same name again is another table.
    Case::new(
        "unprotected-table",
        "error",
        "shop.comments",
        "DROP TABLE shop.comments; CREATE TABLE shop.comments (tenant_id text)",
    )
    .mended(),
    // The name of another protected table's column, and a reference to the tenants' own key.
    Case::new(
        "unprotected-table",
        "error",
        "shop.b",
        "CREATE TABLE shop.a (org text); SELECT bulkhead.protect('shop.a', 'org'); CREATE TABLE shop.b (org text)",
    )
    .mended(),
    Case::new(
        "unprotected-table",
        "error",
        "shop.members",
        "CREATE TABLE shop.members (workspace uuid REFERENCES shop.tenants, name text)",
    )
    .mended(),
    // Partitions are reported with their parent; what cannot be protected has no remedy.
    Case::new(
        "unprotected-table",
        "error",
        "shop.\"Odd \"\"name\"",
        "CREATE TABLE shop.\"Odd \"\"name\" (tenant_id numeric) PARTITION BY LIST (tenant_id)",
    ),
    Case::new("rls-disabled", "error", ORDERS, "ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY").mended(),
    Case::new("rls-disabled", "error", "shop.events_2026", "ALTER TABLE shop.events_2026 DISABLE ROW LEVEL SECURITY")
        .mended(),
    Case::new("rls-disabled", "error", "shop.prices", "ALTER TABLE shop.prices DISABLE ROW LEVEL SECURITY").mended(),
    Case::new("rls-not-forced", "error", ORDERS, "ALTER TABLE shop.orders NO FORCE ROW LEVEL SECURITY").mended(),
    Case::new("floor-policy", "error", ORDERS, "DROP POLICY bulkhead_floor ON shop.orders").mended(),
    Case::new("floor-policy", "error", "shop.events_2026", "DROP POLICY bulkhead_floor ON shop.events_2026").mended(),
    Case::new("floor-policy", "error", ORDERS, "ALTER POLICY bulkhead_floor ON shop.orders USING (true)").mended(),
    Case::new("floor-policy", "error", ORDERS, "ALTER POLICY bulkhead_floor ON shop.orders WITH CHECK (true)").mended(),
    Case::new("floor-policy", "error", ORDERS, "ALTER POLICY bulkhead_floor ON shop.orders TO app").mended(),
    Case::new(
        "floor-policy",
        "error",
        ORDERS,
        "DROP POLICY bulkhead_floor ON shop.orders;
         CREATE POLICY bulkhead_floor ON shop.orders USING (tenant_id = bulkhead.tenant_id())",
    )
    .mended(),
    Case::new("no-permissive-policy", "warning", ORDERS, "DROP POLICY bulkhead_tenant ON shop.orders").mended(),
    Case::new("tenant-column-lost", "error", "shop.comments", "ALTER TABLE shop.comments DROP tenant_id CASCADE"),
    Case::new(
        "tenant-column-nullable",
        "error",
        "shop.comments",
        "ALTER TABLE shop.comments ALTER tenant_id DROP NOT NULL",
    )
    .mended(),
    Case::new(
        "tenant-column-nullable",
        "error",
        "shop.events",
        "ALTER TABLE shop.events ALTER tenant_id DROP NOT NULL",
    )
    .mended(),
    Case::new(
        "unprotected-parent",
        "error",
        "shop.comments",
        "CREATE TABLE shop.everything (id bigint NOT NULL, body text);
         ALTER EVENT TRIGGER bulkhead_follow_ddl DISABLE;
         ALTER TABLE shop.comments INHERIT shop.everything",
    )
    .mended(),
    Case::new(
        "unprotected-child",
        "error",
        "shop.events_2028",
        "ALTER EVENT TRIGGER bulkhead_follow_ddl DISABLE;
         CREATE TABLE shop.events_2028 PARTITION OF shop.events FOR VALUES FROM ('2028-01-01') TO ('2029-01-01');
         ALTER TABLE shop.events_2028 OWNER TO shop_owner",
    )
    .mended(),
    Case::new("shared-table-changed", "error", "shop.prices", "DROP POLICY bulkhead_shared_update ON shop.prices")
        .mended(),
    Case::new(
        "shared-table-changed",
        "error",
        "shop.prices",
        "ALTER POLICY bulkhead_shared_insert ON shop.prices WITH CHECK (true)",
    )
    .mended(),
    Case::new(
        "child-without-tenant",
        "warning",
        "shop.attachments",
        "CREATE TABLE shop.attachments (comment_id bigint REFERENCES shop.comments, file bytea)",
    ),
    Case::new(
        "foreign-table",
        "warning",
        "shop.elsewhere",
        "CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
         CREATE FOREIGN TABLE shop.elsewhere (tenant_id uuid) SERVER nowhere",
    ),
    Case::new("undeclared-table", "info", "shop.countries", "CREATE TABLE shop.countries (code text)"),
    Case::new("suspected-tenant-column", "info", "shop.sites", "CREATE TABLE shop.sites (workspace_id bigint)"),
    Case::new("policy-widens", "warning", "evil on shop.orders", "CREATE POLICY evil ON shop.orders USING (true)")
        .mended(),
    Case::new(
        "policy-widens",
        "error",
        "evil on shop.orders",
        "CREATE POLICY evil ON shop.orders FOR SELECT TO app USING (true); DROP POLICY bulkhead_floor ON shop.orders",
    )
    .mended(),
    Case::new(
        "policy-without-effect",
        "warning",
        "mine on shop.orders",
        "CREATE POLICY mine ON shop.orders USING (status = 'open')",
    ),
    Case::new(
        "policy-reads-setting",
        "warning",
        "own on shop.notes",
        "CREATE TABLE shop.notes (owner text);
         CREATE POLICY own ON shop.notes USING (owner = (SELECT current_setting('app.owner', true)))",
    ),
    Case::new(
        "policy-per-row",
        "warning",
        "own on shop.orders",
        "CREATE FUNCTION shop.may(text) RETURNS boolean LANGUAGE sql VOLATILE AS 'SELECT true';
         CREATE POLICY own ON shop.orders AS RESTRICTIVE USING (shop.may(status))",
    ),
    Case::new(
        "policy-per-row",
        "warning",
        "own on shop.orders",
        "CREATE FUNCTION shop.is_admin() RETURNS boolean LANGUAGE plpgsql STABLE
           AS 'BEGIN RETURN EXISTS (SELECT FROM shop.prices); END';
         CREATE POLICY own ON shop.orders AS RESTRICTIVE USING (shop.is_admin())",
    ),
    Case::new(
        "policy-per-row",
        "warning",
        "own on shop.orders",
        "CREATE POLICY own ON shop.orders AS RESTRICTIVE
           USING (EXISTS (SELECT FROM shop.customers c WHERE c.id = orders.customer_id))",
    ),
];

pub const OBJECTS: &[Case] = &[
    Case::new(
        "unique-without-tenant",
        "warning",
        "shop.customers_email_key",
        "ALTER TABLE shop.customers ADD UNIQUE (email)",
    ),
    Case::new(
        "unique-without-tenant",
        "warning",
        "shop.by_email",
        "CREATE UNIQUE INDEX by_email ON shop.customers (lower(email)) INCLUDE (tenant_id)",
    ),
    // What the database makes up is only noted.
    Case::new("unique-without-tenant", "info", "shop.orders_id_key", "ALTER TABLE shop.orders ADD UNIQUE (id)"),
    Case::new(
        "foreign-key-without-tenant",
        "warning",
        "comments_order_id_fkey on shop.comments",
        "ALTER TABLE shop.orders ADD UNIQUE (id);
         ALTER TABLE shop.comments ADD FOREIGN KEY (order_id) REFERENCES shop.orders (id) ON DELETE CASCADE",
    )
    .mended(),
    Case::new(
        "foreign-key-without-tenant",
        "warning",
        "reply on shop.comments",
        "ALTER TABLE shop.comments ADD reply_to bigint, ADD CONSTRAINT reply FOREIGN KEY (reply_to) REFERENCES shop.comments",
    )
    .mended(),
    Case::new(
        "foreign-key-without-tenant",
        "warning",
        "reply on shop.comments",
        "ALTER TABLE shop.comments ADD reply_to bigint,
           ADD CONSTRAINT reply FOREIGN KEY (reply_to) REFERENCES shop.comments ON DELETE SET NULL",
    ),
    Case::new("tenant-index-missing", "warning", "shop.comments", "DROP INDEX shop.comments_tenant_id_order_id_idx").mended(),
    Case::new("tenant-index-missing", "warning", "shop.events", "DROP INDEX shop.events_tenant_id_idx").mended(),
    Case::new(
        "index-not-tenant-first",
        "info",
        "shop.comments_order_id_idx",
        "CREATE INDEX ON shop.comments (order_id)",
    ),
    Case::new("operator-not-leakproof", "info", "shop.by_word", "CREATE INDEX by_word ON shop.comments USING gin (to_tsvector('simple', body))"),
    Case::new(
        "view-without-security-invoker",
        "warning",
        "shop.all_orders",
        "SET ROLE shop_owner; CREATE VIEW shop.all_orders AS SELECT * FROM shop.orders",
    )
    .mended(),
    // At any depth, and worse where nothing binds the owner.
    Case::new(
        "view-without-security-invoker",
        "error",
        "shop.deep",
        "CREATE VIEW shop.deep AS SELECT count(*) FROM shop.open_orders",
    )
    .mended()
    .unsealed(),
    Case::new(
        "materialized-view",
        "warning",
        "shop.totals",
        "CREATE MATERIALIZED VIEW shop.totals AS SELECT count(*) FROM shop.open_orders WITH NO DATA",
    ),
    Case::new(
        "materialized-view",
        "error",
        "shop.totals",
        "CREATE MATERIALIZED VIEW shop.totals AS SELECT count(*) FROM shop.orders WITH NO DATA;
         GRANT SELECT ON shop.totals TO app",
    ),
    Case::new(
        "security-definer-search-path",
        "warning",
        "shop.risky(integer)",
        "CREATE FUNCTION shop.risky(a int) RETURNS bigint SECURITY DEFINER LANGUAGE sql AS 'SELECT count(*) FROM shop.orders'",
    )
    .mended(),
    Case::new(
        "security-definer-bypass",
        "warning",
        "shop.everyone()",
        "CREATE FUNCTION shop.everyone() RETURNS bigint SECURITY DEFINER SET search_path = shop, pg_temp
           LANGUAGE sql AS 'SELECT count(*) FROM orders'",
    )
    .unsealed(),
    Case::new(
        "immutable-reads-setting",
        "error",
        "shop.current_tenant()",
        "CREATE FUNCTION shop.current_tenant() RETURNS uuid IMMUTABLE
           LANGUAGE sql AS 'SELECT current_setting(''app.tenant'')::uuid'",
    )
    .mended(),
    Case::new(
        "immutable-reads-setting",
        "error",
        "shop.current_tenant()",
        "CREATE FUNCTION shop.current_tenant() RETURNS uuid IMMUTABLE LANGUAGE sql RETURN bulkhead.tenant_id()",
    )
    .mended(),
    Case::new(
        "leakproof-function",
        "warning",
        "shop.peek(text)",
        "CREATE FUNCTION shop.peek(a text) RETURNS boolean LEAKPROOF LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''%'', a; RETURN true; END'",
    )
    .mended(),
    Case::new(
        "publication",
        "warning",
        "shop.orders in news",
        "CREATE PUBLICATION news FOR TABLE shop.orders",
    )
    .mended(),
    Case::new("publication", "warning", "shop.orders in news", "CREATE PUBLICATION news FOR ALL TABLES"),
    Case::new("large-object-column", "info", "shop.comments", "ALTER TABLE shop.comments ADD file oid"),
    Case::new(
        "not-examined",
        "info",
        "shop.audit()",
        "CREATE FUNCTION shop.audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER audit AFTER INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.audit()",
    ),
    Case::new(
        "not-examined",
        "info",
        "rewrite rules of shop.orders",
        "CREATE RULE quiet AS ON DELETE TO shop.orders DO INSTEAD NOTHING",
    ),
];
