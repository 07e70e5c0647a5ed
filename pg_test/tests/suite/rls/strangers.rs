//! Children that a protected table must not have, and parents that it must not have.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{
    A, B, NO_ROWS, NOTHING, OF_A, acting, assert_same, bare_orders, bare_orders_past_the_seal, orders,
    orders_past_the_seal, picture, registered, seen, seen_by,
};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_foreign_partition_is_refused,
        a_foreign_table_above_the_border_is_refused,
        a_temporary_child_is_refused,
        a_large_child_without_an_index_is_refused,
        a_child_of_two_protected_parents_is_protected_by_both,
        a_tree_of_two_protected_parents_unprotects_to_nothing,
        an_unprotected_parent_is_refused,
        an_unprotected_parent_shows_no_foreign_rows,
        an_unprotected_second_parent_shows_no_foreign_rows,
        an_unprotected_partitioned_parent_shows_no_foreign_rows,
        unprotect_of_a_parent_exposes_no_protected_child,
        share_of_a_parent_exposes_no_protected_child,
        a_protected_parent_of_the_unprotected_parent_is_no_excuse,
        ddl_of_strangers_goes_on,
    ]
}

async fn server(db: &Database) {
    db.admin(
        "CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere; GRANT USAGE ON FOREIGN SERVER far TO owner",
    )
    .unwrap();
}

async fn a_foreign_partition_is_refused(db: Database) {
    server(&db).await;
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE p (id int, tenant_id uuid NOT NULL) PARTITION BY RANGE (id);
             CREATE FOREIGN TABLE abroad PARTITION OF p FOR VALUES FROM (0) TO (10) SERVER far",
        )
        .await;
    for call in ["protect", "share"] {
        let refused = owner.refused(&format!("SELECT bulkhead.{call}('p')")).await;
        refused.state("55000").message_contains("public.abroad is a foreign table").hint_contains("Detach it");
    }
    owner.run("ALTER TABLE p DETACH PARTITION abroad; SELECT bulkhead.protect('p')").await;
    for later in [
        "ALTER TABLE p ATTACH PARTITION abroad FOR VALUES FROM (0) TO (10)",
        "CREATE FOREIGN TABLE overseas PARTITION OF p FOR VALUES FROM (0) TO (10) SERVER far",
    ] {
        let refused = owner.refused(later).await;
        refused.state("55000").message_contains("cannot become a child of protected table public.p");
    }
    assert_eq!(owner.column("SELECT inhrelid::regclass FROM pg_inherits").await, NOTHING);
    assert_eq!(registered(&owner).await, [["p", "tenant_id", "uuid", "f"]]);
}

async fn a_foreign_table_above_the_border_is_refused(db: Database) {
    server(&db).await;
    let owner = orders(&db).await;
    for child in [
        "CREATE FOREIGN TABLE abroad () INHERITS (orders) SERVER far",
        "CREATE FOREIGN TABLE abroad (id int NOT NULL, tenant_id uuid NOT NULL, item text) SERVER far;
         ALTER FOREIGN TABLE abroad INHERIT orders",
    ] {
        let refused = owner.refused(child).await;
        refused.state("55000").message_contains("cannot become a child of protected table public.orders");
    }
    assert_eq!(registered(&owner).await, [["orders", "tenant_id", "uuid", "f"]]);
}

async fn a_temporary_child_is_refused(db: Database) {
    let owner = orders_past_the_seal(&db).await;
    db.admin(&format!("GRANT TEMPORARY ON DATABASE {} TO owner", db.name)).unwrap();
    let refused = owner.refused("CREATE TEMP TABLE mine () INHERITS (orders)").await;
    refused.state("55000").message_contains("cannot become a child of protected table public.orders");
    // One that was there before is found by protect() itself.
    owner.run("SELECT bulkhead.unprotect('orders'); CREATE TEMP TABLE mine () INHERITS (orders)").await;
    owner.run(&format!("INSERT INTO mine VALUES (6, '{A}'), (7, '{B}')")).await;
    match owner.try_run("SELECT bulkhead.protect('orders')").await {
        Err(error) => assert!(["55000", "22023"].contains(&error.code().unwrap().code()), "{error}"),
        Ok(()) => {
            owner.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
            assert_eq!(owner.column("SELECT id FROM mine").await, ["6"]);
        }
    }
}

async fn a_large_child_without_an_index_is_refused(db: Database) {
    let owner = orders(&db).await;
    owner
        .run(&format!(
            "CREATE TABLE large (LIKE orders); INSERT INTO large SELECT i, '{A}' FROM generate_series(10, 100011) i"
        ))
        .await;
    let refused = owner.refused("ALTER TABLE large INHERIT orders").await;
    refused
        .state("55000")
        .message_contains("public.large has no index")
        .hint_contains("CONCURRENTLY ON public.large (tenant_id)");
    owner.run("CREATE INDEX CONCURRENTLY ON public.large (tenant_id); ").await;
    owner.run("ALTER TABLE large INHERIT orders").await;
    assert_eq!(seen_by(&db, A, "large", "count(*)").await, ["100002"]);
    assert_eq!(seen_by(&db, B, "large", "count(*)").await, ["0"]);
}

