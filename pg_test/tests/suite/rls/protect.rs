//! protect(): one call isolates a table, for every key type, and only once it is committed.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{
    A, B, NO_ROWS, NOTHING, OF_A, OF_B, act_for, acting, assert_same, bare_orders, bare_orders_past_the_seal, orders,
    orders_past_the_seal, picture, registered, seen, seen_by,
};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        one_call_isolates_a_table,
        it_says_what_it_did,
        its_statements_alone_would_do_the_same,
        every_key_type_is_isolated,
        a_varchar_with_a_length_and_a_domain_are_keys_too,
        a_domain_over_a_domain_is_a_key,
        a_row_without_a_tenant_gets_the_contexts,
        an_existing_default_stays,
        an_identity_column_stays,
        a_generated_column_stays,
        a_second_call_does_nothing,
        a_second_call_waits_for_no_reader,
        a_tampered_table_is_repaired,
        a_rolled_back_call_leaves_nothing,
        nothing_shows_before_the_commit,
        another_column_moves_the_border,
        a_failed_move_leaves_the_former_border,
        the_tenants_own_table_is_protected_by_its_key,
        foreign_keys_between_protected_tables_hold,
    ]
}

async fn one_call_isolates_a_table(db: Database) {
    bare_orders(&db).await.run("SELECT bulkhead.protect('orders')").await;
    for role in ["app", "owner"] {
        let client = acting(&db, role, A).await;
        assert_eq!(seen(&client).await, OF_A, "{role}");
        act_for(&client, B).await;
        assert_eq!(seen(&client).await, OF_B, "{role}");
    }
}

async fn it_says_what_it_did(db: Database) {
    let owner = bare_orders(&db).await;
    let border = "USING (tenant_id OPERATOR(pg_catalog.=) bulkhead.tenant_id()) WITH CHECK (tenant_id OPERATOR(pg_catalog.=) bulkhead.tenant_id())";
    assert_eq!(
        owner.column("SELECT bulkhead.protect('orders')").await,
        [
            "CREATE INDEX ON public.orders (tenant_id)".to_owned(),
            "ALTER TABLE public.orders ALTER COLUMN tenant_id SET NOT NULL".to_owned(),
            "ALTER TABLE ONLY public.orders ALTER COLUMN tenant_id SET DEFAULT bulkhead.tenant_id()".to_owned(),
            format!("CREATE POLICY bulkhead_floor ON public.orders AS RESTRICTIVE FOR ALL TO PUBLIC {border}"),
            format!("CREATE POLICY bulkhead_tenant ON public.orders AS PERMISSIVE FOR ALL TO PUBLIC {border}"),
            "ALTER TABLE public.orders ENABLE ROW LEVEL SECURITY".to_owned(),
            "ALTER TABLE public.orders FORCE ROW LEVEL SECURITY".to_owned(),
        ]
    );
    assert_eq!(registered(&owner).await, [["orders", "tenant_id", "uuid", "f"]]);
}

async fn its_statements_alone_would_do_the_same(db: Database) {
    let owner = bare_orders(&db).await;
    owner.run("BEGIN").await;
    let statements = owner.column("SELECT bulkhead.protect('orders')").await;
    let protected = picture(&owner, "orders").await;
    owner.run("ROLLBACK").await;
    assert_ne!(picture(&owner, "orders").await, protected);
    for statement in statements {
        owner.run(&statement).await;
    }
    assert_same(&picture(&owner, "orders").await, &protected, "orders");
}

async fn every_key_type_is_isolated(db: Database) {
    let owner = db.connect("owner").await;
    for (key, first, second, stranger) in [
        ("uuid", A, B, "00000000-0000-0000-0000-000000000000"),
        ("text", "h2o", "all_county", "h2"),
        ("varchar", "h2o", "all_county", "h2"),
        ("bigint", "9223372036854775807", "-7", "0"),
        ("integer", "2147483647", "7", "9223372036854775807"),
    ] {
        let table = format!("of_{key}");
        owner
            .run(&format!(
                "CREATE TABLE {table} (org {key}, item text);
                 INSERT INTO {table} VALUES ('{first}', 'one'), ('{first}', 'two'), ('{second}', 'three');
                 SELECT bulkhead.protect('{table}', 'org')"
            ))
            .await;
        assert_eq!(seen_by(&db, first, &table, "item").await, ["one", "two"], "{key}");
        assert_eq!(seen_by(&db, second, &table, "item").await, ["three"], "{key}");
        assert_eq!(seen_by(&db, stranger, &table, "item").await, NOTHING, "{key}");
        let app = acting(&db, "app", first).await;
        app.run(&format!("INSERT INTO {table} (item) VALUES ('four')")).await;
        assert_eq!(app.column(&format!("SELECT org FROM {table} WHERE item = 'four'")).await, [first]);
        let alien = format!("INSERT INTO {table} VALUES ('{second}', 'five')");
        app.refused(&alien).await.state("42501").message_contains("new row violates row-level security policy");
    }
    let types: Vec<String> = registered(&owner).await.into_iter().map(|mut row| row.remove(2)).collect();
    assert_eq!(types, ["bigint", "integer", "text", "uuid", "character varying"]);
}

