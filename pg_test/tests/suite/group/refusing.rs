//! Where a call is refused, and with what.

use libtest_mimic::Trial;
use pg_test::{Cluster, Database};

use super::fixture::{buy, left, now, stock};
use crate::harness::{Nowhere, SessionPreload, WithWorkers, WithoutPreload};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        arguments_that_cannot_be,
        rights_are_those_of_a_direct_call,
        a_transaction_that_has_changed_something,
        a_transaction_that_only_reads,
        an_order_that_fits_no_slot,
        more_callers_than_slots,
        without_shared_preload,
        without_any_preload,
        a_database_that_the_setting_does_not_name,
    ]
}

async fn arguments_that_cannot_be(db: WithWorkers) {
    let owner = stock(&db).await;
    let with_wait = |wait: &str| format!("SELECT bulkhead.decrement_now('stock', '1', 'a', 1, {wait})");
    for wait in ["NULL", "'-1 s'", "'2 days'", "'1 month'"] {
        owner.refused(&with_wait(wait)).await.state("22023").message("wait must be an interval from 0 to 1 hour");
    }
    let lines = |items: &str, quantities: &str| {
        format!("SELECT bulkhead.decrement_now('stock', '1', {items}::text[], {quantities}::bigint[])")
    };
    owner.refused(&lines("ARRAY['a']", "ARRAY[1, 2]")).await.state("22023");
    owner.refused(&lines("'{}'", "'{}'")).await.state("22023");
    owner.refused(&lines("NULL", "ARRAY[1]")).await.state("22023");
    owner.refused("SELECT bulkhead.decrement_now(NULL, '1', 'a', 1)").await.state("22023");
    owner.run("CREATE TABLE other (id text PRIMARY KEY, quantity int)").await;
    owner.refused(&now("other", "1", "a", 1)).await.state("55000").message_contains("is not registered");
    assert_eq!(left(&owner).await, ["a 10", "b 5", "c 0"]);
}

async fn rights_are_those_of_a_direct_call(db: WithWorkers) {
    let owner = stock(&db).await;
    let app = db.connect("app").await;
    owner.run("REVOKE UPDATE ON stock FROM app").await;
    app.refused(&now("stock", "1", "a", 1)).await.state("42501").message_contains("permission denied for inventory");
    owner.run("GRANT UPDATE (pieces) ON stock TO app").await;
    assert_eq!(buy(&app, "stock", "1", "a", 1).await, "accepted 9");
    db.admin("REVOKE EXECUTE ON FUNCTION bulkhead.decrement_now(regclass, text, text, bigint, interval) FROM PUBLIC")
        .unwrap();
    app.refused(&now("stock", "2", "a", 1)).await.state("42501").message_contains("permission denied for function");
}

async fn a_transaction_that_has_changed_something(db: WithWorkers) {
    let owner = stock(&db).await;
    let app = db.connect("app").await;
    for before in [
        "UPDATE stock SET pieces = pieces WHERE sku = 'b'",
        "SELECT FROM stock WHERE sku = 'b' FOR UPDATE",
        "SELECT bulkhead.enqueue_decrement('stock', 'queued', 'b', 1)",
        "SELECT FROM bulkhead.decrement_inventory('stock', 'direct', 'b', 1)",
    ] {
        app.run(&format!("BEGIN; {before}")).await;
        app.refused(&now("stock", "1", "a", 1)).await.state("25001").hint_contains("decrement_inventory()");
        app.run("ROLLBACK").await;
    }
    // Locked, and not written: by the server's fast path, or by its table of locks.
    for mode in ["ROW SHARE", "ROW EXCLUSIVE"] {
        app.run(&format!("BEGIN; LOCK TABLE stock IN {mode} MODE")).await;
        app.refused(&now("stock", "1", "a", 1)).await.state("25001").message_contains("has locked public.stock");
        app.run("ROLLBACK").await;
    }
    // (ACCESS EXCLUSIVE is written to the log, for standbys.)
    for mode in ["SHARE UPDATE EXCLUSIVE", "SHARE", "EXCLUSIVE"] {
        owner.run(&format!("BEGIN; LOCK TABLE stock IN {mode} MODE")).await;
        owner.refused(&now("stock", "1", "a", 1)).await.state("25001").message_contains("has locked public.stock");
        owner.run("ROLLBACK").await;
    }
    // A read is neither; nor is another call; and a savepoint is no matter.
    for isolation in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        let app = db.connect("app").await;
        app.run(&format!("BEGIN ISOLATION LEVEL {isolation}; SELECT FROM stock; SAVEPOINT s")).await;
        buy(&app, "stock", &format!("{isolation} 1"), "a", 1).await;
        buy(&app, "stock", &format!("{isolation} 2"), "a", 1).await;
        app.run("ROLLBACK TO s; ROLLBACK").await;
    }
    assert_eq!(left(&owner).await[0], "a 4");
}

