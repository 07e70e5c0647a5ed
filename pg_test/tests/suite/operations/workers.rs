//! The checks of health() that are about the server as a whole, each of them well and ill.

use libtest_mimic::Trial;
use pg_test::{Cluster, Database};

use super::fixture::{check, until};
use crate::harness::{Nowhere, SessionPreload, WithWorkers, WithoutPreload};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        all_is_well_with_a_worker,
        where_no_worker_is_wanted_none_is_missed,
        an_order_that_a_worker_cannot_decide,
        a_server_without_a_launcher => 240,
        a_worker_that_cannot_come_and_slots_that_fill => 240,
        databases_that_are_named_in_vain => 240,
        a_seal_that_is_off => 240,
        a_library_that_is_not_preloaded,
        a_library_in_sessions_only,
        objects_of_another_version,
    ]
}

const STOCK: &str =
    "CREATE TABLE stock (sku text PRIMARY KEY, pieces int NOT NULL); INSERT INTO stock VALUES ('a', 10);
                     SELECT bulkhead.register_inventory('stock', 'sku', 'pieces')";

async fn all_is_well_with_a_worker(db: WithWorkers) {
    let client = db.connect("postgres").await;
    assert_eq!(check(&client, "launcher").await, ["t", "running", ""]);
    assert_eq!(check(&client, "worker").await, ["t", "none", "it is started when it is asked for"]);
    assert_eq!(check(&client, "drain_databases").await, ["t", "0 named", ""]);
    let owner = db.connect("owner").await;
    owner.run(STOCK).await;
    assert_eq!(owner.one("SELECT verdict FROM bulkhead.decrement_now('stock', 'o-1', 'a', 1)").await, "accepted");
    assert_eq!(check(&client, "worker").await, ["t", "running", ""]);
    let slots = check(&client, "slots").await;
    assert!(slots[0] == "t" && slots[1].ends_with(" used") && slots[2].is_empty(), "{slots:?}");
    assert_eq!(check(&client, "seal").await, ["t", "on", ""]);
    assert_eq!(check(&client, "version").await[0], "t");
}

async fn where_no_worker_is_wanted_none_is_missed(db: Database) {
    let client = db.connect("postgres").await;
    assert_eq!(check(&client, "worker").await, ["t", "none", "bulkhead.drain_databases does not name this database"]);
    assert_eq!(check(&client, "launcher").await[..2], ["t", "none"]);
}

async fn an_order_that_a_worker_cannot_decide(db: WithWorkers) {
    let (client, owner, other) = (db.connect("postgres").await, db.connect("owner").await, db.connect("owner").await);
    owner.run(STOCK).await;
    other.run("BEGIN; UPDATE stock SET pieces = 9 WHERE sku = 'a'").await;
    owner.run("SELECT bulkhead.enqueue_decrement('stock', 'q-1', 'a', 1)").await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    client.run("SET bulkhead.health_queue_lag = 0").await;
    let waits = check(&client, "queue_lag").await;
    assert_eq!(waits[..2], ["f", "1 queued"]);
    assert!(waits[2].contains("the worker cannot decide it yet: its item is locked"), "{waits:?}");
    other.run("COMMIT").await;
    until("decided", async || check(&client, "queue_lag").await[..2] == ["t", "0 queued"]).await;
}

async fn a_server_without_a_launcher(_: Nowhere) {
    let cluster = Cluster::builder().setting("max_worker_processes", "0").start().unwrap();
    let db = cluster.database("alone").unwrap();
    let client = db.connect("postgres").await;
    let found = check(&client, "launcher").await;
    assert_eq!(found[..2], ["f", "missing"]);
    assert!(found[2].contains("raise max_worker_processes"), "{found:?}");
    let metric = "SELECT value FROM bulkhead.metrics WHERE name = 'bulkhead_launcher_running'";
    assert_eq!(client.one(metric).await, "0");
    // Where no worker is wanted, it is missed by nobody.
    cluster.admin("postgres", "ALTER SYSTEM SET bulkhead.drain_databases = ''").unwrap();
    cluster.admin("postgres", "SELECT pg_reload_conf()").unwrap();
    until("reloaded", async || check(&client, "launcher").await[0] == "t").await;
}

async fn a_worker_that_cannot_come_and_slots_that_fill(_: Nowhere) {
    // One for logical replication's launcher, one for ours: none is left.
    let builder = Cluster::builder().setting("max_worker_processes", "2").setting("bulkhead.decrement_slots", "4");
    let cluster = builder.setting("bulkhead.drain_databases", "*").start().unwrap();
    let db = cluster.database("crowded").unwrap();
    let (client, owner) = (db.connect("postgres").await, db.connect("owner").await);
    owner.run(STOCK).await;
    assert_eq!(check(&client, "launcher").await[0], "t");
    assert_eq!(check(&client, "worker").await[..2], ["t", "none"]);
    assert_eq!(check(&client, "slots").await, ["t", "0 of 4 used", ""]);
    let ask = |order: i32| format!("SELECT verdict FROM bulkhead.decrement_now('stock', 'o-{order}', 'a', 1, '0 s')");
    assert_eq!(owner.one(&ask(1)).await, "pending");
    let missing = check(&client, "worker").await;
    assert_eq!(missing[..2], ["f", "missing"]);
    assert!(missing[2].contains("max_worker_processes"), "{missing:?}");
    assert_eq!(check(&client, "slots").await, ["t", "1 of 4 used", ""]);
    assert_eq!(owner.one(&ask(2)).await, "pending");
    let full = check(&client, "slots").await;
    assert_eq!(full[..2], ["f", "2 of 4 used"]);
    assert!(full[2].starts_with("2 are taken by orders that nobody waits for any more"), "{full:?}");
    owner.refused(&ask(3)).await.state("53400");
    let states = "SELECT concat(labels->>'state', ' ', value) FROM bulkhead.metrics WHERE name = 'bulkhead_group_commit_slots' ORDER BY 1";
    assert_eq!(client.column(states).await, ["abandoned 2", "free 2", "used 0"]);
}

