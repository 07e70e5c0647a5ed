//! What is past retention goes: emptied, then dropped, and only that.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{complaints, days, leaves, log, maintain, managed};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        what_is_past_retention_is_dropped,
        a_protected_table_expires_too,
        a_held_partition_stays,
        a_clock_that_leapt_is_not_trusted,
        a_leap_that_the_data_confirms_is,
        what_refers_to_a_partition_keeps_it,
        a_view_on_a_partition_keeps_it,
        a_published_partition_goes,
        outgoing_foreign_keys_do_not_keep_it,
        an_interrupted_detach_is_ended,
        a_partition_in_use_is_put_off,
        a_reader_of_everything_does_not_hold_the_run_up_for_long,
    ]
}

async fn what_is_past_retention_is_dropped(db: Database) {
    let owner = managed(&db, 6).await;
    maintain(&db).await;
    let mut expected: Vec<String> = ["events_3", "events_2", "events_1"].map(str::to_owned).to_vec();
    expected.extend(days(&owner, "events", 0, 3).await);
    assert_eq!(leaves(&owner).await, expected, "{:?}", complaints(&db).await);
    let dropped: Vec<Vec<String>> = log(&db).await.into_iter().filter(|row| row[2] != "create").collect();
    let actions: Vec<_> = dropped.iter().map(|row| (row[1].as_str(), row[2].as_str(), row[3].as_str())).collect();
    assert_eq!(
        actions,
        [
            ("public.events_6", "empty", "t"),
            ("public.events_6", "drop", "t"),
            ("public.events_5", "empty", "t"),
            ("public.events_5", "drop", "t"),
            ("public.events_4", "empty", "t"),
            ("public.events_4", "drop", "t"),
        ]
    );
    assert_eq!(
        owner.one("SELECT count(*) FROM pg_class WHERE relname IN ('events_4', 'events_5', 'events_6')").await,
        "0"
    );
}

async fn a_protected_table_expires_too(db: Database) {
    let owner = managed(&db, 5).await;
    owner.run("SELECT bulkhead.protect('events')").await;
    maintain(&db).await;
    assert_eq!(leaves(&owner).await.len(), 7, "{:?}", complaints(&db).await);
    assert_eq!(complaints(&db).await, [""; 0]);
    // Nobody else got a way round the seal by it.
    owner.refused("TRUNCATE events_3").await.state("55000");
    owner.refused("SELECT * FROM events_3").await.state("42501");
    assert_eq!(db.admin("SELECT count(*) FROM bulkhead.protection").unwrap(), "8");
}

async fn a_held_partition_stays(db: Database) {
    let owner = managed(&db, 6).await;
    owner.run("SELECT bulkhead.hold_partition('events_5', 'case 2026-17')").await;
    maintain(&db).await;
    assert_eq!(leaves(&owner).await[0], "events_5");
    assert_eq!(owner.one("SELECT count(*) FROM events_5").await, "2");
    assert_eq!(owner.one("SELECT held FROM bulkhead.managed_partitions WHERE parent = 'events'::regclass").await, "1");
    for drop in ["DROP TABLE events_5", "DROP TABLE events", "DROP TABLE events_5, events_3"] {
        let refused = owner.refused(drop).await;
        refused.state("55000").message("this would drop a partition that is held").detail_contains("case 2026-17");
    }
    owner.run("SELECT bulkhead.release_hold('events_5')").await;
    maintain(&db).await;
    assert_eq!(leaves(&owner).await[0], "events_3");
}

const LONG_AGO: &str = "UPDATE bulkhead.managed_partition SET last_run = now() - interval '100 days'";

async fn a_clock_that_leapt_is_not_trusted(db: Database) {
    let owner = managed(&db, 6).await;
    db.admin(LONG_AGO).unwrap();
    // Nothing was written lately.
    owner.run("TRUNCATE events_1, events_2, events_3").await;
    maintain(&db).await;
    let first = leaves(&owner).await;
    assert_eq!(first[0], "events_6");
    assert!(first.ends_with(&days(&owner, "events", 0, 3).await), "what is ahead is made all the same");
    let said = complaints(&db).await;
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].starts_with("clock: the clock went far ahead since the last run"), "{said:?}");
    maintain(&db).await;
    assert_eq!(leaves(&owner).await[0], "events_6", "another run right after it does not help");
    db.admin("UPDATE bulkhead.managed_partition SET suspect_since = now() - interval '25 hours'").unwrap();
    maintain(&db).await;
    assert_eq!(leaves(&owner).await[0], "events_3", "the clock has gone on for a day");
}

async fn a_leap_that_the_data_confirms_is(db: Database) {
    let owner = managed(&db, 9).await;
    db.admin(LONG_AGO).unwrap();
    maintain(&db).await;
    // Yesterday's rows say that what ended three days before yesterday is over.
    assert_eq!(leaves(&owner).await[0], "events_4", "{:?}", complaints(&db).await);
}

async fn what_refers_to_a_partition_keeps_it(db: Database) {
    let owner = managed(&db, 6).await;
    owner
        .run(
            "ALTER TABLE events ADD UNIQUE (id, at); CREATE TABLE notes (id bigint, at timestamptz, FOREIGN KEY (id, at) REFERENCES events (id, at));
             INSERT INTO notes SELECT id, at FROM events_5 LIMIT 1",
        )
        .await;
    maintain(&db).await;
    assert_eq!(leaves(&owner).await[..2], ["events_5", "events_3"], "{:?}", complaints(&db).await);
    let said = complaints(&db).await;
    assert!(said[0].contains("drop: removing partition \"events_5\" violates foreign key constraint"), "{said:?}");
    assert_eq!(owner.one("SELECT count(*) FROM events_5").await, "2");
    owner.run("DELETE FROM notes").await;
    maintain(&db).await;
    assert_eq!(leaves(&owner).await[0], "events_3");
}