async fn a_transaction_that_only_reads(db: WithWorkers) {
    let owner = stock(&db).await;
    owner.run("BEGIN READ ONLY").await;
    owner.refused(&now("stock", "1", "a", 1)).await.state("25006");
    owner.run("ROLLBACK").await;
}

async fn an_order_that_fits_no_slot(db: WithWorkers) {
    let owner = stock(&db).await;
    let long = "SELECT bulkhead.decrement_now('stock', repeat('o', 9000), 'a', 1)";
    owner.refused(long).await.state("54000").hint_contains("decrement_inventory()");
    let lines = |count: u32| {
        format!(
            "SELECT count(*) FROM bulkhead.decrement_now('stock', 'lines {count}', (SELECT array_agg('i' || n) FROM generate_series(1, {count}) n),
               (SELECT array_agg(n::bigint) FROM generate_series(1, {count}) n))"
        )
    };
    owner.refused(&lines(1_000)).await.state("54000");
    assert_eq!(owner.one(&lines(400)).await, "400");
}

/// Two slots, and a worker that is kept from its work by the table's lock.
async fn more_callers_than_slots(_: Nowhere) {
    let cluster = Cluster::builder().setting("bulkhead.decrement_slots", "2").start().unwrap();
    let db = cluster.database("slots").unwrap();
    let owner = stock(&db).await;
    owner.run("BEGIN; LOCK TABLE stock IN EXCLUSIVE MODE").await;
    let mut waiting = Vec::new();
    for order in ["1", "2"] {
        let db = db.clone();
        waiting.push(tokio::spawn(async move {
            let app = db.connect("app").await;
            buy(&app, "stock", order, "a", 1).await
        }));
    }
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let app = db.connect("app").await;
    let third = "SELECT bulkhead.decrement_now('stock', '3', 'a', 1, '200 ms')";
    app.refused(third).await.state("53400").message("all slots of decrement_now() are taken");
    let patient = {
        let db = db.clone();
        tokio::spawn(async move { buy(&db.connect("app").await, "stock", "4", "a", 1).await })
    };
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    owner.run("COMMIT").await;
    for one in waiting {
        assert!(one.await.unwrap().starts_with("accepted"));
    }
    assert_eq!(patient.await.unwrap(), "accepted 7");
    assert_eq!(buy(&app, "stock", "3", "a", 1).await, "accepted 6");
}

async fn refused_without_memory(db: &Database) {
    let owner = stock(db).await;
    let refused = owner.refused(&now("stock", "1", "a", 1)).await;
    refused
        .state("55000")
        .message("decrement_now() needs bulkhead in shared_preload_libraries")
        .hint_contains("decrement_inventory()");
    let direct = "SELECT verdict FROM bulkhead.decrement_inventory('stock', '1', 'a', 1)";
    assert_eq!(owner.one(direct).await, "accepted");
}

async fn without_shared_preload(db: SessionPreload) {
    refused_without_memory(&db).await;
}

async fn without_any_preload(db: WithoutPreload) {
    refused_without_memory(&db).await;
}

/// The server of most tests names none.
async fn a_database_that_the_setting_does_not_name(db: Database) {
    let owner = stock(&db).await;
    let refused = owner.refused(&now("stock", "1", "a", 1)).await;
    refused.state("55000").message("no worker runs in this database").hint_contains("bulkhead.drain_databases");
}