async fn a_varchar_with_a_length_and_a_domain_are_keys_too(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE DOMAIN org AS uuid CHECK (VALUE <> '00000000-0000-0000-0000-000000000000');
             CREATE DOMAIN site AS varchar(20);
             CREATE TABLE a (tenant_id org, n int); INSERT INTO a VALUES ('{A}', 1), ('{B}', 2);
             CREATE TABLE b (tenant_id site, n int); INSERT INTO b VALUES ('h2o', 1), ('all_county', 2);
             CREATE TABLE c (tenant_id varchar(10), n int); INSERT INTO c VALUES ('h2o', 1), ('all_county', 2);
             SELECT bulkhead.protect('a'), bulkhead.protect('b'), bulkhead.protect('c')"
        ))
        .await;
    for (table, tenant) in [("a", A), ("b", "h2o"), ("c", "h2o")] {
        assert_eq!(seen_by(&db, tenant, table, "n").await, ["1"], "{table}");
        // What the server prints of their policies has casts, which must not look like tampering.
        let again = owner.column(&format!("SELECT bulkhead.protect('{table}')")).await;
        assert_eq!(again, NOTHING, "{table}");
    }
}

async fn a_domain_over_a_domain_is_a_key(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE DOMAIN inner_id AS uuid; CREATE DOMAIN outer_id AS inner_id;
             CREATE TABLE t (tenant_id outer_id); INSERT INTO t VALUES ('{A}'), ('{B}');
             SELECT bulkhead.protect('t')"
        ))
        .await;
    assert_eq!(seen_by(&db, A, "t", "tenant_id").await, [A]);
}

async fn a_row_without_a_tenant_gets_the_contexts(db: Database) {
    orders(&db).await;
    let app = acting(&db, "app", B).await;
    app.run("INSERT INTO orders (id) VALUES (6)").await;
    assert_eq!(app.one("SELECT tenant_id FROM orders WHERE id = 6").await, B);
    app.refused("INSERT INTO orders (id, tenant_id) VALUES (7, NULL)").await.state("42501");
}

async fn an_existing_default_stays(db: Database) {
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE jobs (id int, tenant_id text DEFAULT 'h2o'); SELECT bulkhead.protect('jobs')").await;
    let default =
        "SELECT column_default FROM information_schema.columns WHERE table_name = 'jobs' AND column_name = 'tenant_id'";
    assert_eq!(owner.one(default).await, "'h2o'::text");
    let app = acting(&db, "app", "h2o").await;
    app.run("INSERT INTO jobs (id) VALUES (1)").await;
    act_for(&app, "all_county").await;
    app.refused("INSERT INTO jobs (id) VALUES (2)").await.state("42501");
}

async fn an_identity_column_stays(db: Database) {
    let owner = db.connect("owner").await;
    let sql = "CREATE TABLE workspaces (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text);
               INSERT INTO workspaces (name) VALUES ('one'), ('two')";
    owner.run(sql).await;
    let done = owner.column("SELECT bulkhead.protect('workspaces', 'id')").await;
    assert!(!done.iter().any(|line| line.contains("COLUMN") || line.contains("INDEX")), "{done:?}");
    assert_eq!(seen_by(&db, "2", "workspaces", "name").await, ["two"]);
}

async fn a_generated_column_stays(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE events (doc jsonb, tenant_id text GENERATED ALWAYS AS (doc ->> 'org') STORED);
             INSERT INTO events VALUES ('{\"org\": \"h2o\"}'), ('{\"org\": \"all_county\"}');
             SELECT bulkhead.protect('events')",
        )
        .await;
    let app = acting(&db, "app", "h2o").await;
    assert_eq!(app.column("SELECT tenant_id FROM events").await, ["h2o"]);
    app.run("INSERT INTO events VALUES ('{\"org\": \"h2o\"}')").await;
    app.refused("INSERT INTO events VALUES ('{\"org\": \"all_county\"}')").await.state("42501");
    app.refused("UPDATE events SET doc = '{\"org\": \"all_county\"}'").await.state("42501");
}

