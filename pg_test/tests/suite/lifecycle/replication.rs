//! Logical replication between two databases that protect the table: rows of all tenants get through, and each side filters its readers.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use pg_test::{Cluster, Database};

use super::world::{A, B};
use crate::fixture::acting;
use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![rows_of_all_tenants_get_through_and_stay_filtered => 240, whom_row_security_binds_replicates_nothing => 240]
}

const TABLE: &str = "CREATE TABLE orders (id int PRIMARY KEY, tenant_id uuid, item text);
                     CREATE TABLE old (id int PRIMARY KEY, tenant_id text) PARTITION BY RANGE (id);
                     CREATE TABLE old_1 PARTITION OF old FOR VALUES FROM (0) TO (100)";
const PROTECT: &str = "SELECT bulkhead.protect('orders'), bulkhead.protect('old')";

/// From 16 on the rows are written as the table's owner, whom forced row security binds, unless the subscription says otherwise.
fn as_owner_of_the_subscription(cluster: &Cluster) -> &'static str {
    if cluster.provision().postgres.major >= 16 { ", run_as_owner = true" } else { "" }
}

/// A publisher with rows of two tenants, and an empty subscriber; both protect the tables.
async fn sides() -> (Cluster, Database, Database) {
    let cluster = Cluster::builder().start().unwrap();
    let (from, to) = (cluster.database("publisher").unwrap(), cluster.database("subscriber").unwrap());
    let owner = from.connect("owner").await;
    owner.run(TABLE).await;
    owner
        .run(&format!(
            "INSERT INTO orders VALUES (1, '{A}', 'one'), (2, '{B}', 'two'), (3, '{B}', 'three');
             INSERT INTO old VALUES (1, 'a'), (2, 'b'); {PROTECT}"
        ))
        .await;
    let owner = to.connect("owner").await;
    owner.run(&format!("{TABLE}; {PROTECT}")).await;
    from.admin("CREATE PUBLICATION p FOR TABLE orders, old").unwrap();
    from.admin("SELECT pg_create_logical_replication_slot('s', 'pgoutput')").unwrap();
    (cluster, from, to)
}

fn subscribe(from: &Database, to: &Database, options: &str) {
    let (host, port) = (from.cluster.socket_dir().display(), from.cluster.port());
    to.admin(&format!(
        "CREATE SUBSCRIPTION s CONNECTION 'host={host} port={port} user=postgres dbname={}' PUBLICATION p
           WITH (create_slot = false, slot_name = 's'{options})",
        from.name
    ))
    .unwrap();
}

async fn rows_of_all_tenants_get_through_and_stay_filtered(_: Nowhere) {
    let (cluster, from, to) = sides().await;
    subscribe(&from, &to, as_owner_of_the_subscription(&cluster));
    let all = "SELECT string_agg(concat(id, item), ' ' ORDER BY id) FROM orders";
    reaches(&to, all, "1one 2two 3three").await;
    reaches(&to, "SELECT string_agg(concat(id, tenant_id), ' ' ORDER BY id) FROM old", "1a 2b").await;

    let app = acting(&from, "app", A).await;
    app.run("INSERT INTO orders (id, item) VALUES (4, 'four'); UPDATE orders SET item = 'mine' WHERE id < 4").await;
    let b = acting(&from, "app", B).await;
    b.run("UPDATE orders SET item = 'theirs' WHERE id = 2; DELETE FROM orders WHERE id = 3").await;
    acting(&from, "app", "b").await.run("INSERT INTO old (id) VALUES (3)").await;
    reaches(&to, all, "1mine 2theirs 4four").await;
    reaches(&to, "SELECT string_agg(concat(id, tenant_id), ' ' ORDER BY id) FROM old", "1a 2b 3b").await;
    for role in ["app", "svc", "owner", "postgres"] {
        to.connect(role).await.refused("TABLE orders").await.state("42501");
        let a = acting(&to, role, A).await;
        assert_eq!(a.column("SELECT id FROM orders ORDER BY id").await, ["1", "4"], "{role}");
        let b = acting(&to, role, "b").await;
        assert_eq!(b.column("SELECT id FROM old ORDER BY id").await, ["2", "3"], "{role}");
    }
    from.admin("TRUNCATE orders, old").unwrap();
    reaches(&to, "SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM old)", "0").await;
    app.run("INSERT INTO orders (id, item) VALUES (5, 'five')").await;
    reaches(&to, all, "5five").await;
    unsubscribe(&to);
}

/// The server refuses it before any row is written, and the worker tries again until somebody sees to it.
async fn whom_row_security_binds_replicates_nothing(_: Nowhere) {
    let (cluster, from, to) = sides().await;
    let bound = if as_owner_of_the_subscription(&cluster).is_empty() {
        // The subscription's owner has to be able to write as itself: a superuser that has ceased to be one.
        cluster.admin("postgres", "CREATE ROLE once SUPERUSER LOGIN").unwrap();
        subscribe(&from, &to, ", enabled = false");
        to.admin("GRANT USAGE ON SCHEMA public TO once; GRANT ALL ON orders, old, old_1 TO once; ALTER SUBSCRIPTION s OWNER TO once; ALTER ROLE once NOSUPERUSER; ALTER SUBSCRIPTION s ENABLE")
            .unwrap();
        "once"
    } else {
        subscribe(&from, &to, "");
        "owner"
    };
    let refusal = format!("user \"{bound}\" cannot replicate into relation with row-level security enabled");
    let start = Instant::now();
    while !cluster.log().contains(&refusal) {
        assert!(start.elapsed() < Duration::from_secs(60), "{refusal}\n{}", cluster.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(to.admin("SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM old)").unwrap(), "0");
    unsubscribe(&to);
}

fn unsubscribe(to: &Database) {
    to.admin("ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s").unwrap();
}

async fn reaches(db: &Database, query: &str, expected: &str) {
    let start = Instant::now();
    loop {
        let got = db.admin(query).unwrap();
        if got == expected {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{query} stays {got}\n{}", db.cluster.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
