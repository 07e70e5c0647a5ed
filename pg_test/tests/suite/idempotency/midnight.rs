//! Midnight while claims are made, and partitions that come and go under them.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{age, app, claim, complete, rows_of, start};
use crate::fixture::midnight_in;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_day_ends_while_claims_are_made,
        a_transaction_from_before_midnight_claims_after_it,
        claims_go_on_while_partitions_go,
        a_digest_that_two_keys_share_gives_no_foreign_answer,
    ]
}

/// Sessions claim and finish keys that others claim, too, for the last second of a day and the first of the next: each key is
/// started once, and has one row, wherever it lies.
async fn a_day_ends_while_claims_are_made(db: Database) {
    midnight_in(&db, "idempotency_key", "digest", 3.0);
    let ends = Instant::now() + Duration::from_millis(5500);
    let mut sessions = tokio::task::JoinSet::new();
    for number in 0..8_usize {
        let db = db.clone();
        sessions.spawn(async move {
            let client = app(&db).await;
            let level = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"][number % 3];
            client.run(&format!("SET default_transaction_isolation = '{level}'")).await;
            let (mut started, mut replayed, mut round) = (Vec::new(), 0, 0);
            while Instant::now() < ends {
                round += 1;
                // A key is asked for many times, by all of them, now and a little later.
                let key = format!("k{}", (round + 13 * number) / 3);
                match claim(&client, &key).await.as_str() {
                    "started" => {
                        if round % 2 == 0 {
                            complete(&client, &key).await;
                        }
                        started.push(key);
                    }
                    "replay" => replayed += 1,
                    other => assert_eq!(other, "in_progress"),
                }
            }
            (started, replayed)
        });
    }
    let (mut started, mut replayed) = (Vec::new(), 0);
    while let Some(session) = sessions.join_next().await {
        let (keys, count) = session.unwrap();
        started.extend(keys);
        replayed += count;
    }
    let number = started.len();
    started.sort();
    started.dedup();
    assert_eq!(started.len(), number, "no key was started twice");
    assert!(replayed > 100, "{replayed}");
    let of =
        |table: &str| db.admin(&format!("SELECT count(*) FROM bulkhead.{table}")).unwrap().parse::<usize>().unwrap();
    let (before, after) = (of("before_midnight"), of("after_midnight"));
    assert_eq!(before + after, number);
    assert!(before > 50 && after > 50, "{before} before midnight, {after} after it");
    // All the keys of the day before, asked for on the next.
    let client = app(&db).await;
    let again =
        "SELECT count(*) FROM unnest($1::text[]) k, LATERAL bulkhead.idempotency_claim(k) c WHERE c.state = 'started'";
    assert_eq!(client.query_one(again, &[&started]).await.unwrap().get::<_, i64>(0), 0);
}

/// now() says yesterday, the clock says today: what counts is when the claim is made.
async fn a_transaction_from_before_midnight_claims_after_it(db: Database) {
    midnight_in(&db, "idempotency_key", "digest", 3.0);
    let (old, other) = (app(&db).await, app(&db).await);
    old.run("BEGIN").await;
    start(&old, "before, open").await;
    start(&other, "before").await;
    complete(&other, "before").await;
    old.run("SELECT bulkhead.idempotency_claim('late', NULL, '1 ms')").await;
    other.run("SELECT pg_sleep(3.1)").await;
    assert_eq!(claim(&other, "before, open").await, "in_progress", "in an open transaction of yesterday");
    assert_eq!(claim(&old, "before").await, "replay");
    start(&old, "after").await;
    start(&old, "late").await;
    assert_eq!(claim(&other, "after").await, "in_progress");
    old.run("COMMIT").await;
    for key in ["before", "before, open", "after", "late"] {
        assert_eq!(rows_of(&db, key), "1", "{key}");
    }
    let days = "SELECT string_agg(key, ' ' ORDER BY key) FROM bulkhead.";
    assert_eq!(db.admin(&format!("{days}before_midnight")).unwrap(), "before before, open");
    assert_eq!(db.admin(&format!("{days}after_midnight")).unwrap(), "after late", "taken over today");
    complete(&other, "before, open").await;
    assert_eq!(claim(&old, "before, open").await, "replay", "finished on the next day, where it was claimed");
}

