//! Databases of one server: what is registered in one is nothing in another, and one without the extension is as without the library.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::world::{A, B};
use crate::fixture::acting;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_database_without_the_extension_is_left_alone,
        each_database_has_a_registry_of_its_own,
        the_extension_comes_and_goes_under_sessions
    ]
}

/// A table with a row of each of two tenants, at the same place in its database's numbering as its namesakes elsewhere need not be.
async fn orders(db: &Database) -> Client {
    db.admin("GRANT CREATE, USAGE ON SCHEMA public TO owner; GRANT USAGE ON SCHEMA public TO app, svc").unwrap();
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE TABLE orders (id int PRIMARY KEY, tenant_id uuid, item text);
             INSERT INTO orders VALUES (1, '{A}', 'one'), (2, '{B}', 'two');
             GRANT ALL ON orders TO app, svc"
        ))
        .await;
    owner
}

const IDS: &str = "SELECT id FROM orders ORDER BY id";

async fn a_database_without_the_extension_is_left_alone(db: Database) {
    orders(&db).await.run("SELECT bulkhead.protect('orders')").await;
    let bare = db.cluster.empty_database("bare").unwrap();
    let owner = orders(&bare).await;
    for role in ["app", "svc", "owner", "postgres"] {
        let client = bare.connect(role).await;
        assert_eq!(client.column(IDS).await, ["1", "2"], "{role}");
        // A client's set-up may be the same everywhere: the setting is known, and filters nothing.
        client.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
        assert_eq!(client.column(IDS).await, ["1", "2"], "{role}");
        client.run(&format!("INSERT INTO orders VALUES (3, '{B}', 'three'); UPDATE orders SET item = 'x' WHERE id = 3; DELETE FROM orders WHERE id = 3")).await;
    }
    // What is looked at closely elsewhere: COPY, TRUNCATE, DDL, partitions, foreign keys, a refresh.
    owner
        .run(
            "CREATE TABLE p (id int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p DEFAULT; INSERT INTO p VALUES (1);
             ALTER TABLE p RENAME TO q; ALTER TABLE orders ADD parent int REFERENCES orders; ALTER TABLE orders DROP parent;
             CREATE MATERIALIZED VIEW m AS TABLE orders; REFRESH MATERIALIZED VIEW m; DROP TABLE q; TRUNCATE orders CASCADE",
        )
        .await;
    owner.refused("SELECT bulkhead.protect('orders')").await.state("3F000");
    drop(owner);
    let dump = bare.client_program("pg_dump", "postgres").output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    db.connect("postgres").await.refused("TABLE orders").await.state("42501");
    bare.drop().unwrap();
}

async fn each_database_has_a_registry_of_its_own(db: Database) {
    let other = db.cluster.database("other").unwrap();
    let (owner, others) = (orders(&db).await, orders(&other).await);
    owner.run("SELECT bulkhead.protect('orders')").await;
    assert_eq!(others.column(IDS).await, ["1", "2"]);
    assert_eq!(others.one("SELECT count(*) FROM bulkhead.protected_tables").await, "0");
    others.run("ALTER TABLE orders RENAME tenant_id TO org; SELECT bulkhead.protect('orders', 'org')").await;
    for (side, tenant, ids) in [(&db, A, ["1"]), (&other, B, ["2"])] {
        for role in ["app", "svc", "postgres"] {
            side.connect(role).await.refused(IDS).await.state("42501");
            assert_eq!(acting(side, role, tenant).await.column(IDS).await, ids, "{role}");
        }
    }
    // Keys are each database's own too, under the same tenant and name.
    for side in [&db, &other] {
        let app = acting(side, "app", A).await;
        assert_eq!(app.one("SELECT state FROM bulkhead.idempotency_claim('k')").await, "started");
    }
    drop((owner, others));
    db.admin("SELECT bulkhead.unprotect_all(); DROP EXTENSION bulkhead").unwrap();
    assert_eq!(db.connect("app").await.column(IDS).await, ["1", "2"]);
    other.connect("app").await.refused(IDS).await.state("42501");
    assert_eq!(acting(&other, "postgres", B).await.column(IDS).await, ["2"]);
    other.drop().unwrap();
}

async fn the_extension_comes_and_goes_under_sessions(db: Database) {
    let late = db.cluster.empty_database("late").unwrap();
    let owner = orders(&late).await;
    let mut sessions = Vec::new();
    for role in ["app", "svc", "postgres"] {
        let client = late.connect(role).await;
        client.run("PREPARE ids AS SELECT id FROM orders ORDER BY id").await;
        assert_eq!(client.column("EXECUTE ids").await, ["1", "2"]);
        sessions.push(client);
    }
    for _ in 0..2 {
        late.admin("CREATE EXTENSION bulkhead").unwrap();
        owner.run("SELECT bulkhead.protect('orders')").await;
        for client in &sessions {
            client.refused("EXECUTE ids").await.state("42501");
            client.run(&format!("SET bulkhead.tenant_context = '{B}'")).await;
            assert_eq!(client.column("EXECUTE ids").await, ["2"], "{}", client.user());
            client.run("RESET bulkhead.tenant_context").await;
        }
        late.admin("SELECT bulkhead.unprotect_all(); DROP EXTENSION bulkhead").unwrap();
        for client in &sessions {
            assert_eq!(client.column("EXECUTE ids").await, ["1", "2"], "{}", client.user());
        }
    }
    drop((owner, sessions));
    late.drop().unwrap();
}
