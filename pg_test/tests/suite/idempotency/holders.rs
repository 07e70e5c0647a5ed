//! Who holds a key, and who held it.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{A, acting, app, claim, complete, start};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_lease_that_ran_out_is_taken_over,
        a_late_finish_changes_nothing,
        without_a_fence_only_the_first_attempt_finishes,
        a_lease_that_ran_out_but_was_not_taken_over_still_holds,
        what_is_released_starts_at_once,
        what_is_extended_is_not_taken_over,
        only_what_is_held_can_be_finished,
        a_finish_waits_for_who_takes_over,
        a_fence_grows_with_each_attempt,
    ]
}

const LEASE: &str = "SELECT state, attempt, fence FROM bulkhead.idempotency_claim('k', NULL, '50 ms')";

/// A key `k` of which the first lease ran out and the second attempt runs: the two fences.
async fn taken_over(db: &Database) -> (Client, Client, String, String) {
    let (slow, quick) = (app(db).await, acting(db, "app", A).await);
    let first = slow.rows(LEASE).await.remove(0);
    assert_eq!(first[..2], ["started", "1"]);
    quick.run("SELECT pg_sleep(0.06)").await;
    let second = quick.rows("SELECT state, attempt, fence FROM bulkhead.idempotency_claim('k')").await.remove(0);
    assert_eq!(second[..2], ["started", "2"]);
    (slow, quick, first[2].clone(), second[2].clone())
}

async fn a_lease_that_ran_out_is_taken_over(db: Database) {
    let (slow, quick, first, second) = taken_over(&db).await;
    assert!(first.parse::<i64>().unwrap() < second.parse::<i64>().unwrap());
    assert_eq!(claim(&slow, "k").await, "in_progress");
    quick.run(&format!("SELECT bulkhead.idempotency_complete('k', 200, '\"second\"', {second})")).await;
    assert_eq!(slow.one("SELECT response FROM bulkhead.idempotency_claim('k')").await, "\"second\"");
}

async fn a_late_finish_changes_nothing(db: Database) {
    let (slow, quick, first, second) = taken_over(&db).await;
    let late = [
        format!("complete('k', 200, '\"first\"', {first})"),
        format!("release('k', {first})"),
        format!("extend('k', '1 minute', {first})"),
    ];
    for call in &late {
        let refused = slow.refused(&format!("SELECT bulkhead.idempotency_{call}")).await;
        refused.state("55000").message("idempotency key \"k\" was taken over").detail_contains("attempt 2");
    }
    quick.run(&format!("SELECT bulkhead.idempotency_complete('k', 200, '\"second\"', {second})")).await;
    for call in &late {
        slow.refused(&format!("SELECT bulkhead.idempotency_{call}")).await.state("55000");
    }
    assert_eq!(slow.one("SELECT response FROM bulkhead.idempotency_claim('k')").await, "\"second\"");
}

async fn without_a_fence_only_the_first_attempt_finishes(db: Database) {
    let (slow, _, _, second) = taken_over(&db).await;
    for call in ["complete('k', 200, '1')", "release('k')", "extend('k', '1 minute')"] {
        let refused = slow.refused(&format!("SELECT bulkhead.idempotency_{call}")).await;
        refused.state("55000").message_contains("claimed more than once").hint_contains("fence");
    }
    slow.run(&format!("SELECT bulkhead.idempotency_complete('k', 200, '2', {second})")).await;
}

async fn a_lease_that_ran_out_but_was_not_taken_over_still_holds(db: Database) {
    let app = app(&db).await;
    app.run(&format!("{LEASE}; SELECT pg_sleep(0.06)")).await;
    complete(&app, "k").await;
    assert_eq!(claim(&app, "k").await, "replay");
}

async fn what_is_released_starts_at_once(db: Database) {
    let app = app(&db).await;
    start(&app, "k").await;
    app.run("SELECT bulkhead.idempotency_release('k')").await;
    let again = app.rows("SELECT state, attempt, fence FROM bulkhead.idempotency_claim('k', 'f')").await.remove(0);
    assert_eq!(again[..2], ["started", "2"]);
    assert_eq!(app.one("SELECT state FROM bulkhead.idempotency_claim('k', 'g')").await, "mismatch");
    app.run(&format!("SELECT bulkhead.idempotency_release('k', {})", again[2])).await;
    assert_eq!(app.one("SELECT attempt FROM bulkhead.idempotency_claim('k')").await, "3");
}