async fn a_child_of_two_protected_parents_is_protected_by_both(db: Database) {
    let owner = orders(&db).await;
    owner
        .run(
            "CREATE TABLE parcels (tenant_id uuid, weight int); SELECT bulkhead.protect('parcels');
             CREATE TABLE sent () INHERITS (orders, parcels)",
        )
        .await;
    for tenant in [A, B] {
        acting(&db, "app", tenant).await.run("INSERT INTO sent (id, weight) VALUES (6, 1)").await;
    }
    for table in ["orders", "parcels", "sent"] {
        assert_eq!(seen_by(&db, A, table, "DISTINCT tenant_id").await, [A], "{table}");
        db.connect("app").await.refused(&format!("TABLE {table}")).await.state("42501");
    }
    // Without one of them, the other still holds.
    let owner = db.past_the_seal("owner").await;
    owner.run("SELECT bulkhead.unprotect('parcels')").await;
    for table in ["orders", "sent"] {
        assert_eq!(seen_by(&db, A, table, "DISTINCT tenant_id").await, [A], "{table} after unprotect('parcels')");
    }
}

async fn a_tree_of_two_protected_parents_unprotects_to_nothing(db: Database) {
    let owner = bare_orders_past_the_seal(&db).await;
    owner
        .run("CREATE TABLE parcels (tenant_id uuid, weight int); CREATE TABLE sent () INHERITS (orders, parcels)")
        .await;
    let before = [picture(&owner, "orders").await, picture(&owner, "parcels").await];
    let protect = "SELECT bulkhead.protect('orders'); SELECT bulkhead.protect('parcels')";
    for back in [
        "SELECT bulkhead.unprotect_all()",
        "SELECT bulkhead.unprotect('orders'); SELECT bulkhead.unprotect('parcels')",
        "SELECT bulkhead.unprotect('parcels'); SELECT bulkhead.unprotect('orders')",
    ] {
        owner.run(protect).await;
        assert_eq!(registered(&owner).await.len(), 3);
        owner.run(back).await;
        assert_eq!(registered(&owner).await, NO_ROWS, "{back}");
        for (table, before) in ["orders", "parcels"].iter().zip(&before) {
            assert_same(&picture(&owner, table).await, before, back);
        }
    }
}

async fn an_unprotected_parent_is_refused(db: Database) {
    let owner = orders(&db).await;
    owner
        .run(
            "CREATE TABLE above (tenant_id uuid);
             CREATE TABLE parted (id int NOT NULL, tenant_id uuid, item text) PARTITION BY RANGE (id)",
        )
        .await;
    for (ddl, child, parent) in [
        ("ALTER TABLE orders INHERIT above", "orders", "above"),
        ("ALTER TABLE parted ATTACH PARTITION orders DEFAULT", "orders", "parted"),
        ("CREATE TABLE child () INHERITS (orders, above)", "child", "above"),
    ] {
        let refused = owner.refused(ddl).await;
        refused
            .state("55000")
            .message(&format!("protected table public.{child} cannot become a child of public.{parent}"))
            .hint("Protect the parent first.");
        assert_eq!(owner.column("SELECT inhrelid::regclass FROM pg_inherits").await, NOTHING);
    }
    owner.run("SELECT bulkhead.protect('above'); ALTER TABLE orders INHERIT above").await;
    assert_eq!(seen_by(&db, A, "above", "tenant_id").await, [A, A, A]);
}

/// What `app` reads through `table` are rows of A only, or it is refused; the same without a tenant.
async fn assert_no_foreign_row(db: &Database, table: &str) {
    let app = acting(db, "app", A).await;
    let read = format!("SELECT tenant_id FROM {table} WHERE tenant_id <> '{A}'");
    if let Ok(rows) = app.query(&read, &[]).await {
        assert!(rows.is_empty(), "{} rows of other tenants are read through {table}", rows.len());
    }
    let naked = db.connect("app").await;
    if let Ok(rows) = naked.query(&format!("SELECT tenant_id FROM {table}"), &[]).await {
        assert!(rows.is_empty(), "{} rows are read through {table} without a tenant", rows.len());
    }
}

async fn an_unprotected_parent_shows_no_foreign_rows(db: Database) {
    let owner = orders(&db).await;
    owner.run("CREATE TABLE above (tenant_id uuid)").await;
    // Refusing the statement is as good as filtering what it makes readable.
    owner.try_run("ALTER TABLE orders INHERIT above").await.ok();
    assert_no_foreign_row(&db, "above").await;
    assert_eq!(seen_by(&db, A, "orders", "id").await, OF_A);
}