async fn a_second_call_does_nothing(db: Database) {
    let owner = orders(&db).await;
    let before = picture(&owner, "orders").await;
    let row = "SELECT protection, xmin, ctid FROM bulkhead.protection";
    let admin = db.connect("postgres").await;
    let registry = admin.rows(row).await;
    assert_eq!(owner.column("SELECT bulkhead.protect('orders')").await, NOTHING);
    assert_same(&picture(&owner, "orders").await, &before, "orders");
    assert_eq!(admin.rows(row).await, registry);
}

async fn a_second_call_waits_for_no_reader(db: Database) {
    let owner = orders(&db).await;
    let reader = acting(&db, "app", A).await;
    reader.run("BEGIN").await;
    assert_eq!(seen(&reader).await, OF_A);
    owner.run("BEGIN; SET LOCAL lock_timeout = '5s'").await;
    assert_eq!(owner.column("SELECT bulkhead.protect('orders')").await, NOTHING);
    let modes = "SELECT mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'orders'::regclass
                  AND mode NOT IN ('AccessShareLock', 'RowShareLock')";
    assert_eq!(owner.column(modes).await, NOTHING);
    owner.run("COMMIT").await;
    reader.run("COMMIT").await;
}

async fn a_tampered_table_is_repaired(db: Database) {
    let owner = orders(&db).await;
    let whole = picture(&owner, "orders").await;
    for tampering in [
        "ALTER POLICY bulkhead_floor ON orders USING (true)",
        "ALTER POLICY bulkhead_floor ON orders WITH CHECK (true)",
        "ALTER POLICY bulkhead_floor ON orders USING (tenant_id = bulkhead.tenant_id() OR item = 'item 4')",
        "ALTER POLICY bulkhead_floor ON orders TO svc",
        "ALTER POLICY bulkhead_tenant ON orders USING (true)",
        "DROP POLICY bulkhead_floor ON orders",
        "DROP POLICY bulkhead_tenant ON orders",
        "DROP POLICY bulkhead_floor ON orders; CREATE POLICY bulkhead_floor ON orders USING (tenant_id = bulkhead.tenant_id())",
        "DROP POLICY bulkhead_floor ON orders;
         CREATE POLICY bulkhead_floor ON orders AS RESTRICTIVE FOR SELECT USING (tenant_id = bulkhead.tenant_id())",
        "ALTER TABLE orders NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE orders DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE orders ALTER tenant_id DROP NOT NULL",
        "ALTER TABLE orders ALTER tenant_id DROP DEFAULT",
        "DROP INDEX orders_tenant_id_idx",
    ] {
        owner.run(tampering).await;
        assert_ne!(picture(&owner, "orders").await, whole, "this tampers with nothing: {tampering}");
        let repaired = owner.column("SELECT bulkhead.protect('orders')").await;
        assert!(!repaired.is_empty(), "{tampering}");
        assert_same(&picture(&owner, "orders").await, &whole, tampering);
        assert_eq!(seen_by(&db, A, "orders", "id").await, OF_A, "{tampering}");
    }
}

async fn a_rolled_back_call_leaves_nothing(db: Database) {
    let owner = bare_orders(&db).await;
    let admin = db.connect("postgres").await;
    let catalogs = async || {
        let mut all = Vec::new();
        for table in
            ["pg_attribute", "pg_attrdef", "pg_policy", "pg_index", "pg_constraint", "pg_depend", "bulkhead.protection"]
        {
            all.push(admin.one(&format!("SELECT md5(string_agg(t::text, ';' ORDER BY t::text)) FROM {table} t")).await);
        }
        // CREATE INDEX notes the table's size and that it has indexes in place, which no rollback undoes.
        let classes = "SELECT string_agg(concat_ws(' ', oid, relname, relkind, relrowsecurity, relforcerowsecurity), ';' ORDER BY oid)
                         FROM pg_class";
        all.push(admin.one(classes).await);
        all
    };
    let before = catalogs().await;
    owner.run("BEGIN; SELECT bulkhead.protect('orders')").await;
    assert_eq!(registered(&owner).await.len(), 1);
    owner.refused("SELECT * FROM orders").await.state("42501");
    owner.run("ROLLBACK").await;
    assert_eq!(catalogs().await, before);
    assert_eq!(seen(&owner).await, ["1", "2", "3", "4", "5"]);
    assert_eq!(seen(&db.connect("app").await).await, ["1", "2", "3", "4", "5"]);
    owner.run("BEGIN; SAVEPOINT s; SELECT bulkhead.protect('orders'); ROLLBACK TO s; COMMIT").await;
    assert_eq!(catalogs().await, before);
    assert_eq!(seen(&owner).await, ["1", "2", "3", "4", "5"]);
}

