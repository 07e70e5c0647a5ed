//! The registry follows what it names: renames, moves, new owners and drops; and plain roles only read it.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{A, NO_ROWS, NOTHING, OF_A, acting, bare_orders, orders, registered, seen, seen_by};
use crate::harness::{SessionPreload, WithoutPreload};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_renamed_table_stays_protected,
        a_renamed_column_stays_the_border,
        a_rename_by_another_command_is_followed_too,
        a_renamed_column_is_followed_in_the_children,
        a_renamed_schema_stays_protected,
        a_table_in_another_schema_stays_protected,
        a_new_owner_is_bound_like_the_old_one,
        a_dropped_column_before_the_border_changes_nothing,
        a_dropped_border_shows_nothing,
        a_table_that_lost_its_border_can_be_unprotected,
        the_type_of_the_border_does_not_change,
        a_table_of_the_same_name_is_not_protected,
        every_way_of_dropping_cleans_the_registry,
        a_rolled_back_drop_leaves_the_table_protected,
        a_rolled_back_drop_of_the_border_leaves_the_table_protected,
        a_rewritten_table_stays_protected,
        plain_roles_read_the_view,
        nothing_is_called_sealed_that_is_not,
        plain_roles_have_no_way_to_the_registry,
        the_event_trigger_functions_do_nothing_by_hand,
        a_schema_of_that_name_is_not_the_extension,
    ]
}

/// Under its new name the table is as protected as before, in old sessions and new ones.
async fn assert_protected(db: &Database, old: &Client, table: &str, column: &str) {
    let naked = old.refused(&format!("SELECT * FROM {table}")).await;
    let qualified = if table.contains('.') { table.to_owned() } else { format!("public.{table}") };
    naked.state("42501").message(&format!("no tenant context for protected table {qualified}"));
    assert_eq!(seen_by(db, A, table, "id").await, OF_A);
    assert_eq!(registered(old).await, [[table, column, "uuid", "f"]]);
    let again = format!("SELECT bulkhead.protect('{table}', '{column}')");
    assert_eq!(db.connect("owner").await.column(&again).await, NOTHING);
}

async fn a_renamed_table_stays_protected(db: Database) {
    let owner = orders(&db).await;
    let app = db.connect("app").await;
    app.refused("TABLE orders").await.state("42501");
    owner.run("ALTER TABLE orders RENAME TO purchases").await;
    assert_protected(&db, &app, "purchases", "tenant_id").await;
}

async fn a_renamed_column_stays_the_border(db: Database) {
    let owner = orders(&db).await;
    let app = db.connect("app").await;
    app.refused("TABLE orders").await.state("42501");
    owner.run("ALTER TABLE orders RENAME tenant_id TO org_id").await;
    assert_protected(&db, &app, "orders", "org_id").await;
    // Another column under the old name is nothing special.
    owner.run(&format!("ALTER TABLE orders ADD tenant_id uuid DEFAULT '{A}'")).await;
    assert_protected(&db, &app, "orders", "org_id").await;
}

async fn a_rename_by_another_command_is_followed_too(db: Database) {
    let owner = orders(&db).await;
    let app = db.connect("app").await;
    // The server takes these for tables as well.
    for (rename, column) in [
        ("ALTER VIEW orders RENAME COLUMN tenant_id TO org", "org"),
        ("ALTER MATERIALIZED VIEW orders RENAME COLUMN org TO site", "site"),
        ("DO $$ BEGIN ALTER TABLE orders RENAME site TO shop; END $$", "shop"),
    ] {
        owner.run(rename).await;
        assert_protected(&db, &app, "orders", column).await;
    }
}

async fn a_renamed_column_is_followed_in_the_children(db: Database) {
    let owner = orders(&db).await;
    owner.run("CREATE TABLE old_orders () INHERITS (orders); ALTER TABLE orders RENAME tenant_id TO org_id").await;
    assert_eq!(registered(&owner).await, [["old_orders", "org_id", "uuid", "f"], ["orders", "org_id", "uuid", "f"]]);
    owner.run("ALTER TABLE old_orders NO INHERIT orders").await;
    assert_eq!(owner.column("SELECT bulkhead.protect('old_orders', 'org_id')").await, NOTHING);
    let owner = db.past_the_seal("owner").await;
    owner.run("SELECT bulkhead.unprotect('old_orders')").await;
}

