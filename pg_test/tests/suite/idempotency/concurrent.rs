//! Many sessions, every isolation level, long transactions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use pg_test::Database;
use tokio::sync::Barrier;

use super::fixture::{A, B, acting, app, claim, complete, rows_of, start};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        of_many_first_claims_one_wins,
        the_very_first_claims_of_a_database_do_not_wait,
        nobody_waits_for_an_open_transaction,
        a_snapshot_from_before_sees_what_counts,
        work_in_one_transaction_runs_once,
        thousands_of_claims_in_one_transaction,
        an_applications_own_locks_are_in_nobodys_way,
        claims_in_any_order_do_not_deadlock,
        a_prepared_transaction_holds_its_keys,
    ]
}

/// In each round every session claims the same new key at once.
async fn of_many_first_claims_one_wins(db: Database) {
    const SESSIONS: usize = 24;
    const ROUNDS: usize = 40;
    let barrier = Arc::new(Barrier::new(SESSIONS));
    let mut sessions = tokio::task::JoinSet::new();
    for number in 0..SESSIONS {
        let (db, barrier) = (db.clone(), Arc::clone(&barrier));
        sessions.spawn(async move {
            let client = app(&db).await;
            let level = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"][number % 3];
            client.run(&format!("SET default_transaction_isolation = '{level}'")).await;
            let mut won = 0;
            for round in 0..ROUNDS {
                barrier.wait().await;
                match claim(&client, &format!("round {round}")).await.as_str() {
                    "started" => won += 1,
                    other => assert_eq!(other, "in_progress"),
                }
            }
            won
        });
    }
    let mut won = 0;
    while let Some(session) = sessions.join_next().await {
        won += session.unwrap();
    }
    assert_eq!(won, ROUNDS);
    assert_eq!(db.admin("SELECT count(*) FROM bulkhead.idempotency_key").unwrap(), ROUNDS.to_string());
}

/// The partition is made by the first claim, and not inside its transaction.
async fn the_very_first_claims_of_a_database_do_not_wait(db: Database) {
    let (one, two) = (app(&db).await, acting(&db, "app", B).await);
    one.run("BEGIN").await;
    start(&one, "k").await;
    two.run("SET statement_timeout = '5s'").await;
    start(&two, "k").await;
    one.run("ROLLBACK").await;
    start(&one, "k").await;
}

async fn nobody_waits_for_an_open_transaction(db: Database) {
    let (holder, other) = (app(&db).await, app(&db).await);
    start(&other, "warm").await;
    other.run("SET lock_timeout = '100ms'").await;
    holder.run("BEGIN").await;
    start(&holder, "k").await;
    assert_eq!(claim(&other, "k").await, "in_progress");
    complete(&holder, "k").await;
    assert_eq!(claim(&other, "k").await, "in_progress", "not committed");
    holder.run("ROLLBACK").await;
    start(&other, "k").await;
    complete(&other, "k").await;
    // A fingerprint is compared with what is not committed, too.
    holder.run("BEGIN; SELECT bulkhead.idempotency_claim('f', 'one')").await;
    assert_eq!(other.one("SELECT state FROM bulkhead.idempotency_claim('f', 'two')").await, "mismatch");
    assert_eq!(other.one("SELECT state FROM bulkhead.idempotency_claim('f', 'one')").await, "in_progress");
    holder.run("COMMIT").await;
}

/// The snapshot was taken before the other session claimed and finished.
async fn a_snapshot_from_before_sees_what_counts(db: Database) {
    let other = app(&db).await;
    start(&other, "warm").await;
    for (number, level) in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"].iter().enumerate() {
        let early = app(&db).await;
        let key = format!("k{number}");
        early.run(&format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class")).await;
        start(&other, &key).await;
        assert_eq!(claim(&early, &key).await, "in_progress", "{level}");
        complete(&other, &key).await;
        assert_eq!(claim(&early, &key).await, "replay", "{level}");
        start(&early, &format!("own {number}")).await;
        complete(&early, &format!("own {number}")).await;
        early.run("COMMIT").await;
        assert_eq!(rows_of(&db, &key), "1");
    }
}

