//! Over midnight, over the window, and what a key's own date may and may not do. Time is moved by moving the rows.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{age, app, claim, complete, rows_of, start};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_retry_on_the_next_day_is_the_same_request,
        a_lease_from_yesterday_is_taken_over_today,
        an_extension_moves_with_the_time,
        after_the_window_a_key_starts_anew,
        in_a_partition_longer_than_the_window_it_starts_anew_in_place,
        only_partitions_inside_the_window_are_looked_into,
        a_dated_key_is_found_where_it_was_claimed,
        a_forged_date_brings_no_second_run,
        a_key_dated_ahead_is_refused,
    ]
}

const DAYS: &str = "SELECT count(DISTINCT tableoid) FROM bulkhead.idempotency_key";

async fn a_retry_on_the_next_day_is_the_same_request(db: Database) {
    let app = app(&db).await;
    for key in ["finished", "started", "other"] {
        start(&app, key).await;
    }
    complete(&app, "finished").await;
    app.run("SELECT bulkhead.idempotency_extend('started', '23 hours 59 minutes')").await;
    for key in ["finished", "started"] {
        age(&db, key, "23 hours 58 minutes");
    }
    assert_eq!(db.admin(DAYS).unwrap(), "2", "they lie in yesterday's partition");
    assert_eq!(claim(&app, "finished").await, "replay");
    assert_eq!(claim(&app, "started").await, "in_progress");
    complete(&app, "started").await;
    assert_eq!(claim(&app, "started").await, "replay");
    assert_eq!(rows_of(&db, "started"), "1");
}

async fn a_lease_from_yesterday_is_taken_over_today(db: Database) {
    let app = app(&db).await;
    let first = app.one("SELECT fence FROM bulkhead.idempotency_claim('k', 'f')").await;
    age(&db, "k", "23 hours");
    let taken = app.rows("SELECT state, attempt, fence FROM bulkhead.idempotency_claim('k')").await.remove(0);
    assert_eq!(taken[..2], ["started", "2"]);
    let place = "SELECT count(*), bool_and(claimed_at > now() - interval '1 minute') FROM bulkhead.idempotency_key";
    assert_eq!(db.admin(place).unwrap(), "1|t", "one row, in the partition of the new claim");
    let ask = "SELECT state FROM bulkhead.idempotency_claim('k', 'g')";
    assert_eq!(app.one(ask).await, "mismatch", "what the first request was is still known");
    app.refused(&format!("SELECT bulkhead.idempotency_complete('k', 200, '1', {first})")).await.state("55000");
    app.run(&format!("SELECT bulkhead.idempotency_complete('k', 200, '2', {})", taken[2])).await;
    assert_eq!(claim(&app, "k").await, "replay");
}

async fn an_extension_moves_with_the_time(db: Database) {
    let app = app(&db).await;
    start(&app, "k").await;
    age(&db, "k", "23 hours");
    app.run("SELECT bulkhead.idempotency_extend('k', '10 hours')").await;
    let place = "SELECT count(*), bool_and(claimed_at > now() - interval '1 minute') FROM bulkhead.idempotency_key";
    assert_eq!(db.admin(place).unwrap(), "1|t");
    assert_eq!(claim(&app, "k").await, "in_progress");
    complete(&app, "k").await;
    assert_eq!(claim(&app, "k").await, "replay");
}

async fn after_the_window_a_key_starts_anew(db: Database) {
    let app = app(&db).await;
    start(&app, "k").await;
    complete(&app, "k").await;
    age(&db, "k", "24 hours 1 second");
    let anew = "SELECT state, attempt FROM bulkhead.idempotency_claim('k', 'another request')";
    assert_eq!(app.rows(anew).await, [["started", "1"]]);
    assert_eq!(claim(&app, "k").await, "in_progress");
    app.run("SELECT bulkhead.idempotency_complete('k', 200, '\"new\"')").await;
    assert_eq!(app.one("SELECT response FROM bulkhead.idempotency_claim('k')").await, "\"new\"");
}

async fn in_a_partition_longer_than_the_window_it_starts_anew_in_place(db: Database) {
    let app = app(&db).await;
    db.admin(&format!("ALTER DATABASE {} SET bulkhead.idempotency_window = '2 s'", db.name)).unwrap();
    let brief = super::fixture::app(&db).await;
    let claimed = "SELECT state, attempt FROM bulkhead.idempotency_claim('k', NULL, '1 s')";
    assert_eq!(brief.rows(claimed).await, [["started", "1"]]);
    complete(&brief, "k").await;
    assert_eq!(claim(&app, "k").await, "replay");
    brief.run("SELECT pg_sleep(2.05)").await;
    assert_eq!(brief.rows(claimed).await, [["started", "1"]]);
    // Midnight may just have passed.
    assert!(["1", "2"].contains(&rows_of(&db, "k").as_str()));
}

