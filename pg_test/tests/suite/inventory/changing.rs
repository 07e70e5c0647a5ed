//! What changes under an inventory: its columns, its schema, its tenants, the table itself.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{acting, decide, left, stock, stored};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        protected_by_another_column_it_is_noticed => 240,
        back_at_its_former_tenants_it_knows_their_orders,
        a_renamed_column_is_the_same,
        renames_reach_a_copy_of_the_database => 300,
        a_copy_follows_renames_of_its_own => 300,
        another_quantity_column_is_told,
        a_schema_that_changes_its_name => 240,
        a_dropped_tables_orders_are_no_other_tables,
    ]
}

/// Two columns that could be the tenant's: 7 is an org of one row, and the shop of another.
async fn two_borders(db: &Database) -> Client {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE t (org bigint NOT NULL, shop bigint NOT NULL, id text, quantity int NOT NULL, PRIMARY KEY (org, id), UNIQUE (shop, id));
             INSERT INTO t VALUES (7, 1, 'x', 10), (9, 7, 'x', 10);
             SELECT bulkhead.protect('t', 'org');
             SELECT bulkhead.register_inventory('t')",
        )
        .await;
    owner
}

async fn protect_by(db: &Database, column: &str) {
    let boss = db.connect("postgres").await;
    boss.run(&format!("BEGIN; SELECT bulkhead.begin_bypass('test'); SELECT bulkhead.protect('t', '{column}'); COMMIT"))
        .await;
}

fn quantities(db: &Database) -> String {
    db.admin("SELECT string_agg(org || ' ' || quantity, ', ' ORDER BY org) FROM t").unwrap()
}

async fn protected_by_another_column_it_is_noticed(db: Database) {
    let owner = two_borders(&db).await;
    let org = acting(&db, "app", "7").await;
    assert_eq!(decide(&org, "t", &[("o1", "x", "4")]).await, ["accepted 6"]);
    org.run("SELECT bulkhead.enqueue_decrement('t', 'o2', 'x', 5)").await;
    drop(org);
    protect_by(&db, "shop").await;
    // The tenants' ids look alike, and are others'.
    let shop = acting(&db, "app", "7").await;
    let boss = db.connect("postgres").await;
    for sql in [
        "SELECT * FROM bulkhead.order_verdicts('t', 'o1')",
        "SELECT * FROM bulkhead.decrement_inventory('t', 'o1', 'x', 4)",
        "SELECT bulkhead.release_order('t', 'o1')",
        "SELECT bulkhead.enqueue_decrement('t', 'o3', 'x', 1)",
        "SELECT * FROM bulkhead.poisoned_orders('t')",
    ] {
        shop.refused(sql)
            .await
            .state("55000")
            .message("public.t was registered as an inventory with the tenant column org");
    }
    boss.refused("CALL bulkhead.drain_inventory('t')").await.state("55000");
    owner.run("SELECT bulkhead.register_inventory('t')").await;
    assert!(stored(&shop, "t", "o1").await.is_empty());
    boss.run("CALL bulkhead.drain_inventory('t')").await;
    assert_eq!(quantities(&db), "7 6, 9 10");
    assert_eq!(shop.one("SELECT count(*) FROM bulkhead.poisoned_orders('t')").await, "0");
    let all = "SELECT tenant, order_id, sqlstate FROM bulkhead.all_poisoned_orders('t')";
    assert_eq!(boss.rows(all).await, [["7", "o2", "55000"]]);
    assert_eq!(boss.one("SELECT bulkhead.requeue_poisoned('t')").await, "0");
    shop.refused("SELECT bulkhead.release_order('t', 'o1')").await.state("55000");
    assert_eq!(decide(&shop, "t", &[("o1", "x", "4")]).await, ["accepted 6"]);
    assert_eq!(quantities(&db), "7 6, 9 6");
}

async fn back_at_its_former_tenants_it_knows_their_orders(db: Database) {
    let owner = two_borders(&db).await;
    let client = acting(&db, "app", "7").await;
    assert_eq!(decide(&client, "t", &[("o1", "x", "4")]).await, ["accepted 6"]);
    client.run("SELECT bulkhead.enqueue_decrement('t', 'o2', 'x', 5)").await;
    protect_by(&db, "shop").await;
    owner.run("SELECT bulkhead.register_inventory('t')").await;
    let boss = db.connect("postgres").await;
    boss.run("CALL bulkhead.drain_inventory('t')").await;
    assert!(stored(&client, "t", "o1").await.is_empty());
    protect_by(&db, "org").await;
    owner.run("SELECT bulkhead.register_inventory('t')").await;
    assert_eq!(decide(&client, "t", &[("o1", "x", "4")]).await, ["accepted 6"]);
    assert_eq!(client.column("SELECT order_id FROM bulkhead.poisoned_orders('t')").await, ["o2"]);
    assert_eq!(boss.one("SELECT bulkhead.requeue_poisoned('t')").await, "1");
    boss.run("CALL bulkhead.drain_inventory('t')").await;
    assert_eq!(stored(&client, "t", "o2").await, ["x accepted 1"]);
    assert_eq!(quantities(&db), "7 1, 9 10");
}