async fn a_renamed_schema_stays_protected(db: Database) {
    let owner = db.connect("owner").await;
    owner.run("CREATE SCHEMA shop; GRANT USAGE ON SCHEMA shop TO app; SET search_path = shop").await;
    super::fixture::fill_orders(&owner).await;
    owner.run("GRANT ALL ON orders TO app; SELECT bulkhead.protect('orders')").await;
    let app = db.connect("app").await;
    app.refused("TABLE shop.orders").await.state("42501");
    owner.run("ALTER SCHEMA shop RENAME TO store").await;
    assert_protected(&db, &app, "store.orders", "tenant_id").await;
}

async fn a_table_in_another_schema_stays_protected(db: Database) {
    let owner = orders(&db).await;
    let app = db.connect("app").await;
    owner.run("CREATE SCHEMA store; GRANT USAGE ON SCHEMA store TO app; ALTER TABLE orders SET SCHEMA store").await;
    assert_protected(&db, &app, "store.orders", "tenant_id").await;
}

async fn a_new_owner_is_bound_like_the_old_one(db: Database) {
    let owner = orders(&db).await;
    let heir = format!("heir_of_{}", db.name);
    db.admin(&format!("CREATE ROLE {heir} LOGIN; ALTER TABLE orders OWNER TO {heir}; GRANT SELECT ON orders TO owner"))
        .unwrap();
    let client = db.connect(&heir).await;
    client.refused("TABLE orders").await.state("42501").message("no tenant context for protected table public.orders");
    super::fixture::act_for(&client, A).await;
    assert_eq!(seen(&client).await, OF_A);
    assert_eq!(registered(&client).await, [["orders", "tenant_id", "uuid", "f"]]);
    for call in ["unprotect('orders')", "protect('orders', 'id')", "share('orders')"] {
        owner
            .refused(&format!("SELECT bulkhead.{call}"))
            .await
            .state("42501")
            .message("must be owner of table public.orders");
    }
    db.past_the_seal(&heir).await.run("SELECT bulkhead.unprotect('orders')").await;
    db.admin(&format!("ALTER TABLE orders OWNER TO owner; DROP OWNED BY {heir}; DROP ROLE {heir}")).unwrap();
}

async fn a_dropped_column_before_the_border_changes_nothing(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE TABLE orders (a int, b int, tenant_id uuid, id int); INSERT INTO orders VALUES (1, 1, '{A}', 1);
             ALTER TABLE orders DROP a; SELECT bulkhead.protect('orders'); ALTER TABLE orders DROP b"
        ))
        .await;
    let app = db.connect("app").await;
    app.refused("TABLE orders").await.state("42501");
    assert_eq!(seen_by(&db, A, "orders", "id").await, ["1"]);
    assert_eq!(registered(&owner).await, [["orders", "tenant_id", "uuid", "f"]]);
    assert_eq!(owner.column("SELECT bulkhead.protect('orders')").await, NOTHING);
}

/// What everybody gets whom row level security binds, with a tenant or without one.
async fn assert_border_is_lost(db: &Database) {
    for tenant in [A, ""] {
        let app = acting(db, "app", tenant).await;
        for statement in ["TABLE orders", "DELETE FROM orders", "INSERT INTO orders VALUES (9)"] {
            let refused = app.refused(statement).await;
            refused
                .state("55000")
                .message("protected table public.orders has lost its tenant column")
                .hint_contains("bulkhead.protect()");
        }
    }
}

async fn a_dropped_border_shows_nothing(db: Database) {
    let owner = orders(&db).await;
    owner.run(&format!("ALTER TABLE orders ADD org_id uuid DEFAULT '{A}'")).await;
    owner.refused("ALTER TABLE orders DROP tenant_id").await.state("2BP01");
    owner.run("ALTER TABLE orders DROP tenant_id CASCADE").await;
    assert_border_is_lost(&db).await;
    let owner = db.past_the_seal("owner").await;
    owner.run("SELECT bulkhead.protect('orders', 'org_id')").await;
    assert_eq!(seen_by(&db, A, "orders", "id").await.len(), 5);
    db.connect("app").await.refused("TABLE orders").await.state("42501");
    assert_eq!(registered(&owner).await, [["orders", "org_id", "uuid", "f"]]);
}

