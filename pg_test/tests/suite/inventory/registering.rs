//! Which tables can be inventories.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{A, acting, decide, shops, stock, stored};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        what_cannot_be_one_is_refused,
        only_the_owner_registers,
        it_follows_changes_to_the_table,
        registered_again_it_knows_its_orders,
        protect_after_register_is_noticed,
        a_dump_carries_it_all => 300,
    ]
}

async fn what_cannot_be_one_is_refused(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE plain (id int PRIMARY KEY, quantity int, price numeric, made int GENERATED ALWAYS AS (1) STORED, c char(3) UNIQUE, other int);
             CREATE TABLE loose (id int, quantity int);
             CREATE UNIQUE INDEX ON loose (id) WHERE quantity > 0;
             CREATE VIEW seen AS SELECT * FROM plain;
             CREATE TABLE policed (id int PRIMARY KEY, quantity int);
             ALTER TABLE policed ENABLE ROW LEVEL SECURITY;
             CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             CREATE TABLE odd (id text COLLATE folded PRIMARY KEY, quantity int);
             CREATE TEMP TABLE gone (id int PRIMARY KEY, quantity int);",
        )
        .await;
    let refuse =
        async |arguments: &str| owner.refused(&format!("SELECT bulkhead.register_inventory({arguments})")).await;
    refuse("NULL").await.state("22023");
    refuse("'plain', NULL").await.state("22023");
    refuse("'plain', 'nothing'").await.state("22023").message("table public.plain has no column nothing");
    refuse("'plain', 'id', 'price'")
        .await
        .state("22023")
        .message("column price of public.plain is of a type that it cannot be");
    refuse("'plain', 'id', 'made'").await.state("22023").message("column made of public.plain is generated");
    refuse("'plain', 'c'").await.state("22023").message("column c of public.plain is of a type that it cannot be");
    refuse("'plain', 'id', 'id'").await.state("22023");
    refuse("'plain', 'other'").await.state("55000").hint("CREATE UNIQUE INDEX CONCURRENTLY ON public.plain (other);");
    refuse("'loose'").await.state("55000").message("public.loose has no unique index on (id)");
    refuse("'seen'").await.state("22023").message("public.seen cannot be an inventory");
    refuse("'gone'").await.state("22023");
    refuse("'policed'").await.state("55000").message("public.policed cannot be an inventory as it is");
    refuse("'odd'").await.state("22023");
}

async fn only_the_owner_registers(db: Database) {
    stock(&db).await;
    let app = db.connect("app").await;
    app.refused("SELECT bulkhead.register_inventory('stock', 'sku', 'stock')").await.state("42501");
    app.refused("SELECT * FROM bulkhead.inventory").await.state("42501");
    app.refused("SELECT * FROM bulkhead.order_verdict").await.state("42501");
}

async fn it_follows_changes_to_the_table(db: Database) {
    let owner = stock(&db).await;
    let app = db.connect("app").await;
    decide(&app, "stock", &[("1", "a", "1")]).await;
    owner.run("ALTER TABLE stock DROP COLUMN stock").await;
    app.refused("SELECT * FROM bulkhead.decrement_inventory('stock', '2', 'a', 1)")
        .await
        .state("55000")
        .message("the item column or the quantity column of public.stock is gone");
    owner.run("ALTER TABLE stock ADD COLUMN stock bigint DEFAULT 3; SELECT bulkhead.register_inventory('stock', 'sku', 'stock')").await;
    assert_eq!(decide(&app, "stock", &[("1", "a", "1"), ("2", "a", "1")]).await, ["accepted 9", "accepted 2"]);
    // In a transaction that is rolled back.
    app.run("SELECT 1").await;
    owner.run("CREATE TABLE other (id int PRIMARY KEY, quantity int); INSERT INTO other VALUES (1, 5)").await;
    owner.run("BEGIN; SELECT bulkhead.register_inventory('other')").await;
    assert_eq!(decide(&owner, "other", &[("1", "1", "1")]).await, ["accepted 4"]);
    owner.run("ROLLBACK").await;
    owner.refused("SELECT * FROM bulkhead.decrement_inventory('other', '1', '1', 1)").await.state("55000");
    owner.run("DROP TABLE stock").await;
    owner.run("CREATE TABLE stock (sku text PRIMARY KEY, stock int)").await;
    app.refused("SELECT * FROM bulkhead.decrement_inventory('stock', '2', 'a', 1)").await.state("55000");
}

async fn registered_again_it_knows_its_orders(db: Database) {
    let owner = stock(&db).await;
    let app = db.connect("app").await;
    decide(&app, "stock", &[("1", "a", "1")]).await;
    owner.run("SELECT bulkhead.register_inventory('stock', 'sku', 'stock')").await;
    assert_eq!(stored(&app, "stock", "1").await, ["a accepted 9"]);
}

async fn protect_after_register_is_noticed(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE shops (tenant_id text, id text, quantity int, PRIMARY KEY (tenant_id, id), UNIQUE (id));
             INSERT INTO shops VALUES ('t', 'x', 3);
             SELECT bulkhead.register_inventory('shops')",
        )
        .await;
    assert_eq!(decide(&owner, "shops", &[("1", "x", "1")]).await, ["accepted 2"]);
    owner.run("SELECT bulkhead.protect('shops')").await;
    let app = acting(&db, "app", "t").await;
    app.refused("SELECT * FROM bulkhead.decrement_inventory('shops', '1', 'x', 1)")
        .await
        .state("55000")
        .message("public.shops was registered as an inventory without a tenant column");
    owner.run("SELECT bulkhead.register_inventory('shops')").await;
    assert_eq!(decide(&app, "shops", &[("1", "x", "1")]).await, ["accepted 1"], "orders begin anew");
}

async fn a_dump_carries_it_all(db: Database) {
    shops(&db).await;
    db.admin("ALTER TABLE shops ADD COLUMN gone int; ALTER TABLE shops DROP COLUMN gone").unwrap();
    let a = acting(&db, "app", A).await;
    decide(&a, "shops", &[("1", "x", "4"), ("2", "x", "100")]).await;
    a.run("SELECT bulkhead.enqueue_decrement('shops', '3', ARRAY['x', NULL], ARRAY[1, NULL])").await;
    a.run("SELECT bulkhead.enqueue_decrement('shops', '4', 'x', 1)").await;
    let dump = db.client_program("pg_dump", "postgres").env("PGOPTIONS", "-c bulkhead.bypass=backup").output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let there = db.cluster.empty_database("inventory_there").unwrap();
    let restored = there.psql("postgres", &String::from_utf8(dump.stdout).unwrap()).unwrap();
    let errors = String::from_utf8_lossy(&restored.stderr).into_owned();
    assert!(restored.status.success() && !errors.contains("ERROR"), "{errors}");
    let a = acting(&there, "app", A).await;
    assert_eq!(decide(&a, "shops", &[("1", "x", "4"), ("2", "x", "100")]).await, ["accepted 6", "insufficient 6"]);
    there.connect("postgres").await.run("CALL bulkhead.drain_inventory('shops')").await;
    assert_eq!(stored(&a, "shops", "4").await, ["x accepted 5"]);
    assert_eq!(stored(&a, "shops", "3").await, ["x rejected 6", "NULL invalid NULL"]);
    assert_eq!(a.one("SELECT bulkhead.enqueue_decrement('shops', '5', 'x', 1) > 2").await, "t");
    drop(a);
    there.drop().unwrap();
}
