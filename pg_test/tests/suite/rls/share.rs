//! share(): a table that every tenant reads and none writes.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{
    A, B, NO_ROWS, NOTHING, OF_A, acting, assert_same, bare_orders, bare_orders_past_the_seal, picture, registered,
    seen, seen_by,
};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        every_tenant_and_none_reads,
        nobody_but_the_owner_writes,
        a_write_grant_by_policy_does_not_help,
        foreign_keys_to_a_shared_table_work,
        a_second_call_does_nothing,
        a_tampered_table_is_repaired,
        own_policies_are_kept,
        unprotect_restores_every_earlier_state,
        a_protected_table_becomes_shared_and_protected_again,
        a_failed_move_leaves_the_table_protected,
        a_shared_tree_is_shared_below,
        a_later_partition_is_shared_too,
        a_shared_table_takes_on_its_protected_parents_border,
        a_rolled_back_call_leaves_nothing,
    ]
}

/// `prices(sku, cents)` with two rows, shared. Returns its owner.
async fn prices(db: &Database) -> Client {
    let owner = db.connect("owner").await;
    owner
        .run("CREATE TABLE prices (sku text PRIMARY KEY, cents int); INSERT INTO prices VALUES ('a', 1), ('b', 2)")
        .await;
    owner.run("SELECT bulkhead.share('prices')").await;
    owner
}

async fn every_tenant_and_none_reads(db: Database) {
    let owner = prices(&db).await;
    assert_eq!(registered(&owner).await, [["prices", "NULL", "NULL", "t"]]);
    for tenant in [A, B, "h2o", ""] {
        for role in ["app", "owner", "svc"] {
            let client = acting(&db, role, tenant).await;
            assert_eq!(client.column("SELECT sku FROM prices ORDER BY 1").await, ["a", "b"], "{role} {tenant:?}");
        }
    }
}

/// `app` can change nothing in the table, whatever it acts for.
async fn assert_read_only(db: &Database, table: &str) {
    for tenant in [A, ""] {
        let app = acting(db, "app", tenant).await;
        let insert = app.refused(&format!("INSERT INTO {table} VALUES ('c', 3)")).await;
        insert.state("42501").message_contains("new row violates row-level security policy");
        for write in
            ["UPDATE # SET cents = 0 RETURNING sku", "DELETE FROM # RETURNING sku", "SELECT sku FROM # FOR UPDATE"]
        {
            assert_eq!(app.column(&write.replace('#', table)).await, NOTHING, "{write}");
        }
        let upsert = format!("INSERT INTO {table} VALUES ('a', 9) ON CONFLICT (sku) DO UPDATE SET cents = 9");
        app.refused(&upsert).await.state("42501");
    }
}

async fn nobody_but_the_owner_writes(db: Database) {
    let owner = prices(&db).await;
    assert_read_only(&db, "prices").await;
    owner.run("INSERT INTO prices VALUES ('c', 3); UPDATE prices SET cents = 20 WHERE sku = 'b'; DELETE FROM prices WHERE sku = 'a'").await;
    let app = db.connect("app").await;
    assert_eq!(app.rows("SELECT * FROM prices ORDER BY 1").await, [["b", "20"], ["c", "3"]]);
}

async fn a_write_grant_by_policy_does_not_help(db: Database) {
    let owner = prices(&db).await;
    owner.run("CREATE POLICY evil ON prices TO app USING (true) WITH CHECK (true)").await;
    assert_read_only(&db, "prices").await;
}

async fn foreign_keys_to_a_shared_table_work(db: Database) {
    let owner = prices(&db).await;
    owner
        .run("CREATE TABLE lines (tenant_id uuid, sku text REFERENCES prices); SELECT bulkhead.protect('lines')")
        .await;
    let app = acting(&db, "app", A).await;
    app.run("INSERT INTO lines (sku) VALUES ('a')").await;
    app.refused("INSERT INTO lines (sku) VALUES ('z')").await.state("23503");
    let joined = "SELECT sku, cents FROM lines JOIN prices USING (sku)";
    assert_eq!(app.rows(joined).await, [["a", "1"]]);
    assert_eq!(acting(&db, "app", B).await.rows(joined).await, NO_ROWS);
    db.connect("app").await.refused(joined).await.state("42501").message_contains("public.lines");
}

async fn a_second_call_does_nothing(db: Database) {
    let owner = prices(&db).await;
    let before = picture(&owner, "prices").await;
    assert_eq!(owner.column("SELECT bulkhead.share('prices')").await, NOTHING);
    assert_same(&picture(&owner, "prices").await, &before, "prices");
}

async fn a_tampered_table_is_repaired(db: Database) {
    let owner = prices(&db).await;
    let whole = picture(&owner, "prices").await;
    for tampering in [
        "ALTER TABLE prices DISABLE ROW LEVEL SECURITY",
        "DROP POLICY bulkhead_shared_insert ON prices",
        "DROP POLICY bulkhead_shared_read ON prices",
        "ALTER POLICY bulkhead_shared_insert ON prices WITH CHECK (true)",
        "ALTER POLICY bulkhead_shared_update ON prices USING (true)",
        "ALTER POLICY bulkhead_shared_delete ON prices TO svc",
    ] {
        owner.run(tampering).await;
        owner.run("SELECT bulkhead.share('prices')").await;
        assert_same(&picture(&owner, "prices").await, &whole, tampering);
    }
}

async fn own_policies_are_kept(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE prices (sku text PRIMARY KEY, cents int); INSERT INTO prices VALUES ('a', 1), ('b', 2);
             ALTER TABLE prices ENABLE ROW LEVEL SECURITY;
             CREATE POLICY cheap ON prices AS RESTRICTIVE FOR SELECT USING (cents < 2);
             CREATE POLICY staff ON prices TO svc USING (true);
             SELECT bulkhead.share('prices')",
        )
        .await;
    assert_eq!(seen_by(&db, A, "prices", "sku").await, ["a"]);
}