async fn a_table_that_lost_its_border_can_be_unprotected(db: Database) {
    let owner = orders(&db).await;
    let app = db.connect("app").await;
    app.refused("TABLE orders").await.state("42501");
    owner.run("ALTER TABLE orders DROP tenant_id CASCADE").await;
    assert_border_is_lost(&db).await;
    app.refused("TABLE orders").await.state("55000").message_contains("has lost its tenant column");
    let owner = db.past_the_seal("owner").await;
    owner.run("SELECT bulkhead.unprotect('orders')").await;
    assert_eq!(seen(&app).await.len(), 5);
    assert_eq!(registered(&owner).await, NO_ROWS);
}

async fn the_type_of_the_border_does_not_change(db: Database) {
    let owner = orders(&db).await;
    owner.refused("ALTER TABLE orders ALTER tenant_id TYPE text").await.state("0A000");
    assert_eq!(seen_by(&db, A, "orders", "id").await, OF_A);
}

async fn a_table_of_the_same_name_is_not_protected(db: Database) {
    let owner = orders(&db).await;
    let app = db.connect("app").await;
    app.refused("TABLE orders").await.state("42501");
    owner.run("DROP TABLE orders").await;
    bare_orders(&db).await;
    assert_eq!(registered(&owner).await, NO_ROWS);
    assert_eq!(seen(&app).await.len(), 5);
    owner.run("SELECT bulkhead.protect('orders')").await;
    app.refused("TABLE orders").await.state("42501");
}

async fn every_way_of_dropping_cleans_the_registry(db: Database) {
    let admin = db.connect("postgres").await;
    // DROP OWNED reaches into every database of the cluster, so it is not the other tests' owner who goes.
    let leaver = format!("leaver_{}", db.name);
    admin.run(&format!("CREATE ROLE {leaver} LOGIN; GRANT CREATE ON DATABASE {} TO {leaver}", db.name)).await;
    let owner = db.connect(&leaver).await;
    for drop in [
        "DROP TABLE s.t",
        "DROP TABLE s.p, s.t",
        "DROP SCHEMA s CASCADE",
        "DROP TABLE s.p1",
        "DO $$ BEGIN EXECUTE 'DROP TABLE s.t'; END $$",
        "SET session_replication_role = replica; DROP TABLE s.t; RESET session_replication_role",
        &format!("DROP OWNED BY {leaver}"),
    ] {
        owner
            .run(
                "CREATE SCHEMA s; CREATE TABLE s.t (tenant_id uuid);
                 CREATE TABLE s.p (tenant_id uuid) PARTITION BY LIST (tenant_id); CREATE TABLE s.p1 PARTITION OF s.p DEFAULT;
                 SELECT bulkhead.protect('s.t'), bulkhead.protect('s.p')",
            )
            .await;
        admin.run(drop).await;
        let stale = "SELECT relation::oid FROM bulkhead.protection p WHERE NOT EXISTS (SELECT FROM pg_class WHERE oid = p.relation)";
        assert_eq!(admin.column(stale).await, NOTHING, "{drop}");
        let left = admin.column("SELECT relation::regclass FROM bulkhead.protection ORDER BY 1").await;
        assert!(left.len() < 3, "{drop}: {left:?}");
        admin.run("DROP SCHEMA IF EXISTS s CASCADE").await;
    }
    admin.run(&format!("DROP ROLE {leaver}")).await;
}

async fn a_rolled_back_drop_leaves_the_table_protected(db: Database) {
    let owner = orders(&db).await;
    owner.run("BEGIN; DROP TABLE orders").await;
    assert_eq!(registered(&owner).await, NO_ROWS);
    owner.run("ROLLBACK").await;
    owner.refused("TABLE orders").await.state("42501");
    assert_eq!(registered(&owner).await, [["orders", "tenant_id", "uuid", "f"]]);
}

async fn a_rolled_back_drop_of_the_border_leaves_the_table_protected(db: Database) {
    let owner = orders(&db).await;
    owner.run("BEGIN; ALTER TABLE orders DROP tenant_id CASCADE").await;
    owner.refused("TABLE orders").await.state("55000");
    owner.run("ROLLBACK").await;
    owner.refused("TABLE orders").await.state("42501");
    assert_eq!(seen_by(&db, A, "orders", "id").await, OF_A);
}

async fn a_rewritten_table_stays_protected(db: Database) {
    let owner = orders(&db).await;
    let app = acting(&db, "app", A).await;
    for rewrite in [
        "VACUUM FULL orders",
        "CLUSTER orders USING orders_pkey",
        "REINDEX TABLE orders",
        "ALTER TABLE orders ADD extra uuid DEFAULT gen_random_uuid()",
        "ALTER TABLE orders SET UNLOGGED",
        "ALTER TABLE orders ALTER id TYPE bigint",
    ] {
        owner.run(rewrite).await;
        assert_eq!(seen(&app).await, OF_A, "{rewrite}");
    }
    db.connect("app").await.refused("TABLE orders").await.state("42501");
}

