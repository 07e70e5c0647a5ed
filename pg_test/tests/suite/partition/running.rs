//! Runs: two at once, cancelled, killed, in front of traffic.

use std::process::Stdio;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use pg_test::{Client, Cluster, Database};

use super::fixture::{complaints, days, leaves, log, maintain, managed};
use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        the_second_of_two_runs_leaves_at_once,
        a_cancelled_run_leaves_no_lock,
        a_step_by_hand_leaves_no_lock,
        nothing_leaks_into_the_session,
        traffic_goes_on => 180,
        a_killed_run_is_taken_up_again => 240,
        a_dump_is_not_disturbed,
        a_standby_says_read_only => 240,
        the_log_is_bounded,
        a_run_within_a_run_is_refused,
    ]
}

/// Locks of runs in this database.
async fn runs(db: &Database) -> String {
    let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'userlock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    db.admin(sql).unwrap()
}

async fn the_second_of_two_runs_leaves_at_once(db: Database) {
    let owner = managed(&db, 5).await;
    let reader = db.connect("owner").await;
    reader.run("BEGIN; SELECT count(*) FROM events").await;
    let first = db.connect("postgres").await;
    let running = tokio::spawn(async move { first.run("CALL bulkhead.maintain()").await });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let second = db.connect("postgres").await;
    let started = Instant::now();
    second.run("CALL bulkhead.maintain()").await;
    assert!(started.elapsed() < Duration::from_secs(1));
    let notices = second.notices();
    assert!(notices[0].starts_with("NOTICE: another session runs bulkhead.maintain()"), "{notices:?}");
    reader.run("COMMIT").await;
    running.await.unwrap();
    assert_eq!(leaves(&owner).await.len(), 7, "{:?}", complaints(&db).await);
    assert_eq!(runs(&db).await, "0");
    second.run("CALL bulkhead.maintain()").await;
    assert_eq!(second.notices(), [""; 0]);
}

async fn a_cancelled_run_leaves_no_lock(db: Database) {
    let owner = managed(&db, 5).await;
    let reader = db.connect("owner").await;
    reader.run("BEGIN; SELECT count(*) FROM events").await;
    let runner = db.connect("postgres").await;
    runner.run("SET statement_timeout = '1500ms'").await;
    runner.refused("CALL bulkhead.maintain()").await.state("57014");
    assert_eq!(runs(&db).await, "0");
    runner.run("RESET statement_timeout").await;
    reader.run("COMMIT").await;
    runner.run("CALL bulkhead.maintain()").await;
    assert_eq!(runner.notices(), [""; 0]);
    assert_eq!(leaves(&owner).await.len(), 7);
}

async fn a_step_by_hand_leaves_no_lock(db: Database) {
    managed(&db, 5).await;
    let runner = db.connect("postgres").await;
    for step in [
        "SELECT bulkhead.maintenance_step()",
        "BEGIN; SELECT bulkhead.maintenance_step(); COMMIT",
        "BEGIN; SELECT bulkhead.maintenance_step(); ROLLBACK",
        "DO 'BEGIN PERFORM bulkhead.maintenance_step(); END'",
        "DO 'BEGIN PERFORM bulkhead.maintenance_step(); COMMIT; PERFORM bulkhead.maintenance_step(); END'",
    ] {
        runner.run(step).await;
        assert_eq!(runs(&db).await, "0", "{step}");
    }
    runner.query("SELECT bulkhead.maintenance_step()", &[]).await.unwrap();
    assert_eq!(runs(&db).await, "0");
    runner.run("SELECT pg_advisory_unlock_all(); CREATE TABLE mine (n int)").await;
    runner.run("DISCARD ALL").await;
    maintain(&db).await;
}

async fn nothing_leaks_into_the_session(db: Database) {
    managed(&db, 5).await;
    let reader = db.connect("owner").await;
    reader.run("BEGIN; SELECT count(*) FROM events").await;
    let runner = db.connect("postgres").await;
    let settings = "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings
                     WHERE name IN ('lock_timeout', 'TimeZone', 'DateStyle', 'search_path', 'statement_timeout', 'transaction_isolation', 'jit')";
    let before = runner.one(settings).await;
    runner.run("CALL bulkhead.maintain()").await;
    assert_eq!(runner.one(settings).await, before);
    assert_eq!(runner.one("SELECT current_user").await, "postgres");
    reader.run("COMMIT").await;
    let held = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype IN ('userlock', 'advisory')";
    assert_eq!(runner.one(held).await, "0");
}

