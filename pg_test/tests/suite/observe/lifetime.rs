//! From observe() to protect(): who may call it, what follows the table, what ends it.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{A, NO_ROWS, bare_orders, counted, orders};
use crate::harness::{SessionPreload, WithoutPreload};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        only_the_owner_may,
        the_column_must_fit,
        without_shared_preload_it_is_refused,
        with_session_preload_it_is_refused,
        protect_promotes,
        protect_of_a_tree_promotes_all_of_it,
        a_protected_table_is_observed_only_past_the_seal,
        a_rollback_takes_it_back,
        protect_rolled_back_loses_no_count,
        unprotect_ends_it,
        a_renamed_table_is_still_observed,
        a_renamed_column_is_still_observed,
        a_dropped_column_ends_it,
        another_column_can_be_observed,
        drop_table_forgets,
        a_dump_carries_it,
        drop_extension_ends_it,
    ]
}

const OBSERVED: &str = "SELECT relation, tenant_column, observed_by FROM bulkhead.observation";

async fn only_the_owner_may(db: Database) {
    bare_orders(&db).await;
    for role in ["app", "svc"] {
        db.connect(role).await.refused("SELECT bulkhead.observe('orders')").await.state("42501");
    }
    assert_eq!(db.connect("postgres").await.rows(OBSERVED).await, NO_ROWS);
}

async fn the_column_must_fit(db: Database) {
    let owner = bare_orders(&db).await;
    owner.run("ALTER TABLE orders ADD at date").await;
    let refused = ["'orders', 'nothing'", "'orders', 'at'", "'orders', NULL", "NULL"];
    for arguments in refused {
        owner.refused(&format!("SELECT bulkhead.observe({arguments})")).await.state("22023");
    }
    owner.run("CREATE VIEW v AS TABLE orders").await;
    owner.refused("SELECT bulkhead.observe('v')").await.state("22023");
    for column in ["id", "item", "tenant_id"] {
        owner.run(&format!("SELECT bulkhead.observe('orders', '{column}')")).await;
    }
}

async fn without_shared_preload_it_is_refused(db: WithoutPreload) {
    refused_without_shared_memory(&db).await;
}

async fn with_session_preload_it_is_refused(db: SessionPreload) {
    refused_without_shared_memory(&db).await;
}

async fn refused_without_shared_memory(db: &Database) {
    let owner = bare_orders(db).await;
    let refused = owner.refused("SELECT bulkhead.observe('orders')").await;
    refused.state("55000").message("observe() needs bulkhead in shared_preload_libraries").hint_contains("Append");
    assert_eq!(counted(&owner).await, NO_ROWS);
}

async fn protect_promotes(db: Database) {
    let owner = orders(&db).await;
    let app = db.connect("app").await;
    app.run("TABLE orders").await;
    assert_eq!(counted(&owner).await, [["TABLE orders", "1"]]);
    owner.run("SELECT bulkhead.protect('orders')").await;
    assert_eq!(counted(&owner).await, NO_ROWS);
    assert_eq!(db.connect("postgres").await.rows(OBSERVED).await, NO_ROWS);
    app.refused("TABLE orders").await.state("42501");
    app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
    assert_eq!(app.one("SELECT count(*) FROM orders").await, "3");
    // And nothing of it is left behind.
    db.past_the_seal("owner").await.run("SELECT bulkhead.unprotect('orders')").await;
    app.run("RESET bulkhead.tenant_context").await;
    app.run("TABLE orders").await;
    assert_eq!(counted(&owner).await, NO_ROWS);
}

async fn protect_of_a_tree_promotes_all_of_it(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE calls (id int, tenant_id uuid) PARTITION BY RANGE (id);
              CREATE TABLE old PARTITION OF calls FOR VALUES FROM (0) TO (100);
              SELECT bulkhead.observe('calls'), bulkhead.observe('old')",
        )
        .await;
    let app = db.connect("app").await;
    app.run("TABLE calls").await;
    app.run("TABLE old").await;
    assert_eq!(counted(&owner).await.len(), 2);
    owner.run("SELECT bulkhead.protect('calls')").await;
    assert_eq!(counted(&owner).await, NO_ROWS);
    assert_eq!(db.connect("postgres").await.rows(OBSERVED).await, NO_ROWS);
}