async fn a_renamed_column_is_the_same(db: Database) {
    let owner = stock(&db).await;
    let app = db.connect("app").await;
    decide(&app, "stock", &[("1", "a", "1")]).await;
    owner.run("ALTER TABLE stock RENAME sku TO code; ALTER TABLE stock RENAME stock TO pieces").await;
    assert_eq!(decide(&app, "stock", &[("1", "a", "1"), ("2", "a", "1")]).await, ["accepted 9", "accepted 8"]);
    owner.run("SELECT bulkhead.register_inventory('stock', 'code', 'pieces')").await;
    assert_eq!(decide(&app, "stock", &[("1", "a", "1"), ("2", "a", "1")]).await, ["accepted 9", "accepted 8"]);
    assert_eq!(app.one("SELECT bulkhead.release_order('stock', '1')").await, "1");
    // One of the old name is another.
    owner
        .run(
            "ALTER TABLE stock RENAME code TO former; ALTER TABLE stock ADD code text UNIQUE;
             UPDATE stock SET code = former; SELECT bulkhead.register_inventory('stock', 'code', 'pieces')",
        )
        .await;
    assert!(stored(&app, "stock", "2").await.is_empty());
    // And the first one is what it was.
    owner.run("SELECT bulkhead.register_inventory('stock', 'former', 'pieces')").await;
    assert_eq!(stored(&app, "stock", "2").await, ["a accepted 8"]);
}

/// By CREATE DATABASE ... TEMPLATE, and by a dump, whose columns have other numbers.
async fn copies(db: &Database, label: &str) -> Vec<Database> {
    let name = format!("{}_{label}", db.name);
    db.cluster.admin("postgres", &format!("CREATE DATABASE {name} TEMPLATE {}", db.name)).unwrap();
    let copy = Database { cluster: db.cluster.clone(), name };
    let dump = db.client_program("pg_dump", "postgres").env("PGOPTIONS", "-c bulkhead.bypass=backup").output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let restored = db.cluster.empty_database(label).unwrap();
    let output = restored.psql("postgres", &String::from_utf8(dump.stdout).unwrap()).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !errors.contains("ERROR"), "{errors}");
    vec![copy, restored]
}

/// A table whose first column is gone, so that a dump numbers the others anew.
async fn with_a_gap(db: &Database) {
    db.connect("owner")
        .await
        .run(
            "CREATE TABLE stock (gone int, sku text PRIMARY KEY, pieces int);
             INSERT INTO stock VALUES (1, 'a', 10);
             ALTER TABLE stock DROP COLUMN gone;
             SELECT bulkhead.register_inventory('stock', 'sku', 'pieces')",
        )
        .await;
}

async fn renames_reach_a_copy_of_the_database(db: Database) {
    with_a_gap(&db).await;
    let owner = db.connect("owner").await;
    assert_eq!(decide(&owner, "stock", &[("1", "a", "1")]).await, ["accepted 9"]);
    owner
        .run("ALTER TABLE stock RENAME pieces TO reserved; ALTER TABLE stock RENAME sku TO code; ALTER TABLE stock ADD pieces int DEFAULT 1000")
        .await;
    drop(owner);
    for copy in copies(&db, "renamed").await {
        let app = copy.connect("app").await;
        assert_eq!(decide(&app, "stock", &[("1", "a", "1"), ("2", "a", "1")]).await, ["accepted 9", "accepted 8"]);
        assert_eq!(app.rows("SELECT reserved, pieces FROM stock").await, [["8", "1000"]]);
        drop(app);
        copy.drop().unwrap();
    }
}

async fn a_copy_follows_renames_of_its_own(db: Database) {
    with_a_gap(&db).await;
    decide(&db.connect("owner").await, "stock", &[("1", "a", "1")]).await;
    for copy in copies(&db, "own").await {
        let owner = copy.connect("owner").await;
        owner.run("ALTER TABLE stock RENAME sku TO code; ALTER TABLE stock RENAME pieces TO reserved; ALTER TABLE stock ADD pieces int").await;
        let app = copy.connect("app").await;
        assert_eq!(decide(&app, "stock", &[("1", "a", "1"), ("2", "a", "1")]).await, ["accepted 9", "accepted 8"]);
        assert_eq!(app.one("SELECT reserved FROM stock").await, "8");
        // DDL in a transaction that sees an old state goes through as ever.
        owner.run("BEGIN ISOLATION LEVEL SERIALIZABLE; ALTER TABLE stock ADD note text; COMMIT").await;
        drop((owner, app));
        copy.drop().unwrap();
    }
}

