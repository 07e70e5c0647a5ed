//! One pass through every room, in half a minute: what CI asks of a server on which it does not run the whole suite (`cargo run --bin servers -- 17 smoke`).
//!
//! It stands on nothing but the server: no pooler, no client libraries, no pg_cron.

use libtest_mimic::Trial;
use pg_test::Database;

use crate::group::fixture::{buy, stock};
use crate::harness::WithWorkers;
use crate::lifecycle::world;
use crate::tokens::fixture::{A, Issuer, OF_A, SET, seen, signed};

/// The name with which the tests of this file begin.
pub const NAME: &str = "smoke::";

pub fn tests() -> Vec<Trial> {
    crate::tests![
        every_room_is_filled_and_goes_on => 300,
        callers_share_a_commit => 300,
        a_token_opens_what_a_forged_one_does_not => 300,
        statements_are_counted_and_borders_tried => 300,
    ]
}

/// Protected tables for every role, keys, orders, a queue that is drained, rules, partitions.
async fn every_room_is_filled_and_goes_on(db: Database) {
    world::fill(&db).await;
    world::goes_on(&db).await;
    let complaints = "SELECT check_name FROM bulkhead.health() WHERE NOT ok AND check_name IN ('seal', 'version', 'orphans', 'queue_lag', 'scoring_lag')";
    assert_eq!(db.connect("postgres").await.column(complaints).await, [""; 0]);
}

async fn callers_share_a_commit(WithWorkers(db): WithWorkers) {
    stock(&db).await;
    let mut calls = Vec::new();
    for (role, order) in [("app", "1"), ("svc", "2"), ("owner", "3")] {
        let client = db.connect(role).await;
        calls.push(tokio::spawn(async move { buy(&client, "stock", order, "a", 4).await }));
    }
    let mut told = Vec::new();
    for call in calls {
        told.push(call.await.unwrap());
    }
    told.sort();
    assert_eq!(told, ["accepted 2", "accepted 6", "insufficient 2"]);
}

async fn a_token_opens_what_a_forged_one_does_not(db: Database) {
    let issuer = signed(&db).await;
    let forged = Issuer::es("k1").token(A);
    for role in ["app", "postgres"] {
        let client = db.connect(role).await;
        client.refused(&format!("SET {SET} = '{forged}'")).await.state("28000");
        client.refused("SELECT FROM note").await.state("42501");
        client.run(&format!("SET {SET} = '{}'", issuer.token(A))).await;
        assert_eq!(seen(&client).await, OF_A, "{role}");
    }
}

async fn statements_are_counted_and_borders_tried(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE watched (id int, tenant_id text); SELECT bulkhead.observe('watched');
             CREATE TABLE orders (id int, tenant_id text); INSERT INTO orders VALUES (1, 'a'), (2, 'b');
             SELECT bulkhead.protect('orders')",
        )
        .await;
    db.connect("app").await.run("SELECT id FROM watched").await;
    let boss = db.connect("postgres").await;
    assert_eq!(boss.column("SELECT query FROM bulkhead.naked_statements").await, ["SELECT id FROM watched"]);
    let results = "SELECT DISTINCT result FROM bulkhead.leak_test('orders') WHERE result <> 'skipped'";
    assert_eq!(boss.column(results).await, ["held"]);
    owner.run("CREATE TABLE forgotten (id int, tenant_id text)").await;
    let found = "SELECT object FROM bulkhead.lint() WHERE rule = 'unprotected-table' AND object ~ 'forgotten'";
    assert_eq!(boss.column(found).await, ["public.forgotten"]);
}
