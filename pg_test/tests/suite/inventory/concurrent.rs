//! Many sessions, every isolation level.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use pg_test::Database;
use tokio::sync::Barrier;

use super::fixture::{call, decide, left, stock, stored, verdicts};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_batch_that_waited_sees_the_verdicts_of_the_one_it_waited_for,
        the_same_order_at_once_has_one_verdict => 240,
        the_same_order_on_other_items_is_raised,
        reversed_batches_do_not_deadlock => 240,
        old_snapshots_are_right_or_raise => 240,
        it_never_oversells => 240,
        a_release_at_once_is_one => 240,
        at_light_load_it_costs_little,
    ]
}

async fn a_batch_that_waited_sees_the_verdicts_of_the_one_it_waited_for(db: Database) {
    stock(&db).await;
    let (first, second) = (db.connect("app").await, db.connect("app").await);
    first.run("BEGIN").await;
    decide(&first, "stock", &[("1", "a", "4")]).await;
    let waiting = tokio::spawn(async move { decide(&second, "stock", &[("1", "a", "4"), ("2", "a", "6")]).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    first.run("COMMIT").await;
    assert_eq!(waiting.await.unwrap(), ["accepted 6", "accepted 0"]);
    assert_eq!(verdicts(&db), "2");
}

/// In each round every session brings the same order, alone or among others, with the same lines or other ones.
async fn the_same_order_at_once_has_one_verdict(db: Database) {
    const SESSIONS: usize = 8;
    const ROUNDS: usize = 40;
    stock(&db).await;
    db.admin("UPDATE stock SET stock = 100000").unwrap();
    decide(&db.connect("app").await, "stock", &[("warm", "a", "1")]).await;
    let barrier = Arc::new(Barrier::new(SESSIONS));
    let mut sessions = tokio::task::JoinSet::new();
    for number in 0..SESSIONS {
        let (db, barrier) = (db.clone(), Arc::clone(&barrier));
        sessions.spawn(async move {
            let client = db.connect("app").await;
            let level = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"][number % 3];
            client.run(&format!("SET default_transaction_isolation = '{level}'")).await;
            let item = ["a", "b", "c", "a"][number % 4];
            for round in 0..ROUNDS {
                barrier.wait().await;
                let own = format!("{round} {number}");
                let shared = format!("round {round}");
                loop {
                    let ask = format!("SELECT * FROM {}", call("stock", &[(&shared, item, "1"), (&own, item, "1")]));
                    match client.batch_execute(&ask).await {
                        Ok(()) => break,
                        Err(error) => {
                            let code = error.code().map(|code| code.code().to_owned());
                            assert_eq!(code.as_deref(), Some("40001"), "{error:?}");
                        }
                    }
                }
            }
        });
    }
    while let Some(session) = sessions.join_next().await {
        session.unwrap();
    }
    let orders = SESSIONS * ROUNDS + ROUNDS + 1;
    assert_eq!(verdicts(&db), orders.to_string());
    let sold = db.admin("SELECT 300000 - sum(stock) FROM stock").unwrap();
    assert_eq!(sold, orders.to_string());
}

async fn the_same_order_on_other_items_is_raised(db: Database) {
    stock(&db).await;
    let (first, second) = (db.connect("app").await, db.connect("app").await);
    decide(&first, "stock", &[("warm", "a", "1")]).await;
    for item in ["b", "nowhere"] {
        first.run("BEGIN").await;
        decide(&first, "stock", &[("1", "a", "4")]).await;
        let started = Instant::now();
        let raised =
            second.refused(&format!("SELECT * FROM bulkhead.decrement_inventory('stock', '1', '{item}', 1)")).await;
        raised.state("40001").hint("Run the transaction again.");
        assert!(started.elapsed() < Duration::from_secs(2), "nobody waits for the other");
        assert!(stored(&second, "stock", "1").await.is_empty());
        first.run("ROLLBACK").await;
    }
    assert_eq!(decide(&second, "stock", &[("1", "b", "1")]).await, ["accepted 4"]);
    assert_eq!(decide(&first, "stock", &[("1", "a", "4")]).await, ["conflict NULL"]);
}

async fn reversed_batches_do_not_deadlock(db: Database) {
    stock(&db).await;
    db.admin("INSERT INTO stock SELECT 'item ' || n, 1000000 FROM generate_series(1, 40) n").unwrap();
    let mut sessions = tokio::task::JoinSet::new();
    let until = Instant::now() + Duration::from_secs(4);
    for number in 0..6 {
        let db = db.clone();
        sessions.spawn(async move {
            let client = db.connect("app").await;
            let mut batch = 0;
            while Instant::now() < until {
                batch += 1;
                let order = if number % 2 == 0 { "n" } else { "-n" };
                let sql = match number {
                    5 => "UPDATE stock SET stock = stock + 1 WHERE sku IN (SELECT sku FROM stock ORDER BY sku FOR UPDATE)".to_owned(),
                    _ => format!(
                        "SELECT count(d) FROM (SELECT array_agg('{number} {batch} ' || n ORDER BY {order}) ids, array_agg('item ' || n ORDER BY {order}) items,
                           array_agg(1::bigint) ones FROM generate_series(1, 40) n WHERE random() < 0.5) l, bulkhead.decrement_inventory('stock', ids, items, ones) d"
                    ),
                };
                client.run(&sql).await;
            }
            batch
        });
    }
    let mut batches = 0;
    while let Some(session) = sessions.join_next().await {
        batches += session.unwrap();
    }
    assert!(batches > 50, "{batches} batches");
}

async fn old_snapshots_are_right_or_raise(db: Database) {
    stock(&db).await;
    db.admin("UPDATE stock SET stock = 1000").unwrap();
    let other = db.connect("app").await;
    decide(&other, "stock", &[("warm", "a", "1")]).await;
    for (number, level) in ["REPEATABLE READ", "SERIALIZABLE"].iter().enumerate() {
        let early = db.connect("app").await;
        let (known, new) = (format!("known {number}"), format!("new {number}"));
        early.run(&format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class")).await;
        let told = decide(&other, "stock", &[(&known, "a", "1")]).await;
        // The item has changed since the snapshot.
        early
            .refused(&format!("SELECT * FROM {}", call("stock", &[(&known, "a", "1"), (&new, "a", "1")])))
            .await
            .state("40001");
        early.run(&format!("ROLLBACK; BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class")).await;
        // It was asked for in vain, and has not changed: the verdict is seen.
        let large = format!("large {number}");
        let refused = decide(&other, "stock", &[(&large, "b", "100000")]).await;
        assert_eq!(decide(&early, "stock", &[(&large, "b", "100000")]).await, refused, "{level}");
        let replay = decide(&early, "stock", &[(&known, "a", "1"), (&new, "c", "1")]).await;
        assert_eq!(replay[0], told[0], "{level}");
        early.run("COMMIT").await;
    }
    let sold = db.admin("SELECT 3000 - sum(stock) FROM stock").unwrap();
    assert_eq!(sold, "5");
}

/// Batches of all sizes, in all levels, with rollbacks and plain restocks: what there was is what is left and what was accepted.
async fn it_never_oversells(db: Database) {
    stock(&db).await;
    db.admin("UPDATE stock SET stock = 300").unwrap();
    decide(&db.connect("app").await, "stock", &[("warm", "nowhere", "1")]).await;
    let mut sessions = tokio::task::JoinSet::new();
    for number in 0..8_u32 {
        let db = db.clone();
        sessions.spawn(async move {
            let client = db.connect("app").await;
            let level = ["READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"][number as usize % 4];
            client.run(&format!("SET default_transaction_isolation = '{level}'")).await;
            for batch in 0..40_u32 {
                let end = if batch % 7 == 3 { "ROLLBACK" } else { "COMMIT" };
                let sql = format!(
                    "BEGIN; SELECT count(d) FROM (SELECT array_agg((n % 90)::text || ' {batch}') ids, array_agg((ARRAY['a', 'b', 'c'])[1 + n % 3]) items,
                       array_agg((1 + n % 2)::bigint) amounts FROM generate_series({number} * 11, {number} * 11 + 29) n) l,
                       bulkhead.decrement_inventory('stock', ids, items, amounts) d; {end}"
                );
                if let Err(error) = client.batch_execute(&sql).await {
                    assert_eq!(error.code().map(|code| code.code()), Some("40001"), "{error:?}");
                    client.run("ROLLBACK").await;
                }
            }
        });
    }
    while let Some(session) = sessions.join_next().await {
        session.unwrap();
    }
    let app = db.connect("app").await;
    let balance = "SELECT s.sku, s.stock + coalesce((SELECT sum(v.quantity) FROM bulkhead.order_verdict v WHERE v.item = s.sku AND v.verdict = 'a'), 0),
                          s.stock >= 0 FROM stock s ORDER BY 1";
    let balance = db.admin(balance).unwrap();
    assert_eq!(balance.lines().collect::<Vec<_>>(), ["a|300|t", "b|300|t", "c|300|t"]);
    assert_eq!(db.admin("SELECT count(*) - count(DISTINCT digest) FROM bulkhead.order_verdict").unwrap(), "0");
    assert_eq!(left(&app).await.len(), 3);
}

async fn a_release_at_once_is_one(db: Database) {
    stock(&db).await;
    let app = db.connect("app").await;
    for round in 0..30 {
        decide(&app, "stock", &[(&format!("{round}"), "a", "3"), (&format!("{round}"), "b", "1")]).await;
        let mut sessions = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let db = db.clone();
            sessions.spawn(async move {
                let client = db.connect("app").await;
                loop {
                    match client.query_one(&format!("SELECT bulkhead.release_order('stock', '{round}')"), &[]).await {
                        Ok(row) => return row.get::<_, i32>(0),
                        Err(error) => assert_eq!(error.code().map(|code| code.code()), Some("40001"), "{error:?}"),
                    }
                }
            });
        }
        let mut given_back = 0;
        while let Some(session) = sessions.join_next().await {
            given_back += session.unwrap();
        }
        assert_eq!(given_back, 2);
        assert_eq!(left(&app).await, ["a 10", "b 5", "c 0"]);
    }
}

/// A single order in a call by itself, against the plainest statement that takes as much. The quickest of many short turns: other work on the machine does not
/// meet each of them.
async fn at_light_load_it_costs_little(db: Database) {
    stock(&db).await;
    db.admin("UPDATE stock SET stock = 1000000").unwrap();
    let app = db.connect("app").await;
    app.run("SET synchronous_commit = off").await;
    let mut fastest = [Duration::MAX; 2];
    for round in 0..50 {
        let started = Instant::now();
        for n in 0..20 {
            app.run(&format!("SELECT verdict FROM bulkhead.decrement_inventory('stock', '{round} {n}', 'a', 1)")).await;
        }
        fastest[0] = fastest[0].min(started.elapsed());
        let started = Instant::now();
        for n in 0..20 {
            app.run(&format!(
                "WITH taken AS (UPDATE stock SET stock = stock - 1 WHERE sku = 'a' AND stock >= 1 RETURNING stock)
                 SELECT stock, '{round} {n}' FROM taken"
            ))
            .await;
        }
        fastest[1] = fastest[1].min(started.elapsed());
    }
    assert!(fastest[0] < fastest[1] * 4 + Duration::from_millis(5), "{fastest:?}");
}