async fn a_view_on_a_partition_keeps_it(db: Database) {
    let owner = managed(&db, 6).await;
    owner.run("CREATE VIEW fifth AS SELECT * FROM events_5").await;
    maintain(&db).await;
    assert_eq!(leaves(&owner).await[..2], ["events_5", "events_3"]);
    let said = complaints(&db).await;
    assert!(
        said[0].contains(
            "drop: cannot drop table public.events_5 because other objects depend on it (view public.fifth depends on table public.events_5"
        ),
        "{said:?}"
    );
    let lag = db
        .connect("postgres")
        .await
        .one("SELECT detail FROM bulkhead.health() WHERE check_name = 'retention_lag'")
        .await;
    assert!(lag.starts_with("public.events_5: drop: cannot drop table"), "{lag}");
}

async fn a_published_partition_goes(db: Database) {
    let owner = managed(&db, 5).await;
    db.admin("CREATE PUBLICATION a_few FOR TABLE events_5, events_4; CREATE PUBLICATION every_one FOR TABLE events")
        .unwrap();
    maintain(&db).await;
    assert_eq!(leaves(&owner).await[0], "events_3", "{:?}", complaints(&db).await);
}

async fn outgoing_foreign_keys_do_not_keep_it(db: Database) {
    let owner = managed(&db, 5).await;
    owner
        .run("CREATE TABLE kinds (kind text PRIMARY KEY); INSERT INTO kinds VALUES ('old'); ALTER TABLE events ADD FOREIGN KEY (note) REFERENCES kinds")
        .await;
    maintain(&db).await;
    assert_eq!(leaves(&owner).await[0], "events_3", "{:?}", complaints(&db).await);
    assert_eq!(complaints(&db).await, [""; 0]);
}

async fn an_interrupted_detach_is_ended(db: Database) {
    let owner = managed(&db, 2).await;
    // A reader holds the detach up, and its cancellation leaves it half done.
    let reader = db.connect("postgres").await;
    reader.run("BEGIN; SELECT count(*) FROM events").await;
    owner.run("SET lock_timeout = '300ms'").await;
    owner.refused("ALTER TABLE events DETACH PARTITION events_1 CONCURRENTLY").await.state("55P03");
    let pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending";
    assert_eq!(owner.one(pending).await, "1");
    let health = "SELECT ok, value FROM bulkhead.health() WHERE check_name = 'pending_detach'";
    let postgres = db.connect("postgres").await;
    assert_eq!(postgres.rows(health).await, [["f", "1"]]);
    reader.run("COMMIT").await;
    maintain(&db).await;
    assert_eq!(complaints(&db).await, [""; 0]);
    assert_eq!(owner.one(pending).await, "0");
    assert_eq!(postgres.rows(health).await, [["t", "0"]]);
    assert_eq!(owner.one("SELECT count(*) FROM events_1").await, "2");
    assert_eq!(leaves(&owner).await[1], days(&owner, "events", -1, -1).await[0], "its hole is filled");
}

/// Readers of a partition are not disturbed, and nothing waits behind maintain().
async fn a_partition_in_use_is_put_off(db: Database) {
    let owner = managed(&db, 5).await;
    let reader = db.connect("owner").await;
    reader.run("BEGIN; SELECT count(*) FROM events").await;
    let started = std::time::Instant::now();
    maintain(&db).await;
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    let names = leaves(&owner).await;
    assert_eq!(names[0], "events_5");
    assert!(names.ends_with(&days(&owner, "events", 0, 3).await), "what is ahead is made all the same");
    let said = complaints(&db).await;
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(said[0], "empty: public.events_5 was in use all the time; put off to the next run");
    reader.run("COMMIT").await;
    maintain(&db).await;
    assert_eq!(leaves(&owner).await[0], "events_3");
    let waited = db
        .admin("SELECT lock_wait > '4 seconds' FROM bulkhead.maintenance_log WHERE NOT ok ORDER BY id LIMIT 1")
        .unwrap();
    assert_eq!(waited, "t");
}

async fn a_reader_of_everything_does_not_hold_the_run_up_for_long(db: Database) {
    let owner = db.connect("owner").await;
    for n in 0..6 {
        owner
            .run(&format!(
                "CREATE TABLE log_{n} (at timestamptz NOT NULL) PARTITION BY RANGE (at);
                 CREATE TABLE log_{n}_old PARTITION OF log_{n} FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-01-02 00:00+00');
                 INSERT INTO log_{n} VALUES ('2020-01-01 12:00+00');
                 SELECT bulkhead.manage_partitions('log_{n}', '1 day', '3 days')"
            ))
            .await;
    }
    // As pg_dump has it.
    let reader = db.connect("owner").await;
    reader.run("BEGIN").await;
    for n in 0..6 {
        reader.run(&format!("SELECT count(*) FROM log_{n}")).await;
    }
    maintain(&db).await;
    let waits = db
        .connect("postgres")
        .await
        .column("SELECT extract(epoch FROM lock_wait) > 1 FROM bulkhead.maintenance_log WHERE action = 'empty' AND NOT ok ORDER BY id")
        .await;
    assert_eq!(waits, ["t", "t", "t", "f", "f", "f"]);
}
