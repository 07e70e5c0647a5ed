//! unprotect_all(), and the extension's end: before it is dropped, and when it is dropped by force.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{
    A, B, NO_ROWS, NOTHING, OF_A, assert_same, bare_orders_past_the_seal, orders, orders_past_the_seal, picture,
    registered, seen, seen_by,
};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        all_tables_are_unprotected_at_once,
        what_was_protected_before_it_was_attached_is_reached,
        unprotect_all_is_all_or_nothing,
        the_extension_is_not_dropped_under_protected_tables,
        the_extension_is_dropped_after_unprotect_all,
        a_forced_drop_of_the_extension_shows_nothing,
    ]
}

async fn all_tables_are_unprotected_at_once(db: Database) {
    let owner = bare_orders_past_the_seal(&db).await;
    owner
        .run(
            "CREATE TABLE jobs (tenant_id text); CREATE TABLE prices (id int);
             CREATE TABLE p (id int, tenant_id uuid) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p DEFAULT;
             CREATE TABLE gone PARTITION OF p FOR VALUES FROM (0) TO (10)",
        )
        .await;
    let mut before = Vec::new();
    for table in ["orders", "jobs", "prices", "p"] {
        before.push(picture(&owner, table).await);
    }
    owner.run("SELECT bulkhead.protect('orders'), bulkhead.protect('jobs'), bulkhead.share('prices'), bulkhead.protect('p')").await;
    assert_eq!(registered(&owner).await.len(), 6);
    assert!(owner.column("SELECT bulkhead.unprotect_all()").await.len() > 12);
    assert_eq!(registered(&owner).await, NO_ROWS);
    for (table, before) in ["orders", "jobs", "prices", "p"].iter().zip(before) {
        assert_same(&picture(&owner, table).await, &before, table);
    }
    assert_eq!(owner.column("SELECT bulkhead.unprotect_all()").await, NOTHING);
    // A partition that was detached has no parent that could be called for it.
    owner
        .run("SELECT bulkhead.protect('p'); ALTER TABLE p DETACH PARTITION gone; SELECT bulkhead.unprotect_all()")
        .await;
    assert_eq!(registered(&owner).await, NO_ROWS);
    assert_eq!(owner.column("SELECT polname FROM pg_policy").await, NOTHING);
}

async fn what_was_protected_before_it_was_attached_is_reached(db: Database) {
    let owner = db.past_the_seal("owner").await;
    owner
        .run(
            "CREATE TABLE p (id int, tenant_id uuid) PARTITION BY RANGE (id); CREATE TABLE p1 (id int, tenant_id uuid);
             CREATE TABLE heir (id int, tenant_id uuid); CREATE TABLE one (id int, tenant_id uuid); CREATE TABLE two (id int, tenant_id uuid)",
        )
        .await;
    let tables = ["p", "heir", "one", "two"];
    let mut before = Vec::new();
    for table in tables {
        before.extend(picture(&owner, table).await);
        owner.run(&format!("SELECT bulkhead.protect('{table}')")).await;
    }
    before.extend(picture(&owner, "p1").await);
    owner
        .run(
            "SELECT bulkhead.protect('p1'); ALTER TABLE p ATTACH PARTITION p1 DEFAULT;
             ALTER TABLE heir INHERIT one; ALTER TABLE heir INHERIT two; SELECT bulkhead.unprotect_all();
             ALTER TABLE p DETACH PARTITION p1; ALTER TABLE heir NO INHERIT one; ALTER TABLE heir NO INHERIT two",
        )
        .await;
    let mut after = picture(&owner, "p1").await;
    for table in tables {
        after.extend(picture(&owner, table).await);
    }
    assert_same(&after, &before, "all");
    assert_eq!(registered(&owner).await, NO_ROWS);
}

async fn unprotect_all_is_all_or_nothing(db: Database) {
    let owner = orders_past_the_seal(&db).await;
    db.admin("CREATE TABLE theirs (tenant_id uuid); SELECT bulkhead.protect('theirs')").unwrap();
    owner
        .refused("SELECT bulkhead.unprotect_all()")
        .await
        .state("42501")
        .message("must be owner of table public.theirs");
    assert_eq!(registered(&owner).await.len(), 2);
    owner.refused("TABLE orders").await.state("42501");
    db.admin("SELECT bulkhead.unprotect_all()").unwrap();
    assert_eq!(registered(&owner).await, NO_ROWS);
}

async fn the_extension_is_not_dropped_under_protected_tables(db: Database) {
    orders(&db).await.run("CREATE TABLE jobs (tenant_id text); SELECT bulkhead.protect('jobs')").await;
    let admin = db.connect("postgres").await;
    admin
        .refused("DROP EXTENSION bulkhead")
        .await
        .state("2BP01")
        .detail_contains("policy bulkhead_floor on table orders depends on")
        .detail_contains("policy bulkhead_floor on table jobs depends on");
    assert_eq!(seen_by(&db, A, "orders", "id").await, OF_A);
}

async fn the_extension_is_dropped_after_unprotect_all(db: Database) {
    let owner = orders_past_the_seal(&db).await;
    let app = db.connect("app").await;
    app.refused("TABLE orders").await.state("42501");
    let admin = db.past_the_seal("postgres").await;
    admin.run("SELECT bulkhead.unprotect_all(); DROP EXTENSION bulkhead").await;
    assert_eq!(seen(&app).await.len(), 5);
    owner.run("CREATE TABLE later (id int); DROP TABLE later").await;
    // The same sessions find the one that is created next.
    admin.run("CREATE EXTENSION bulkhead").await;
    owner.run("SELECT bulkhead.protect('orders')").await;
    app.refused("TABLE orders").await.state("42501");
    app.run(&format!("SET bulkhead.tenant_context = '{B}'")).await;
    assert_eq!(seen(&app).await, ["4", "5"]);
}

async fn a_forced_drop_of_the_extension_shows_nothing(db: Database) {
    let owner = orders_past_the_seal(&db).await;
    let app = db.connect("app").await;
    app.refused("TABLE orders").await.state("42501");
    db.admin("DROP EXTENSION bulkhead CASCADE").unwrap();
    // Row level security is still on, and nothing grants any more.
    assert_eq!(seen(&app).await, NOTHING);
    assert_eq!(seen(&owner).await, NOTHING);
}