async fn unprotect_restores_every_earlier_state(db: Database) {
    let owner = db.connect("owner").await;
    for (number, more) in [
        "",
        "ALTER TABLE # ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE # ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON # USING (id > 0)",
        "ALTER TABLE # ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON # USING (id > 0)",
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!("t{number}");
        owner.run(&format!("CREATE TABLE {table} (id int); {}", more.replace('#', &table))).await;
        let before = picture(&owner, &table).await;
        owner.run(&format!("SELECT bulkhead.share('{table}')")).await;
        assert_ne!(picture(&owner, &table).await, before, "{more}");
        owner.run(&format!("SELECT bulkhead.unprotect('{table}')")).await;
        assert_same(&picture(&owner, &table).await, &before, more);
    }
    assert_eq!(registered(&owner).await, NO_ROWS);
}

async fn a_protected_table_becomes_shared_and_protected_again(db: Database) {
    let owner = bare_orders_past_the_seal(&db).await;
    let bare = picture(&owner, "orders").await;
    owner.run("SELECT bulkhead.protect('orders')").await;
    let protected = picture(&owner, "orders").await;
    let app = db.connect("app").await;
    app.refused("TABLE orders").await.state("42501");
    owner.run("SELECT bulkhead.share('orders')").await;
    assert_eq!(registered(&owner).await, [["orders", "NULL", "NULL", "t"]]);
    assert_eq!(seen(&app).await.len(), 5);
    app.refused(&format!("INSERT INTO orders VALUES (6, '{A}')")).await.state("42501");
    owner.run("SELECT bulkhead.protect('orders')").await;
    assert_eq!(registered(&owner).await, [["orders", "tenant_id", "uuid", "f"]]);
    assert_same(&picture(&owner, "orders").await, &protected, "protected again");
    app.refused("TABLE orders").await.state("42501");
    assert_eq!(seen_by(&db, A, "orders", "id").await, OF_A);
    owner.run("SELECT bulkhead.unprotect('orders')").await;
    assert_same(&picture(&owner, "orders").await, &bare, "unprotected");
}

async fn a_failed_move_leaves_the_table_protected(db: Database) {
    let owner = prices(&db).await;
    owner.run("ALTER TABLE prices ADD tenant_id uuid").await;
    let before = picture(&owner, "prices").await;
    owner.refused("SELECT bulkhead.protect('prices')").await.state("55000").message_contains("2 rows");
    assert_same(&picture(&owner, "prices").await, &before, "prices");
    assert_eq!(registered(&owner).await, [["prices", "NULL", "NULL", "t"]]);
}

async fn a_shared_tree_is_shared_below(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE prices (sku text PRIMARY KEY, cents int) PARTITION BY LIST (sku);
             CREATE TABLE prices_a PARTITION OF prices FOR VALUES IN ('a', 'c'); INSERT INTO prices VALUES ('a', 1);
             SELECT bulkhead.share('prices')",
        )
        .await;
    for table in ["prices", "prices_a"] {
        assert_eq!(seen_by(&db, A, table, "sku").await, ["a"]);
        assert_read_only(&db, table).await;
    }
}

async fn a_later_partition_is_shared_too(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE prices (sku text PRIMARY KEY, cents int) PARTITION BY LIST (sku);
             SELECT bulkhead.share('prices');
             CREATE TABLE prices_a PARTITION OF prices FOR VALUES IN ('a', 'c'); INSERT INTO prices VALUES ('a', 1)",
        )
        .await;
    assert_read_only(&db, "prices").await;
    assert_read_only(&db, "prices_a").await;
    assert_eq!(registered(&owner).await, [["prices", "NULL", "NULL", "t"], ["prices_a", "NULL", "NULL", "t"]]);
}

async fn a_shared_table_takes_on_its_protected_parents_border(db: Database) {
    let owner = bare_orders(&db).await;
    owner
        .run(&format!(
            "CREATE TABLE early (LIKE orders INCLUDING DEFAULTS); INSERT INTO early VALUES (6, '{A}'), (7, '{B}');
             CREATE TABLE late (LIKE orders INCLUDING DEFAULTS); INSERT INTO late VALUES (8, '{A}'), (9, '{B}');
             SELECT bulkhead.share('early'), bulkhead.share('late');
             ALTER TABLE early INHERIT orders; SELECT bulkhead.protect('orders');
             ALTER TABLE late ALTER tenant_id SET NOT NULL; ALTER TABLE late INHERIT orders"
        ))
        .await;
    let app = acting(&db, "app", A).await;
    assert_eq!(seen(&app).await, ["1", "2", "3", "6", "8"]);
    for (table, id) in [("early", "6"), ("late", "8")] {
        assert_eq!(app.column(&format!("SELECT id FROM {table}")).await, [id]);
        let naked = db.connect("app").await.refused(&format!("TABLE {table}")).await;
        naked.state("42501").message(&format!("no tenant context for protected table public.{table}"));
    }
    let shared = "SELECT relation FROM bulkhead.protected_tables WHERE shared";
    assert_eq!(owner.column(shared).await, NOTHING);
}

async fn a_rolled_back_call_leaves_nothing(db: Database) {
    let owner = bare_orders(&db).await;
    let before = picture(&owner, "orders").await;
    owner.run("BEGIN; SELECT bulkhead.share('orders'); ROLLBACK").await;
    assert_same(&picture(&owner, "orders").await, &before, "orders");
    assert_eq!(registered(&owner).await, NO_ROWS);
    db.connect("app").await.run(&format!("INSERT INTO orders VALUES (6, '{A}')")).await;
}