async fn what_is_extended_is_not_taken_over(db: Database) {
    let app = app(&db).await;
    app.run(LEASE).await;
    app.run("SELECT bulkhead.idempotency_extend('k', '1 minute'); SELECT pg_sleep(0.06)").await;
    assert_eq!(claim(&app, "k").await, "in_progress");
    complete(&app, "k").await;
    assert_eq!(claim(&app, "k").await, "replay");
}

async fn only_what_is_held_can_be_finished(db: Database) {
    let app = app(&db).await;
    let calls = ["complete('k', 200, '1')", "release('k')", "extend('k', '1 minute')"];
    for call in calls {
        let refused = app.refused(&format!("SELECT bulkhead.idempotency_{call}")).await;
        refused.state("55000").message("idempotency key \"k\" is not claimed").hint_contains("Claim it first");
    }
    start(&app, "k").await;
    app.refused("SELECT bulkhead.idempotency_complete('k', 200, '1', 17)").await.state("55000");
    app.run("SELECT bulkhead.idempotency_release('k')").await;
    for call in calls {
        app.refused(&format!("SELECT bulkhead.idempotency_{call}")).await.state("55000").message_contains("released");
    }
    let fence = start(&app, "k").await;
    app.run(&format!("SELECT bulkhead.idempotency_complete('k', 200, '1', {fence})")).await;
    for call in [format!("complete('k', 500, '2', {fence})"), format!("release('k', {fence})")] {
        app.refused(&format!("SELECT bulkhead.idempotency_{call}"))
            .await
            .state("55000")
            .message_contains("is finished");
    }
    assert_eq!(app.one("SELECT status FROM bulkhead.idempotency_claim('k')").await, "200");
}

/// Someone takes the key over and has not committed: whether the old holder still holds it is open, so it waits. Nobody else does.
async fn a_finish_waits_for_who_takes_over(db: Database) {
    for (ending, expected) in [("ROLLBACK", "replay"), ("COMMIT", "in_progress")] {
        let (slow, quick) = (app(&db).await, acting(&db, "app", A).await);
        let key = format!("k {ending}");
        let fence = slow.one(&format!("SELECT fence FROM bulkhead.idempotency_claim('{key}', NULL, '1 ms')")).await;
        quick.run("SELECT pg_sleep(0.01); BEGIN").await;
        start(&quick, &key).await;
        let pid = slow.one("SELECT pg_backend_pid()").await;
        let finish = format!("SELECT bulkhead.idempotency_complete('{key}', 200, '1', {fence})");
        let waiting = tokio::spawn(async move {
            let result = slow.simple_query(&finish).await;
            (slow, result.map(drop))
        });
        let blocked = format!("SELECT cardinality(pg_blocking_pids({pid}))");
        while quick.one(&blocked).await == "0" {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(claim(&acting(&db, "app", A).await, &key).await, "in_progress", "a claim does not wait");
        quick.run(ending).await;
        let (slow, result) = waiting.await.unwrap();
        match ending {
            "COMMIT" => {
                let error = result.unwrap_err();
                assert_eq!(error.code().unwrap().code(), "55000");
            }
            _ => result.unwrap(),
        }
        assert_eq!(claim(&slow, &key).await, expected);
    }
}

async fn a_fence_grows_with_each_attempt(db: Database) {
    let app = app(&db).await;
    let mut last = 0;
    for attempt in 1..=50 {
        let row = app.rows("SELECT attempt, fence FROM bulkhead.idempotency_claim('k')").await.remove(0);
        assert_eq!(row[0], attempt.to_string());
        let fence = row[1].parse::<i64>().unwrap();
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        app.run(&format!("SELECT bulkhead.idempotency_release('k', {fence})")).await;
    }
}