async fn a_protected_table_is_observed_only_past_the_seal(db: Database) {
    let owner = bare_orders(&db).await;
    owner.run("SELECT bulkhead.protect('orders')").await;
    let refused = owner.refused("SELECT bulkhead.observe('orders')").await;
    refused.state("55000").message("observing protected table public.orders needs a bypass").hint_contains("bypass");
    let app = db.connect("app").await;
    app.refused("TABLE orders").await.state("42501");
    db.past_the_seal("owner").await.run("SELECT bulkhead.observe('orders')").await;
    assert_eq!(app.one("SELECT count(*) FROM orders").await, "5");
    assert_eq!(counted(&owner).await, [["SELECT count(*) FROM orders", "1"]]);
    assert_eq!(owner.one("SELECT count(*) FROM pg_policies").await, "0");
}

async fn protect_rolled_back_loses_no_count(db: Database) {
    let owner = orders(&db).await;
    let app = db.connect("app").await;
    app.run("TABLE orders").await;
    owner.run("BEGIN; SELECT bulkhead.protect('orders')").await;
    assert_eq!(counted(&owner).await, NO_ROWS);
    owner.run("ROLLBACK").await;
    app.run("TABLE orders").await;
    assert_eq!(counted(&owner).await, [["TABLE orders", "2"]]);
}

async fn unprotect_ends_it(db: Database) {
    let owner = orders(&db).await;
    let app = db.connect("app").await;
    app.run("TABLE orders").await;
    app.refused("SELECT bulkhead.unprotect('orders')").await.state("42501");
    assert_eq!(
        owner.column("SELECT bulkhead.unprotect('orders')").await,
        ["-- public.orders is not observed any more"]
    );
    app.run("TABLE orders").await;
    assert_eq!(counted(&owner).await, NO_ROWS);
    owner.refused("SELECT bulkhead.unprotect('orders')").await.state("55000");
    // Begun again, it counts from nothing; and unprotect_all() knows of it, too.
    owner.run("SELECT bulkhead.observe('orders')").await;
    assert_eq!(counted(&owner).await, NO_ROWS);
    app.run("TABLE orders").await;
    assert_eq!(counted(&owner).await, [["TABLE orders", "1"]]);
    owner.run("SELECT FROM bulkhead.unprotect_all()").await;
    assert_eq!(db.connect("postgres").await.rows(OBSERVED).await, NO_ROWS);
}

async fn a_rollback_takes_it_back(db: Database) {
    let owner = bare_orders(&db).await;
    let app = db.connect("app").await;
    app.run("TABLE orders").await;
    owner.run("BEGIN; SELECT bulkhead.observe('orders'); ROLLBACK").await;
    app.run("TABLE orders").await;
    owner.run("TABLE orders").await;
    assert_eq!(counted(&owner).await, NO_ROWS);
}

async fn a_renamed_table_is_still_observed(db: Database) {
    let owner = orders(&db).await;
    let app = db.connect("app").await;
    app.run("SELECT id FROM orders").await;
    owner.run("CREATE SCHEMA shop; GRANT USAGE ON SCHEMA shop TO app").await;
    owner.run("ALTER TABLE orders RENAME TO sales; ALTER TABLE sales SET SCHEMA shop").await;
    app.run("SELECT id FROM shop.sales").await;
    let rows = owner.rows("SELECT relation, query, count FROM bulkhead.naked_statements ORDER BY query").await;
    assert_eq!(rows, [["shop.sales", "SELECT id FROM orders", "1"], ["shop.sales", "SELECT id FROM shop.sales", "1"]]);
}