/// A reader of five seconds and four writers, while partitions are made and dropped: nothing is lost, nothing fails.
async fn traffic_goes_on(db: Database) {
    let owner = managed(&db, 7).await;
    maintain(&db).await;
    // Retention is shortened, and more is wanted ahead: there is something to do.
    owner.run("SELECT bulkhead.manage_partitions('events', '1 day', '1 day', 8)").await;
    let stop = Instant::now() + Duration::from_secs(12);
    let mut writers = Vec::new();
    for writer in 0..4_i64 {
        let app = db.connect("app").await;
        writers.push(tokio::spawn(async move {
            let insert = app.prepare("INSERT INTO events VALUES ($1, NULL, now(), 'live')").await.unwrap();
            let (mut written, mut slowest) = (0_i64, Duration::ZERO);
            while Instant::now() < stop {
                let started = Instant::now();
                app.execute(&insert, &[&(writer * 1_000_000 + written)]).await.unwrap();
                slowest = slowest.max(started.elapsed());
                written += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (written, slowest)
        }));
    }
    let reader = db.connect("app").await;
    let reading = tokio::spawn(async move { reader.run("SELECT count(*), pg_sleep(5) FROM events").await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    while Instant::now() < stop {
        maintain(&db).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    reading.await.unwrap();
    let mut written = 0;
    for writer in writers {
        let (count, slowest) = writer.await.unwrap();
        written += count;
        assert!(slowest < Duration::from_secs(3), "{slowest:?}: behind a reader it would have been five seconds");
    }
    assert_eq!(owner.one("SELECT count(*) FROM events WHERE note = 'live'").await, written.to_string());
    let names = leaves(&owner).await;
    assert_eq!(names.len(), 1 + 9, "{names:?} {:?}", complaints(&db).await);
}

/// The server is killed in the middle of runs, each time a few partitions further; in the end everything is as after one run.
async fn a_killed_run_is_taken_up_again(_: Nowhere) {
    const FURTHER: usize = 4;
    let cluster = Cluster::builder().start().unwrap();
    let db = cluster.database("kill").unwrap();
    managed(&db, 9).await;
    db.connect("owner")
        .await
        .run("SELECT bulkhead.protect('events'); SELECT bulkhead.manage_partitions('events', '1 day', '3 days', 30)")
        .await;
    for number in 0..6 {
        let (runner, witness) = (db.connect("postgres").await, db.connect("postgres").await);
        let before = partitions(&witness).await;
        let running = tokio::spawn(async move { runner.try_run("CALL bulkhead.maintain()").await.is_ok() });
        while differing(&before, &partitions(&witness).await) < FURTHER {
            assert!(!running.is_finished(), "the run was over before it was killed, at {before:?}");
        }
        if number % 3 == 2 {
            // One process only: the server restarts the others itself.
            let pid = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CALL%' AND pid <> pg_backend_pid()";
            let found = witness.column(pid).await;
            for pid in &found {
                std::process::Command::new("/bin/sh").args(["-c", "kill -9 \"$0\"", pid]).status().unwrap();
            }
            assert!(!running.await.unwrap(), "it was not killed in the middle");
            // Until it has noticed, it lets sessions in that it ends a moment later.
            while !found.is_empty() && witness.try_run("SELECT 1").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            for _ in 0..100 {
                if db.try_connect("postgres").await.is_ok() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        } else {
            cluster.kill().unwrap();
            assert!(!running.await.unwrap(), "it was not killed in the middle");
            cluster.start().unwrap();
        }
        // What was committed is whole: every partition is protected, none is half made.
        let client = db.connect("postgres").await;
        let unprotected = "SELECT count(*) FROM pg_inherits i WHERE inhparent = 'events'::regclass AND NOT EXISTS (SELECT FROM bulkhead.protection p WHERE p.relation = i.inhrelid)";
        assert_eq!(client.one(unprotected).await, "0");
        let loose =
            "SELECT count(*) FROM pg_class c WHERE relname LIKE 'events\\_%' AND relkind = 'r' AND NOT relispartition";
        assert_eq!(client.one(loose).await, "0");
    }
    maintain(&db).await;
    let owner = db.connect("owner").await;
    let mut expected: Vec<String> = ["events_3", "events_2", "events_1"].map(str::to_owned).to_vec();
    expected.extend(days(&owner, "events", 0, 30).await);
    assert_eq!(leaves(&owner).await, expected, "{:?}", complaints(&db).await);
    assert_eq!(runs(&db).await, "0");
}

/// Those that there are, while others come and go.
async fn partitions(client: &Client) -> Vec<String> {
    client.column("SELECT inhrelid FROM pg_inherits WHERE inhparent = 'events'::regclass").await
}

fn differing(one: &[String], other: &[String]) -> usize {
    let beyond = |one: &[String], other: &[String]| one.iter().filter(|name| !other.contains(name)).count();
    beyond(one, other) + beyond(other, one)
}

/// pg_dump stands still in the middle, because nobody reads what it writes. What is ahead is made, what is expired waits, and the dump
/// has every row that there was when it began.
async fn a_dump_is_not_disturbed(db: Database) {
    let owner = managed(&db, 6).await;
    owner.run("UPDATE events SET note = repeat('x', 1000000)").await;
    let mut dump = db.client_program("pg_dump", "postgres");
    dump.env("PGOPTIONS", "-c bulkhead.bypass=backup").stdout(Stdio::piped()).stderr(Stdio::piped());
    let dump = dump.spawn().unwrap();
    let copying =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY public.events%'";
    let deadline = Instant::now() + Duration::from_secs(60);
    while db.admin(copying).unwrap() == "0" {
        assert!(Instant::now() < deadline, "pg_dump does not copy");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    maintain(&db).await;
    assert_eq!(db.admin(copying).unwrap(), "1", "it is still at it");
    let during = leaves(&owner).await;
    assert_eq!(during[0], "events_6", "{during:?}");
    assert!(during.ends_with(&days(&owner, "events", 0, 3).await), "what is ahead is made all the same");
    let said = complaints(&db).await;
    assert!(said.iter().all(|said| said.contains("was in use all the time")) && said.len() == 3, "{said:?}");
    let dump = tokio::task::spawn_blocking(move || dump.wait_with_output().unwrap()).await.unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    assert_eq!(String::from_utf8_lossy(&dump.stdout).matches(&"x".repeat(1_000_000)).count(), 12);
    maintain(&db).await;
    assert_eq!(leaves(&owner).await[0], "events_3");
}

async fn a_standby_says_read_only(_: Nowhere) {
    let cluster = Cluster::builder().start().unwrap();
    let db = cluster.database("standby").unwrap();
    managed(&db, 1).await;
    maintain(&db).await;
    // The same server, started again as one that replays a log: that of nobody.
    cluster.stop().unwrap();
    std::fs::write(cluster.data_dir().join("standby.signal"), "").unwrap();
    cluster.start().unwrap();
    let client = db.connect("postgres").await;
    assert_eq!(client.one("SELECT pg_is_in_recovery()").await, "t");
    let refused = client.refused("CALL bulkhead.maintain()").await;
    refused.state("25006").hint_contains("on the primary");
    assert_eq!(
        client.one("SELECT count(*) FROM bulkhead.managed_partitions").await,
        "3",
        "the extension's two, and the test's"
    );
    assert_eq!(client.one("SELECT count(*) FROM bulkhead.health()").await, "15");
    client.run("SET bulkhead.tenant_context = 'h2o'").await;
    for call in ["claim('k')", "complete('k', 200, '1')", "release('k')", "extend('k', '1 s')"] {
        client.refused(&format!("SELECT bulkhead.idempotency_{call}")).await.state("25006");
    }
    // Promoted, it goes on where the other ended.
    client.run("SELECT pg_promote()").await;
    maintain(&db).await;
    assert_eq!(complaints(&db).await, [""; 0]);
    assert_eq!(client.one("SELECT state FROM bulkhead.idempotency_claim('k')").await, "started");
}

async fn the_log_is_bounded(db: Database) {
    managed(&db, 0).await;
    db.admin(
        "INSERT INTO bulkhead.maintenance_log (parent, action, ok, lock_wait, duration)
         SELECT 'events'::regclass, 'check', true, '0', '0' FROM generate_series(1, 12000)",
    )
    .unwrap();
    maintain(&db).await;
    maintain(&db).await;
    let kept: i64 = db.admin("SELECT count(*) FROM bulkhead.maintenance_log").unwrap().parse().unwrap();
    assert!(kept <= 10_004, "{kept}");
    assert_eq!(log(&db).await.last().unwrap()[2], "create");
}

async fn a_run_within_a_run_is_refused(db: Database) {
    let owner = managed(&db, 4).await;
    db.admin("GRANT EXECUTE ON PROCEDURE bulkhead.maintain() TO owner").unwrap();
    owner
        .run(
            "CREATE FUNCTION again(partition regclass) RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM bulkhead.maintenance_step(); END';
             SELECT bulkhead.manage_partitions('events', '1 day', '3 days', on_expire => 'again(regclass)'::regprocedure)",
        )
        .await;
    maintain(&db).await;
    assert_eq!(
        complaints(&db).await,
        ["archive: maintain() was called from within itself (A step of it is running in this session.)"]
    );
    assert_eq!(leaves(&owner).await[0], "events_4");
}