async fn an_unprotected_second_parent_shows_no_foreign_rows(db: Database) {
    let owner = orders(&db).await;
    owner.run("CREATE TABLE other (tenant_id uuid)").await;
    if owner.try_run("CREATE TABLE child () INHERITS (orders, other)").await.is_ok() {
        for tenant in [A, B] {
            acting(&db, "app", tenant).await.run("INSERT INTO child (id) VALUES (8)").await;
        }
    }
    assert_no_foreign_row(&db, "other").await;
}

async fn an_unprotected_partitioned_parent_shows_no_foreign_rows(db: Database) {
    let owner = orders(&db).await;
    owner.run("CREATE TABLE above (id int NOT NULL, tenant_id uuid, item text) PARTITION BY RANGE (id)").await;
    owner.try_run("ALTER TABLE above ATTACH PARTITION orders DEFAULT").await.ok();
    assert_no_foreign_row(&db, "above").await;
    assert_eq!(seen_by(&db, A, "orders", "id").await, OF_A);
}

/// The parent of `orders` was there before: protect() must be called for that one.
async fn a_protected_parent_of_the_unprotected_parent_is_no_excuse(db: Database) {
    let owner: Client = bare_orders(&db).await;
    owner.run("CREATE TABLE above (tenant_id uuid); ALTER TABLE orders INHERIT above").await;
    let refused = owner.refused("SELECT bulkhead.protect('orders')").await;
    refused.state("55000").message("public.orders inherits from public.above");
    assert_eq!(registered(&owner).await, NO_ROWS);
    owner.run("SELECT bulkhead.protect('above')").await;
    let app = acting(&db, "app", A).await;
    assert_eq!(seen(&app).await, OF_A);
    assert_eq!(app.column("SELECT DISTINCT tenant_id FROM above").await, [A]);
}

/// `above`, protected, over `orders`, which was protected by itself before.
async fn protected_by_itself(db: &Database) -> Client {
    let owner = orders(db).await;
    owner
        .run("CREATE TABLE above (tenant_id uuid); SELECT bulkhead.protect('above'); ALTER TABLE orders INHERIT above")
        .await;
    owner
}

/// Either the child is no longer registered, and open as the owner said; or its rows are not read through its parent.
async fn assert_open_or_shut(db: &Database, owner: &Client) {
    let registered =
        "SELECT count(*) FROM bulkhead.protected_tables WHERE relation = 'orders'::regclass AND NOT shared";
    if owner.one(registered).await == "1" {
        assert_no_foreign_row(db, "above").await;
        assert_eq!(seen_by(db, A, "orders", "id").await, OF_A);
    } else {
        assert_eq!(seen(&db.connect("app").await).await.len(), 5);
    }
}

async fn unprotect_of_a_parent_exposes_no_protected_child(db: Database) {
    let owner = protected_by_itself(&db).await;
    owner.try_run("SELECT bulkhead.unprotect('above')").await.ok();
    assert_open_or_shut(&db, &owner).await;
}

async fn share_of_a_parent_exposes_no_protected_child(db: Database) {
    let owner = protected_by_itself(&db).await;
    owner.try_run("SELECT bulkhead.share('above')").await.ok();
    assert_open_or_shut(&db, &owner).await;
}

async fn ddl_of_strangers_goes_on(db: Database) {
    orders(&db).await;
    let stranger = format!("stranger_{}", db.name);
    db.admin(&format!("CREATE ROLE {stranger} LOGIN; GRANT CREATE, TEMPORARY ON DATABASE {} TO {stranger}", db.name))
        .unwrap();
    for role in ["app", &stranger] {
        let client = db.connect(role).await;
        client
            .run(
                "CREATE TEMP TABLE mine (id int, tenant_id uuid) PARTITION BY RANGE (id);
                 CREATE TEMP TABLE more PARTITION OF mine DEFAULT; ALTER TABLE mine RENAME tenant_id TO other;
                 CREATE POLICY p ON mine USING (true); CREATE INDEX ON mine (id); INSERT INTO mine VALUES (1);
                 CREATE TEMP TABLE copy AS TABLE mine; DROP TABLE mine",
            )
            .await;
        client.run("DISCARD TEMP").await;
    }
    let client = db.connect(&stranger).await;
    client
        .run("CREATE SCHEMA own; CREATE TABLE own.t (id int); ALTER TABLE own.t ADD x int; DROP SCHEMA own CASCADE")
        .await;
    drop(client);
    db.admin(&format!("DROP OWNED BY {stranger}; DROP ROLE {stranger}")).unwrap();
}