/// Retention is longer than the window: what lies behind the window is kept, and not looked into.
async fn only_partitions_inside_the_window_are_looked_into(db: Database) {
    let app = app(&db).await;
    for key in ["from yesterday", "older"] {
        start(&app, key).await;
    }
    age(&db, "from yesterday", "23 hours 59 minutes");
    age(&db, "older", "47 hours 59 minutes");
    let looked_into = async |key: &str| {
        app.run("BEGIN").await;
        start(&app, key).await;
        let locked = "SELECT string_agg(DISTINCT replace(relation::regclass::text, 'bulkhead.idempotency_key', ''), ' ') FROM pg_locks l
                       JOIN pg_inherits i ON i.inhrelid = l.relation
                      WHERE pid = pg_backend_pid() AND i.inhparent = 'bulkhead.idempotency_key'::regclass AND mode = 'RowExclusiveLock'";
        let tables = app.one(locked).await;
        app.run("ROLLBACK").await;
        tables
    };
    // Of today, of the days made ahead, and of yesterday.
    let opaque = looked_into("opaque").await;
    assert!(opaque.contains("_1_ago") && !opaque.contains("_2_ago"), "{opaque}");
    let dated = looked_into(&app.one(DATED_NOW).await).await;
    assert!(!dated.contains("_2_ago"), "{dated}");
    let five_past = app
        .one("SELECT now() AT TIME ZONE 'UTC' > date_trunc('day', now() AT TIME ZONE 'UTC') + interval '6 minutes'")
        .await;
    if five_past == "t" {
        assert!(!dated.contains("_ago"), "a key that carries today's date was not there yesterday: {dated}");
    }
}

/// A UUIDv7 of this moment, and of others by an interval.
const DATED_NOW: &str = "SELECT overlay(gen_random_uuid()::text PLACING
     left(h, 8) || '-' || right(h, 4) || '-7' FROM 1 FOR 15)
   FROM lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') AS h";

fn dated(shift: &str) -> String {
    DATED_NOW.replace("clock_timestamp()", &format!("clock_timestamp() + interval '{shift}'"))
}

async fn a_dated_key_is_found_where_it_was_claimed(db: Database) {
    let app = app(&db).await;
    for shift in ["0", "-4 minutes", "-23 hours", "-30 days", "4 minutes 50 seconds"] {
        let key = app.one(&dated(shift)).await;
        start(&app, &key).await;
        assert_eq!(claim(&app, &key).await, "in_progress", "{shift}");
        complete(&app, &key).await;
        assert_eq!(claim(&app, &key).await, "replay", "{shift}");
    }
    // Claimed just before midnight, retried after it: yesterday's partition lies behind its date's.
    let key = app.one(&dated("-23 hours")).await;
    start(&app, &key).await;
    complete(&app, &key).await;
    age(&db, &key, "22 hours 59 minutes");
    assert_eq!(claim(&app, &key).await, "replay");
}

/// The date only says where a row cannot be. A key dated later than its own claim could hide that claim, and is not admitted
/// beyond what clocks may differ by.
async fn a_forged_date_brings_no_second_run(db: Database) {
    let app = app(&db).await;
    for shift in ["-10 years", "-1 day", "-5 minutes", "0", "4 minutes 58 seconds"] {
        let key = app.one(&dated(shift)).await;
        start(&app, &key).await;
        complete(&app, &key).await;
        for _ in 0..3 {
            assert_eq!(claim(&app, &key).await, "replay", "{shift}");
        }
    }
    // The latest date that is admitted, claimed as early as it can be: still found when it is old.
    let key = app.one(&dated("4 minutes 59 seconds")).await;
    start(&app, &key).await;
    complete(&app, &key).await;
    assert_eq!(claim(&app, &key).await, "replay");
    assert_eq!(rows_of(&db, &key), "1");
}

async fn a_key_dated_ahead_is_refused(db: Database) {
    let app = app(&db).await;
    for shift in ["6 minutes", "1 day", "1000 years"] {
        let key = app.one(&dated(shift)).await;
        app.refused(&format!("SELECT bulkhead.idempotency_claim('{key}')"))
            .await
            .state("22023")
            .message("the idempotency key is dated more than five minutes ahead")
            .hint_contains("clock");
    }
    start(&app, "ffffffff-ffff-4fff-8fff-ffffffffffff").await;
    app.refused("SELECT bulkhead.idempotency_claim('ffffffff-ffff-7fff-8fff-ffffffffffff')").await.state("22023");
}