async fn databases_that_are_named_in_vain(_: Nowhere) {
    let cluster = Cluster::builder().setting("bulkhead.drain_databases", "").start().unwrap();
    let db = cluster.database("drained").unwrap();
    let empty = cluster.empty_database("bare").unwrap();
    let client = db.connect("postgres").await;
    let name = |names: &str| {
        cluster.admin("postgres", &format!("ALTER SYSTEM SET bulkhead.drain_databases = '{names}'")).unwrap();
        cluster.admin("postgres", "SELECT pg_reload_conf()").unwrap();
    };
    name(&format!("{}, nowhere, {}, template0", db.name, empty.name));
    let wanted = [
        "there is no database nowhere".to_owned(),
        format!("extension bulkhead is not installed in database {}", empty.name),
        "database template0 accepts no connections".to_owned(),
    ];
    until("all three are told", async || {
        let found = check(&client, "drain_databases").await;
        found[..2] == ["f", "4 named"] && wanted.iter().all(|fault| found[2].contains(fault.as_str()))
    })
    .await;
    assert_eq!(check(&client, "worker").await, ["t", "running", ""]);
    // It is there now; its worker comes with the next reload.
    empty.admin("CREATE EXTENSION bulkhead").unwrap();
    name(&format!("{}, {}", db.name, empty.name));
    until("nothing is wrong", async || check(&client, "drain_databases").await == ["t", "2 named", ""]).await;
    let there = empty.connect("postgres").await;
    until("its worker came", async || check(&there, "worker").await == ["t", "running", ""]).await;
}

async fn a_seal_that_is_off(_: Nowhere) {
    let cluster = Cluster::builder().start().unwrap();
    let db = cluster.database("sealed").unwrap();
    let (client, owner) = (db.connect("postgres").await, db.connect("owner").await);
    let turn = |to: &str| {
        cluster.admin("postgres", &format!("ALTER SYSTEM SET bulkhead.seal = {to}")).unwrap();
        cluster.admin("postgres", "SELECT pg_reload_conf()").unwrap();
    };
    turn("off");
    until("off", async || check(&client, "seal").await[1] == "off").await;
    assert_eq!(check(&client, "seal").await, ["t", "off", ""], "nothing is protected");
    owner.run("CREATE TABLE orders (id int, tenant_id uuid); SELECT bulkhead.protect('orders')").await;
    let off = check(&client, "seal").await;
    assert_eq!(off[..2], ["f", "off"]);
    assert!(off[2].starts_with("1 protected tables are not filtered for every role: bulkhead.seal is off"), "{off:?}");
    turn("on");
    until("on", async || check(&client, "seal").await == ["t", "on", ""]).await;
}

async fn a_library_that_is_not_preloaded(db: WithoutPreload) {
    let client = db.connect("postgres").await;
    for name in ["launcher", "worker", "drain_databases", "slots"] {
        assert_eq!(check(&client, name).await[..2], ["t", "none"], "{name}");
    }
    assert_eq!(check(&client, "seal").await, ["t", "not preloaded", ""]);
    db.connect("owner")
        .await
        .run("CREATE TABLE orders (id int, tenant_id uuid); SELECT bulkhead.protect('orders')")
        .await;
    let open = check(&client, "seal").await;
    assert_eq!(open[..2], ["f", "not preloaded"]);
    // Who runs without on purpose says so.
    client.run("SET bulkhead.health_unsealed = 1").await;
    assert_eq!(check(&client, "seal").await[0], "t");
}

async fn a_library_in_sessions_only(db: SessionPreload) {
    db.connect("owner")
        .await
        .run("CREATE TABLE orders (id int, tenant_id uuid); SELECT bulkhead.protect('orders')")
        .await;
    assert_eq!(check(&db.connect("postgres").await, "seal").await[..2], ["f", "sessions only"]);
}

async fn objects_of_another_version(db: Database) {
    let client = db.connect("postgres").await;
    let installed = client.one("SELECT extversion FROM pg_extension WHERE extname = 'bulkhead'").await;
    assert_eq!(check(&client, "version").await, ["t".to_owned(), installed.clone(), String::new()]);
    client.run("UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'bulkhead'").await;
    let other = check(&client, "version").await;
    assert_eq!(other[..2], ["f".to_owned(), installed]);
    assert!(other[2].contains("the SQL objects are 0.0.1: ALTER EXTENSION bulkhead UPDATE"), "{other:?}");
}