/// Claim, work and answer in one transaction, by sessions that all want the same hundred pieces of work, in all isolation levels, with
/// rollbacks: each is done once.
async fn work_in_one_transaction_runs_once(db: Database) {
    const KEYS: usize = 100;
    db.connect("owner").await.run("CREATE TABLE done (key text)").await;
    start(&app(&db).await, "warm").await;
    let mut sessions = tokio::task::JoinSet::new();
    for number in 0..8 {
        let db = db.clone();
        sessions.spawn(async move {
            let client = app(&db).await;
            let level = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"][number % 3];
            let mut open: Vec<usize> = (0..KEYS).collect();
            let mut round = number;
            while !open.is_empty() {
                round += 1;
                let key = open[(round * 7 + number) % open.len()];
                client.run(&format!("BEGIN ISOLATION LEVEL {level}")).await;
                match claim(&client, &format!("{key}")).await.as_str() {
                    "started" => {
                        client.run(&format!("INSERT INTO done VALUES ('{key}')")).await;
                        complete(&client, &format!("{key}")).await;
                        client.run(if round % 3 == 0 { "ROLLBACK" } else { "COMMIT" }).await;
                    }
                    "replay" => {
                        client.run("COMMIT").await;
                        open.retain(|other| *other != key);
                    }
                    _ => {
                        client.run("ROLLBACK").await;
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            }
        });
    }
    while let Some(session) = sessions.join_next().await {
        session.unwrap();
    }
    let done = "SELECT count(*), count(DISTINCT key) FROM done";
    assert_eq!(db.admin(done).unwrap(), "100|100");
}

async fn thousands_of_claims_in_one_transaction(db: Database) {
    let app = app(&db).await;
    app.run("BEGIN").await;
    let many = "SELECT count(*) FROM generate_series(1, 30000) i, LATERAL bulkhead.idempotency_claim('n' || i) c WHERE c.state = 'started'";
    assert_eq!(app.one(many).await, "30000");
    let locks = "SELECT count(*) < 100, count(*) FILTER (WHERE locktype IN ('advisory', 'userlock')) FROM pg_locks WHERE pid = pg_backend_pid()";
    assert_eq!(app.rows(locks).await, [["t", "0"]]);
    app.run("COMMIT").await;
}

async fn an_applications_own_locks_are_in_nobodys_way(db: Database) {
    let (holder, app) = (app(&db).await, app(&db).await);
    start(&app, "warm").await;
    app.run("SET lock_timeout = '100ms'").await;
    // Every advisory lock that an application could hold by these numbers, and a claim all the same.
    holder
        .run("SELECT count(pg_advisory_lock(i)), count(pg_advisory_lock(i, i)), count(pg_advisory_lock_shared(-i)) FROM generate_series(0, 500) i")
        .await;
    for number in 0..50 {
        start(&app, &format!("k{number}")).await;
    }
    app.run("SELECT pg_advisory_unlock_all()").await;
    assert_eq!(claim(&app, "k0").await, "in_progress");
}

async fn claims_in_any_order_do_not_deadlock(db: Database) {
    let (one, two) = (app(&db).await, app(&db).await);
    start(&one, "warm").await;
    for client in [&one, &two] {
        client.run("SET lock_timeout = '1s'; BEGIN").await;
    }
    start(&one, "a").await;
    start(&two, "b").await;
    assert_eq!(claim(&one, "b").await, "in_progress");
    assert_eq!(claim(&two, "a").await, "in_progress");
    complete(&one, "a").await;
    complete(&two, "b").await;
    one.run("COMMIT").await;
    two.run("COMMIT").await;
    assert_eq!(claim(&one, "b").await, "replay");
    assert_eq!(claim(&two, "a").await, "replay");
}

async fn a_prepared_transaction_holds_its_keys(db: Database) {
    if db.admin("SHOW max_prepared_transactions").unwrap() == "0" {
        // What the server of these tests is started with; crash.rs starts one of its own.
        let refused = app(&db).await;
        refused.run("BEGIN").await;
        start(&refused, "k").await;
        refused.refused("PREPARE TRANSACTION 'p'").await.state("55000");
        start(&refused, "k").await;
        return;
    }
    let app = acting(&db, "app", A).await;
    app.run("BEGIN").await;
    start(&app, "k").await;
    app.run("PREPARE TRANSACTION 'p'").await;
    let started = Instant::now();
    assert_eq!(claim(&app, "k").await, "in_progress");
    assert!(started.elapsed() < Duration::from_secs(5));
    app.run("ROLLBACK PREPARED 'p'").await;
    start(&app, "k").await;
}