/// maintain() drops days while sessions claim without a pause: no claim fails, none waits for it.
async fn claims_go_on_while_partitions_go(db: Database) {
    let busy = app(&db).await;
    for key in ["yesterday", "long ago"] {
        start(&busy, key).await;
        complete(&busy, key).await;
    }
    age(&db, "yesterday", "23 hours");
    let ends = Instant::now() + Duration::from_secs(6);
    let mut sessions = tokio::task::JoinSet::new();
    for number in 0..4 {
        let db = db.clone();
        sessions.spawn(async move {
            let client = app(&db).await;
            let (mut count, mut slowest) = (0, Duration::ZERO);
            while Instant::now() < ends {
                let began = Instant::now();
                count += 1;
                start(&client, &format!("{number} {count}")).await;
                complete(&client, &format!("{number} {count}")).await;
                assert_eq!(claim(&client, "yesterday").await, "replay");
                slowest = slowest.max(began.elapsed());
            }
            (count, slowest)
        });
    }
    let mut dropped = 0;
    while Instant::now() < ends {
        // Days that nobody asks for any more, full of keys.
        for days in 4..8 {
            let day = format!("(now() AT TIME ZONE 'UTC')::date - {days}");
            db.admin(&format!(
                "CREATE TABLE IF NOT EXISTS bulkhead.old_{days} (LIKE bulkhead.idempotency_key, PRIMARY KEY (digest));
                 INSERT INTO bulkhead.old_{days} SELECT gen_random_uuid(), ({day})::timestamptz + interval '12 hours', now(), i, 1, 'f', 200, 'h2o', 'old ' || i
                   FROM generate_series(1, 5000) i;
                 DO $$ BEGIN EXECUTE format('ALTER TABLE bulkhead.idempotency_key ATTACH PARTITION bulkhead.old_{days} FOR VALUES FROM (%L) TO (%L)',
                                            ({day}) || ' 00:00:00+00', ({day} + 1) || ' 00:00:00+00'); END $$"
            ))
            .unwrap();
        }
        db.connect("postgres").await.run("CALL bulkhead.maintain()").await;
        let left = db.admin("SELECT count(*) FROM pg_class WHERE relname LIKE 'old\\__' AND relkind = 'r'").unwrap();
        assert_eq!(
            left,
            "0",
            "{}",
            db.admin("SELECT string_agg(detail, ' ') FROM bulkhead.maintenance_log WHERE NOT ok").unwrap()
        );
        dropped += 4;
    }
    assert!(dropped >= 4, "{dropped}");
    let mut claimed = 0;
    while let Some(session) = sessions.join_next().await {
        let (count, slowest) = session.unwrap();
        claimed += count;
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    }
    let kept = db.admin("SELECT count(*) FROM bulkhead.idempotency_key WHERE key ~ '^[0-9] '").unwrap();
    assert_eq!(kept, claimed.to_string());
}

/// Not to be expected in the lifetime of the universe; made by hand here. It must not answer one request with another's answer.
async fn a_digest_that_two_keys_share_gives_no_foreign_answer(db: Database) {
    let app = app(&db).await;
    start(&app, "k").await;
    complete(&app, "k").await;
    for planted in ["key = 'other'", "key = 'k', tenant = 'other'"] {
        db.admin(&format!("UPDATE bulkhead.idempotency_key SET {planted}")).unwrap();
        for call in ["claim('k')", "complete('k', 200, '1')", "release('k')", "extend('k', '1 s')"] {
            let refused = app.refused(&format!("SELECT bulkhead.idempotency_{call}")).await;
            refused.state("XX000").message_contains("two idempotency keys have the same digest");
        }
    }
}