/// The successor of a column is what earlier orders are given back to; its owner is told.
async fn another_quantity_column_is_told(db: Database) {
    let owner = stock(&db).await;
    let app = db.connect("app").await;
    decide(&app, "stock", &[("1", "a", "4")]).await;
    owner.run("ALTER TABLE stock ADD pieces bigint; UPDATE stock SET pieces = stock").await;
    owner.notices();
    owner.run("SELECT bulkhead.register_inventory('stock', 'sku', 'pieces')").await;
    assert_eq!(
        owner.notices(),
        ["NOTICE: orders that took from column stock of public.stock are given back to column pieces"]
    );
    assert_eq!(decide(&app, "stock", &[("1", "a", "4")]).await, ["accepted 6"], "it is known");
    assert_eq!(app.one("SELECT bulkhead.release_order('stock', '1')").await, "1");
    assert_eq!(app.rows("SELECT stock, pieces FROM stock WHERE sku = 'a'").await, [["6", "10"]]);
    owner.run("SELECT bulkhead.register_inventory('stock', 'sku', 'pieces')").await;
    assert!(owner.notices().is_empty());
}

/// What a session has planned for a table must not be run on another one that got its name.
async fn a_schema_that_changes_its_name(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE SCHEMA shop; CREATE TABLE shop.stock (id text PRIMARY KEY, quantity int); INSERT INTO shop.stock VALUES ('a', 10);
             CREATE SCHEMA next; CREATE TABLE next.stock (id text PRIMARY KEY, quantity int); INSERT INTO next.stock VALUES ('a', 1000);
             SELECT bulkhead.register_inventory('shop.stock')",
        )
        .await;
    let boss = db.connect("postgres").await;
    let app = db.connect("owner").await;
    app.run("SELECT bulkhead.enqueue_decrement('shop.stock', 'q0', 'a', 1)").await;
    boss.run("CALL bulkhead.drain_inventory('shop.stock')").await;
    assert_eq!(decide(&app, "shop.stock", &[("o1", "a", "1")]).await, ["accepted 8"]);
    app.run("SELECT bulkhead.enqueue_decrement('shop.stock', 'q1', 'a', 3)").await;
    owner.run("ALTER SCHEMA shop RENAME TO old").await;
    assert_eq!(decide(&app, "old.stock", &[("o2", "a", "1")]).await, ["accepted 7"]);
    owner.run("ALTER SCHEMA next RENAME TO shop").await;
    boss.run("CALL bulkhead.drain_inventory('old.stock')").await;
    assert_eq!(stored(&app, "old.stock", "q1").await, ["a accepted 4"]);
    assert_eq!(decide(&app, "old.stock", &[("o3", "a", "1")]).await, ["accepted 3"]);
    assert_eq!(app.one("SELECT bulkhead.release_order('old.stock', 'o1')").await, "1");
    assert_eq!(app.rows("SELECT o.quantity, s.quantity FROM old.stock o, shop.stock s").await, [["4", "1000"]]);
}

/// A dump writes a table's number, and what is restored may have another table of it.
async fn a_dropped_tables_orders_are_no_other_tables(db: Database) {
    let owner = stock(&db).await;
    owner.run("SELECT bulkhead.enqueue_decrement('stock', 'q', 'a', 1); DROP TABLE stock").await;
    owner
        .run(
            "CREATE TABLE stock (sku text PRIMARY KEY, stock int); INSERT INTO stock VALUES ('a', 10);
             SELECT bulkhead.register_inventory('stock', 'sku', 'stock')",
        )
        .await;
    let boss = db.connect("postgres").await;
    boss.run("BEGIN; SELECT bulkhead.begin_bypass('what a restore does'); UPDATE bulkhead.inventory_poison SET relation = 'stock'::regclass; COMMIT").await;
    assert_eq!(owner.one("SELECT count(*) FROM bulkhead.poisoned_orders('stock')").await, "0");
    assert_eq!(boss.one("SELECT bulkhead.requeue_poisoned('stock')").await, "0");
    boss.run("CALL bulkhead.drain_inventory('stock')").await;
    assert_eq!(left(&owner).await, ["a 10"]);
    assert_eq!(boss.one("SELECT reason FROM bulkhead.all_poisoned_orders()").await, "its table was dropped");
    assert_eq!(boss.one("SELECT bulkhead.forget_poisoned('stock')").await, "1");
}