async fn a_renamed_column_is_still_observed(db: Database) {
    let owner = orders(&db).await;
    let app = db.connect("app").await;
    app.run("SELECT id FROM orders").await;
    owner.run("ALTER TABLE orders RENAME tenant_id TO org_id").await;
    app.run("SELECT id FROM orders").await;
    db.connect("app").await.run("SELECT id FROM orders").await;
    app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
    app.run("SELECT id FROM orders").await;
    assert_eq!(counted(&owner).await, [["SELECT id FROM orders", "3"]]);
    let superuser = db.connect("postgres").await;
    assert_eq!(superuser.rows(OBSERVED).await, [["orders", "org_id", "owner"]]);
}

async fn a_dropped_column_ends_it(db: Database) {
    let owner = orders(&db).await;
    owner.run("ALTER TABLE orders DROP tenant_id").await;
    let app = db.connect("app").await;
    app.run("SELECT id FROM orders").await;
    assert_eq!(counted(&owner).await, NO_ROWS);
}

async fn another_column_can_be_observed(db: Database) {
    let owner = orders(&db).await;
    owner.run("SELECT bulkhead.observe('orders', 'item')").await;
    let app = db.connect("app").await;
    app.run("SET bulkhead.tenant_context = 'h2o'").await;
    app.run("SELECT id FROM orders").await;
    assert_eq!(counted(&owner).await, NO_ROWS, "a text column can hold this tenant");
    let superuser = db.connect("postgres").await;
    assert_eq!(superuser.rows(OBSERVED).await, [["orders", "item", "owner"]]);
}

async fn drop_table_forgets(db: Database) {
    let owner = orders(&db).await;
    db.connect("app").await.run("TABLE orders").await;
    owner.run("DROP TABLE orders").await;
    let superuser = db.connect("postgres").await;
    assert_eq!(superuser.rows(OBSERVED).await, NO_ROWS);
    assert_eq!(counted(&superuser).await, NO_ROWS);
    bare_orders(&db).await;
    db.connect("app").await.run("TABLE orders").await;
    assert_eq!(counted(&superuser).await, NO_ROWS, "a table of the same name is another one");
}

async fn a_dump_carries_it(db: Database) {
    let owner = bare_orders(&db).await;
    // Numbers and oids are others in the restored database.
    owner.run("ALTER TABLE orders ADD first int, ADD org uuid; ALTER TABLE orders DROP first").await;
    owner.run("SELECT bulkhead.observe('orders', 'org')").await;
    let dump = db.client_program("pg_dump", "postgres").output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let restored = db.cluster.empty_database("restored").unwrap();
    restored.admin(&String::from_utf8(dump.stdout).unwrap()).unwrap();

    let superuser = restored.connect("postgres").await;
    assert_eq!(superuser.rows(OBSERVED).await, [["orders", "org", "owner"]]);
    let app = restored.connect("app").await;
    app.run("SELECT id FROM orders").await;
    assert_eq!(counted(&superuser).await, [["SELECT id FROM orders", "1"]]);
    let dumped = "COPY public.orders (id, tenant_id, item, org) TO stdout";
    assert_eq!(counted(&owner).await, [[dumped, "1"]], "the database it came from is told apart; pg_dump is naked");
    let owner = restored.connect("owner").await;
    owner.run("ALTER TABLE orders ADD other int; ALTER TABLE orders RENAME org TO org_id").await;
    app.run("SELECT id FROM orders").await;
    assert_eq!(counted(&superuser).await, [["SELECT id FROM orders", "2"]]);
    assert_eq!(superuser.rows(OBSERVED).await, [["orders", "org_id", "owner"]]);
    drop((superuser, app, owner));
    restored.drop().unwrap();
}

async fn drop_extension_ends_it(db: Database) {
    orders(&db).await;
    let app = db.connect("app").await;
    app.run("TABLE orders").await;
    let superuser = db.connect("postgres").await;
    superuser.run("DROP EXTENSION bulkhead").await;
    assert_eq!(app.one("SELECT count(*) FROM orders").await, "5");
    superuser.run("CREATE EXTENSION bulkhead").await;
    app.run("SELECT id FROM orders").await;
    let rows = counted(&superuser).await;
    assert!(rows.iter().all(|row| row[0] != "SELECT id FROM orders"), "{rows:?}");
}