async fn plain_roles_read_the_view(db: Database) {
    orders(&db).await.run("CREATE TABLE prices (id int); SELECT bulkhead.share('prices')").await;
    for role in ["app", "svc", "owner"] {
        let client = db.connect(role).await;
        let all = "SELECT relation, tenant_column, tenant_type, sealed, shared FROM bulkhead.protected_tables ORDER BY relation::text";
        assert_eq!(
            client.rows(all).await,
            [["orders", "tenant_id", "uuid", "t", "f"], ["prices", "NULL", "NULL", "f", "t"]]
        );
    }
}

async fn nothing_is_called_sealed_that_is_not(db: WithoutPreload) {
    orders(&db).await;
    let sealed = "SELECT sealed FROM bulkhead.protected_tables";
    assert_eq!(db.connect("app").await.one(sealed).await, "f");
    // Sessions are, but not those of a superuser, nor workers.
    let place = <SessionPreload as crate::harness::Place>::make("sealed").unwrap();
    orders(&place).await;
    assert_eq!(place.connect("app").await.one(sealed).await, "f");
}

async fn plain_roles_have_no_way_to_the_registry(db: Database) {
    orders(&db).await;
    for role in ["app", "owner", "svc"] {
        let client = db.connect(role).await;
        for sql in [
            "SELECT * FROM bulkhead.protection",
            "SELECT count(*) FROM bulkhead.protection",
            "COPY bulkhead.protection TO STDOUT",
            "INSERT INTO bulkhead.protection SELECT * FROM bulkhead.protection",
            "UPDATE bulkhead.protection SET shared = true",
            "DELETE FROM bulkhead.protection",
            "TRUNCATE bulkhead.protection",
            "DO $$ BEGIN LOCK TABLE bulkhead.protection; END $$",
            "ALTER TABLE bulkhead.protection ADD x int",
            "DROP TABLE bulkhead.protection",
            "CREATE TRIGGER t BEFORE INSERT ON bulkhead.protection FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "CREATE TABLE c () INHERITS (bulkhead.protection)",
            "CREATE TABLE bulkhead.mine (id int)",
            "CREATE FUNCTION bulkhead.tenant_id(int) RETURNS uuid LANGUAGE sql AS 'SELECT NULL'",
            "CREATE OR REPLACE FUNCTION bulkhead.tenant_id() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
            "ALTER FUNCTION bulkhead.tenant_id() VOLATILE",
            "ALTER EVENT TRIGGER bulkhead_follow_ddl DISABLE",
            "DROP EVENT TRIGGER bulkhead_follow_drop",
            "DROP SCHEMA bulkhead CASCADE",
            "DROP EXTENSION bulkhead",
            "DELETE FROM bulkhead.protected_tables",
        ] {
            let state = client.refused(sql).await.sqlstate;
            let expected = if sql.contains("protected_tables") { "55000" } else { "42501" };
            // CREATE in public is refused as well where the role has none there.
            assert_eq!(state, expected, "{role}: {sql}");
        }
    }
}

async fn the_event_trigger_functions_do_nothing_by_hand(db: Database) {
    orders(&db).await;
    for (role, state) in [("app", "42501"), ("owner", "42501"), ("postgres", "39P03")] {
        let client = db.connect(role).await;
        for function in ["follow_ddl", "follow_drop"] {
            client.refused(&format!("SELECT bulkhead.{function}()")).await.state(state);
        }
        assert_eq!(registered(&client).await.len(), 1);
    }
}

async fn a_schema_of_that_name_is_not_the_extension(db: Database) {
    let other = db.cluster.empty_database("impostor").unwrap();
    other
        .admin(
            "CREATE SCHEMA bulkhead; CREATE TABLE t (tenant_id uuid); INSERT INTO t VALUES (gen_random_uuid());
             CREATE TABLE bulkhead.protection (relation regclass, attnum smallint, c name, shared boolean, home text);
             INSERT INTO bulkhead.protection VALUES ('t', 1, 'tenant_id', false, 'x');
             ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (true); GRANT SELECT ON t TO app",
        )
        .unwrap();
    let app = other.connect("app").await;
    assert_eq!(app.one("SELECT count(*) FROM t").await, "1");
    drop(app);
    other.drop().unwrap();
}
