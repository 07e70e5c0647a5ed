//! Killed under load: what was answered is kept, what there was is what is left and what was accepted.

use std::time::Duration;

use libtest_mimic::Trial;
use pg_test::{Cluster, Database};

use super::fixture::{acting, decide, stock, stored};
use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![a_server_that_was_killed_keeps_what_it_promised => 600, a_killed_session_leaves_nothing]
}

const STOCK: i64 = 1_000_000;
const KILLS: usize = 10;

/// Sessions decide, queue and drain without a pause, and the server is killed again and again.
async fn a_server_that_was_killed_keeps_what_it_promised(_: Nowhere) {
    let cluster = Cluster::builder().start().unwrap();
    let db = cluster.database("killed").unwrap();
    stock(&db).await;
    db.admin(&format!("UPDATE stock SET stock = {STOCK}")).unwrap();
    decide(&db.connect("app").await, "stock", &[("warm", "nowhere", "1")]).await;
    let mut promised: Vec<(String, String)> = Vec::new();
    let mut queued: Vec<String> = Vec::new();
    for round in 0..KILLS {
        let mut sessions = tokio::task::JoinSet::new();
        for number in 0..4 {
            let db = db.clone();
            sessions.spawn(async move { (decide_until_killed(&db, round, number).await, Vec::new()) });
        }
        for number in 0..2 {
            let (db, drained) = (db.clone(), db.clone());
            sessions.spawn(async move { (Vec::new(), queue_until_killed(&db, round, number).await) });
            sessions.spawn(async move {
                drain_until_killed(&drained).await;
                (Vec::new(), Vec::new())
            });
        }
        tokio::time::sleep(Duration::from_millis(400 + 37 * round as u64)).await;
        cluster.kill().unwrap();
        while let Some(session) = sessions.join_next().await {
            let (decided, waiting) = session.unwrap();
            promised.extend(decided);
            queued.extend(waiting);
        }
        cluster.start().unwrap();
    }
    assert!(promised.len() > 100 && queued.len() > 100, "{} and {} were promised", promised.len(), queued.len());
    db.connect("postgres").await.run("CALL bulkhead.drain_inventory('stock')").await;
    let app = acting(&db, "app", "").await;
    for (order, verdict) in &promised {
        assert_eq!(stored(&app, "stock", order).await, std::slice::from_ref(verdict), "{order}");
    }
    for order in &queued {
        assert_eq!(stored(&app, "stock", order).await.len(), 1, "{order}");
    }
    let balance = "SELECT s.sku, s.stock + coalesce((SELECT sum(v.quantity) FROM bulkhead.order_verdict v WHERE v.item = s.sku AND v.verdict = 'a'), 0)
                     FROM stock s ORDER BY 1";
    let balance = db.admin(balance).unwrap();
    assert_eq!(balance.lines().collect::<Vec<_>>(), [format!("a|{STOCK}"), format!("b|{STOCK}"), format!("c|{STOCK}")]);
    assert_eq!(db.admin("SELECT count(*) - count(DISTINCT (digest, line)) FROM bulkhead.order_verdict").unwrap(), "0");
}

/// The orders whose verdict the server has told, with it.
async fn decide_until_killed(db: &Database, round: usize, number: usize) -> Vec<(String, String)> {
    let mut promised = Vec::new();
    // The server may be gone before it has answered the first word.
    let Ok(client) = db.try_connect("app").await else { return promised };
    for batch in 0.. {
        let item = ["a", "b", "c"][batch % 3];
        let ask = format!(
            "SELECT order_id, concat(item, ' ', verdict, ' ', remaining) FROM bulkhead.decrement_inventory('stock',
               ARRAY['{round} {number} {batch} x', '{round} {number} {batch} y'], ARRAY['{item}', 'a'], ARRAY[2, 1]::bigint[])"
        );
        match client.query(&ask, &[]).await {
            Ok(rows) => promised.extend(rows.iter().map(|row| (row.get(0), row.get(1)))),
            Err(_) => break,
        }
    }
    promised
}

async fn queue_until_killed(db: &Database, round: usize, number: usize) -> Vec<String> {
    let mut queued = Vec::new();
    let Ok(client) = db.try_connect("app").await else { return queued };
    for count in 0.. {
        let order = format!("queued {round} {number} {count}");
        let ask = format!("SELECT bulkhead.enqueue_decrement('stock', '{order}', 'b', 1)");
        match client.batch_execute(&ask).await {
            Ok(()) => queued.push(order),
            Err(_) => break,
        }
    }
    queued
}

async fn drain_until_killed(db: &Database) {
    let Ok(client) = db.try_connect("postgres").await else { return };
    while client.batch_execute("CALL bulkhead.drain_inventory('stock', 50)").await.is_ok() {}
}

async fn a_killed_session_leaves_nothing(db: Database) {
    stock(&db).await;
    let (victim, app) = (db.connect("app").await, db.connect("app").await);
    decide(&victim, "stock", &[("1", "a", "1")]).await;
    victim.run("BEGIN").await;
    decide(&victim, "stock", &[("2", "a", "1")]).await;
    let pid = victim.one("SELECT pg_backend_pid()").await;
    db.admin(&format!("SELECT pg_terminate_backend({pid}, 5000)")).unwrap();
    assert_eq!(decide(&app, "stock", &[("1", "a", "1"), ("2", "a", "2")]).await, ["accepted 9", "accepted 7"]);
}
