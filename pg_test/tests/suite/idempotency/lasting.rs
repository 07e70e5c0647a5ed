//! What a call leaves behind: no memory, and nothing at all when it was cut short.

use std::time::Duration;

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{app, claim, complete, start};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        memory_stays_flat_over_a_million_claims => 300,
        memory_stays_flat_within_a_statement,
        a_claim_that_is_cut_short_leaves_nothing,
        a_finish_that_is_cut_short_leaves_the_claim,
        claims_that_fail_leave_nothing,
    ]
}

/// A session that may look at its own memory.
async fn measured(db: &Database) -> Client {
    db.admin(
        "GRANT EXECUTE ON FUNCTION pg_get_backend_memory_contexts() TO app;
         GRANT SELECT ON pg_backend_memory_contexts TO app",
    )
    .unwrap();
    app(db).await
}

const USED: &str = "SELECT sum(total_bytes) FROM pg_backend_memory_contexts";

async fn memory_stays_flat_over_a_million_claims(db: Database) {
    let app = measured(&db).await;
    let used = async || -> i64 { app.one(USED).await.parse().unwrap() };
    let claims = |from: usize, to: usize| {
        format!(
            "DO $$ DECLARE c record; BEGIN
               FOR i IN {from} .. {to} LOOP
                 SELECT * INTO STRICT c FROM bulkhead.idempotency_claim('key ' || i, 'f');
                 ASSERT c.state = 'started';
                 PERFORM bulkhead.idempotency_complete('key ' || i, 201, '{{\"id\": 7}}', c.fence);
                 IF i % 1000 = 0 THEN
                   ASSERT (SELECT state FROM bulkhead.idempotency_claim('key ' || i, 'g')) = 'mismatch';
                   ASSERT (SELECT response FROM bulkhead.idempotency_claim('key ' || i - 1)) = '{{\"id\": 7}}';
                   COMMIT;
                 END IF;
               END LOOP; END $$"
        )
    };
    app.run(&claims(1, 20_000)).await;
    let before = used().await;
    app.run(&claims(20_001, 1_020_000)).await;
    let after = used().await;
    assert!(after - before < 300_000, "{before} bytes before a million claims, {after} after");
    assert_eq!(db.admin("SELECT count(*) FROM bulkhead.idempotency_key WHERE stage = 'f'").unwrap(), "1020000");
    // One statement a call, as a driver sends them.
    let by_hand = async |from: usize, to: usize| {
        for i in from..to {
            start(&app, &format!("single {i}")).await;
            complete(&app, &format!("single {i}")).await;
        }
    };
    by_hand(0, 500).await;
    let before = used().await;
    by_hand(500, 5_000).await;
    let after = used().await;
    assert!(after - before < 300_000, "{before} bytes before, {after} after");
}

/// Each row's memory is given back before the next, also while the statement runs on.
async fn memory_stays_flat_within_a_statement(db: Database) {
    let app = measured(&db).await;
    start(&app, "warm").await;
    let many = format!(
        "SELECT u FROM (SELECT i, CASE WHEN i % 100000 = 0 THEN ({USED} WHERE i > 0) END AS u, c.state
           FROM generate_series(1, 300000) i, LATERAL bulkhead.idempotency_claim('n' || i % 150000, repeat('f', 1000)) c) q
          WHERE u IS NOT NULL ORDER BY i"
    );
    let used: Vec<i64> = app.column(&many).await.iter().map(|bytes| bytes.parse().unwrap()).collect();
    assert_eq!(used.len(), 3, "{used:?}");
    // The rest of the third hundred thousand are keys that are known already.
    assert!(used[2] - used[0] < 2_000_000, "{used:?}");
    assert_eq!(app.one("SELECT count(*) FROM generate_series(1, 9)").await, "9");
}

/// Locks of this extension's in the database: a key's is given back at once.
fn key_locks(db: &Database) -> String {
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'userlock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    db.admin(locks).unwrap()
}

