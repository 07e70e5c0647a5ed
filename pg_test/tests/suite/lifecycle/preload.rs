//! A server that had the library preloaded is started without it, and with it again.

use libtest_mimic::Trial;
use pg_test::{Client, Cluster, Database};

use super::facts::{catalogs, rows, same};
use super::world::{self, A, B};
use crate::fixture::acting;
use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![without_the_preload_it_isolates_whom_row_security_binds => 300]
}

async fn without_the_preload_it_isolates_whom_row_security_binds(_: Nowhere) {
    let cluster = Cluster::builder().setting("bulkhead.drain_databases", "").start().unwrap();
    let db = cluster.database("world").unwrap();
    world::fill(&db).await;
    let path = cluster.data_dir().join("postgresql.conf");
    let preloading = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{preloading}shared_preload_libraries = ''\n")).unwrap();
    cluster.restart().unwrap();

    for role in ["app", "owner"] {
        // Nothing has loaded the library yet: the policies' functions do.
        let naked = db.connect(role).await;
        assert_eq!(naked.column("SELECT id FROM orders").await, [""; 0], "{role}");
        assert_eq!(naked.column("SELECT id FROM jobs").await, [""; 0], "{role}");
        let client = acting(&db, role, A).await;
        assert_eq!(client.column("SELECT id FROM orders ORDER BY id").await, ["1", "2"], "{role}");
        client.refused(&format!("INSERT INTO orders VALUES (9, '{B}')")).await.state("42501");
    }
    // The seal is gone with the hooks, and says so wherever it is asked.
    let boss = db.connect("postgres").await;
    assert_eq!(boss.one("SELECT count(*) FROM orders").await, "3");
    assert_eq!(boss.one("SELECT bool_or(sealed) FROM bulkhead.protected_tables").await, "f");
    assert_eq!(
        boss.column("SELECT check_name FROM bulkhead.health() WHERE NOT ok AND check_name = 'seal'").await,
        ["seal"]
    );
    assert_eq!(boss.one("SELECT count(*) > 0 FROM bulkhead.lint() WHERE rule = 'not-preloaded'").await, "t");
    calls_work_or_say_what_is_missing(&db).await;

    std::fs::write(&path, preloading).unwrap();
    cluster.restart().unwrap();
    let fresh = cluster.database("fresh").unwrap();
    fresh.admin(world::GRANTED).unwrap();
    same(&catalogs(&db, "bulkhead"), &catalogs(&fresh, "bulkhead"), "the extension afterwards, and fresh");
    assert!(rows(&db).iter().any(|row| row.contains("without the preload")));
    world::goes_on(&db).await;
}

async fn calls_work_or_say_what_is_missing(db: &Database) {
    let a = acting(db, "app", A).await;
    let answers: [(&str, &str); 4] = [
        ("SELECT state FROM bulkhead.idempotency_claim('paid', 'print')", "replay"),
        ("SELECT verdict FROM bulkhead.decrement_inventory('stock', 'o-1', 'a', 4)", "accepted"),
        ("SELECT bulkhead.score('lead', '{\"budget\": 11}')", "20"),
        ("SELECT verdict FROM bulkhead.order_verdicts('shops', 'o-1')", "accepted"),
    ];
    for (query, answer) in answers {
        assert_eq!(a.one(query).await, answer, "{query}");
    }
    missing(&a, "SELECT bulkhead.decrement_now('stock', 'o-9', 'a', 1)").await;
    let owner = db.connect("owner").await;
    missing(&owner, "SELECT bulkhead.observe('stock')").await;
    owner.run("CREATE TABLE later (id int, tenant_id text); INSERT INTO later VALUES (1, 'without the preload'); SELECT bulkhead.protect('later')").await;
    assert_eq!(owner.column("TABLE later").await, [""; 0]);
    let boss = db.connect("postgres").await;
    boss.run("CALL bulkhead.maintain()").await;
}

async fn missing(client: &Client, call: &str) {
    client.refused(call).await.state("55000").message_contains("shared_preload_libraries");
}