async fn nothing_shows_before_the_commit(db: Database) {
    let owner = bare_orders(&db).await;
    let app = db.connect("app").await;
    // pg_get_expr() and its like would wait for the table's lock.
    let catalogs = "SELECT relrowsecurity, relforcerowsecurity, relhasindex, (SELECT count(*) FROM pg_policy),
                           (SELECT count(*) FROM pg_attrdef WHERE adrelid = c.oid), (SELECT count(*) FROM pg_index WHERE indrelid = c.oid)
                      FROM pg_class c WHERE relname = 'orders'";
    let bare = [["f", "f", "t", "0", "0", "1"]];
    owner.run("BEGIN; SELECT bulkhead.protect('orders')").await;
    assert_eq!(registered(&app).await, NO_ROWS);
    assert_eq!(app.rows(catalogs).await, bare);
    owner.run("COMMIT").await;
    assert_eq!(registered(&app).await.len(), 1);
    assert_eq!(app.rows(catalogs).await, [["t", "t", "t", "2", "1", "2"]]);
    app.refused("SELECT * FROM orders").await.state("42501");
}

async fn another_column_moves_the_border(db: Database) {
    let owner = bare_orders_past_the_seal(&db).await;
    owner.run(&format!("ALTER TABLE orders ADD seller uuid; UPDATE orders SET seller = CASE id WHEN 1 THEN '{A}' ELSE '{B}' END::uuid")).await;
    let bare = picture(&owner, "orders").await;
    owner.run("SELECT bulkhead.protect('orders')").await;
    owner.run("SELECT bulkhead.protect('orders', 'seller')").await;
    assert_eq!(registered(&owner).await, [["orders", "seller", "uuid", "f"]]);
    assert_eq!(seen_by(&db, A, "orders", "id").await, ["1"]);
    assert_eq!(seen_by(&db, B, "orders", "id").await, ["2", "3", "4", "5"]);
    owner.run("SELECT bulkhead.unprotect('orders')").await;
    assert_same(&picture(&owner, "orders").await, &bare, "orders");
}

async fn a_failed_move_leaves_the_former_border(db: Database) {
    let owner = orders_past_the_seal(&db).await;
    owner.run("ALTER TABLE orders ADD seller uuid").await;
    let before = picture(&owner, "orders").await;
    owner.refused("SELECT bulkhead.protect('orders', 'seller')").await.state("55000").message_contains("5 rows");
    assert_same(&picture(&owner, "orders").await, &before, "orders");
    assert_eq!(registered(&owner).await, [["orders", "tenant_id", "uuid", "f"]]);
    assert_eq!(seen_by(&db, A, "orders", "id").await, OF_A);
}

async fn the_tenants_own_table_is_protected_by_its_key(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE TABLE organizations (id uuid PRIMARY KEY, name text);
             INSERT INTO organizations VALUES ('{A}', 'Acme'), ('{B}', 'Bolt');
             SELECT bulkhead.protect('organizations', 'id')"
        ))
        .await;
    let app = acting(&db, "app", A).await;
    assert_eq!(app.column("SELECT name FROM organizations").await, ["Acme"]);
    app.refused(&format!("UPDATE organizations SET id = '{B}'")).await.state("42501");
}

async fn foreign_keys_between_protected_tables_hold(db: Database) {
    let owner = orders(&db).await;
    owner
        .run(
            "CREATE TABLE lines (tenant_id uuid, order_id int REFERENCES orders ON DELETE CASCADE, n int);
             SELECT bulkhead.protect('lines')",
        )
        .await;
    let app = acting(&db, "app", A).await;
    app.run("INSERT INTO lines (order_id, n) VALUES (1, 10), (2, 20)").await;
    app.refused("INSERT INTO lines (order_id, n) VALUES (99, 30)").await.state("23503");
    app.run("DELETE FROM orders WHERE id = 1").await;
    assert_eq!(app.column("SELECT n FROM lines").await, ["20"]);
}