async fn a_claim_that_is_cut_short_leaves_nothing(db: Database) {
    let app = app(&db).await;
    start(&app, "warm").await;
    app.run("SET statement_timeout = '300ms'").await;
    app.refused("SELECT state, pg_sleep(5) FROM bulkhead.idempotency_claim('k')").await.state("57014");
    app.run("BEGIN").await;
    app.run("SELECT bulkhead.idempotency_claim('k')").await;
    app.refused("SELECT pg_sleep(5)").await.state("57014");
    app.run("ROLLBACK").await;
    // In the middle of it, under the key's lock: somebody has locked the partition against everything.
    let leaf = db.admin("SELECT tableoid::regclass FROM bulkhead.idempotency_key LIMIT 1").unwrap();
    let ddl = db.connect("postgres").await;
    ddl.run(&format!("BEGIN; LOCK TABLE ONLY {leaf} IN ACCESS EXCLUSIVE MODE")).await;
    app.refused("SELECT bulkhead.idempotency_claim('k')").await.state("57014");
    app.run("BEGIN; SAVEPOINT s").await;
    app.refused("SELECT bulkhead.idempotency_claim('k')").await.state("57014");
    app.run("ROLLBACK TO s").await;
    assert_eq!(key_locks(&db), "0", "the transaction goes on, and holds no key");
    app.run("ROLLBACK; RESET statement_timeout; SET lock_timeout = '200ms'").await;
    app.refused("SELECT bulkhead.idempotency_claim('k')").await.state("55P03");
    // Cancelled, and killed.
    app.run("RESET lock_timeout").await;
    let pid = app.one("SELECT pg_backend_pid()").await;
    for (call, state) in [("pg_cancel_backend", "57014"), ("pg_terminate_backend", "57P01")] {
        let (waits, ends) =
            (format!("SELECT cardinality(pg_blocking_pids({pid})) > 0"), format!("SELECT {call}({pid})"));
        let ender = db.clone();
        let end = tokio::spawn(async move {
            while ender.admin(&waits).unwrap() != "t" {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            ender.admin(&ends).unwrap();
        });
        app.refused("SELECT bulkhead.idempotency_claim('k')").await.state(state);
        end.await.unwrap();
    }
    ddl.run("COMMIT").await;
    let app = super::fixture::app(&db).await;
    assert_eq!(key_locks(&db), "0");
    let claimed = app.rows("SELECT state, attempt FROM bulkhead.idempotency_claim('k')").await;
    assert_eq!(claimed, [["started", "1"]]);
}

/// A finish waits for who is taking the key over, and can be cancelled.
async fn a_finish_that_is_cut_short_leaves_the_claim(db: Database) {
    let (slow, quick) = (app(&db).await, app(&db).await);
    let fence = slow.one("SELECT fence FROM bulkhead.idempotency_claim('k', NULL, '1 ms')").await;
    quick.run("SELECT pg_sleep(0.01); BEGIN").await;
    start(&quick, "k").await;
    slow.run("SET statement_timeout = '200ms'").await;
    for call in [
        format!("complete('k', 200, '1', {fence})"),
        format!("release('k', {fence})"),
        format!("extend('k', '1 s', {fence})"),
    ] {
        slow.refused(&format!("SELECT bulkhead.idempotency_{call}")).await.state("57014");
    }
    assert_eq!(key_locks(&db), "0");
    quick.run("ROLLBACK").await;
    slow.run(&format!("SELECT bulkhead.idempotency_complete('k', 200, '1', {fence})")).await;
    assert_eq!(claim(&quick, "k").await, "replay");
}

/// Errors inside a transaction that goes on: each is rolled back with its savepoint, a thousand times.
async fn claims_that_fail_leave_nothing(db: Database) {
    let app = app(&db).await;
    start(&app, "finished").await;
    complete(&app, "finished").await;
    app.run(
        "DO $$ BEGIN FOR i IN 1 .. 1000 LOOP
           BEGIN PERFORM bulkhead.idempotency_claim('k' || i); PERFORM bulkhead.idempotency_claim('x', NULL, '0'); EXCEPTION WHEN invalid_parameter_value THEN NULL; END;
           BEGIN PERFORM bulkhead.idempotency_complete('finished', 500, '2'); EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL; END;
         END LOOP;
         ASSERT (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'userlock') = 0; END $$",
    )
    .await;
    assert_eq!(app.one("SELECT status FROM bulkhead.idempotency_claim('finished')").await, "201");
    assert_eq!(db.admin("SELECT count(*) FROM bulkhead.idempotency_key").unwrap(), "1");
    start(&app, "k1").await;
}
