//! What a table's owner, a clock and other sessions may do to maintenance: it lends nobody rights, and takes nothing that is not its own.

use std::time::Duration;

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{complaints, leaves, maintain, managed};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        settings_of_the_owners_code_do_not_outlive_it,
        a_constraint_is_no_way_to_other_rights,
        a_view_in_a_schema_called_cron_is_not_read,
        an_archive_function_never_runs_as_another_role,
        a_table_that_took_over_a_name_is_left_alone,
        a_hold_counts_whatever_the_snapshot,
        an_error_like_a_cancel_stops_no_other_table,
        no_limit_of_waiting_is_left_behind,
        what_is_kept_longer_is_archived_again,
        a_small_leap_of_the_clock_drops_nothing_young,
    ]
}

/// An operator that the log's own statement would meet, were it to look into this schema first; and what sets the path to it.
const EVIL: &str = "CREATE SCHEMA evil; CREATE TABLE evil.met (who name);
    CREATE FUNCTION evil.note(a float8, b integer) RETURNS float8 LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO evil.met VALUES (current_user); RETURN 1; END $$;
    CREATE OPERATOR evil./ (leftarg = float8, rightarg = integer, function = evil.note);
    CREATE FUNCTION evil.same(a regclass, b oid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO evil.met VALUES (current_user); RETURN a::oid OPERATOR(pg_catalog.=) b; END $$;
    CREATE OPERATOR evil.= (leftarg = regclass, rightarg = oid, function = evil.same);
    CREATE FUNCTION evil.lead(n integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
      PERFORM pg_catalog.set_config('search_path', 'evil, pg_catalog', false); RETURN n; END $$;";

async fn evil(db: &Database) -> Client {
    db.admin(&format!("GRANT CREATE ON DATABASE {} TO owner", db.name)).unwrap();
    let owner = managed(db, 5).await;
    owner.run(EVIL).await;
    owner
}

async fn settings_of_the_owners_code_do_not_outlive_it(db: Database) {
    let owner = evil(&db).await;
    // By EXECUTE: PL/pgSQL's own short way for an expression asserts that a function marked IMMUTABLE leaves the path alone.
    owner
        .run(
            "CREATE FUNCTION evil.trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT evil.lead(1)'; RETURN NULL; END $$;
             CREATE TRIGGER trap AFTER TRUNCATE ON events_5 EXECUTE FUNCTION evil.trap();
             CREATE FUNCTION evil.keep(partition regclass) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
               EXECUTE 'SELECT evil.lead(1)'; PERFORM pg_catalog.set_config('lock_timeout', '7s', false); END $$;
             SELECT bulkhead.manage_partitions('events', '1 day', '3 days', on_expire => 'evil.keep(regclass)'::regprocedure)",
        )
        .await;
    let postgres = db.connect("postgres").await;
    postgres.run("CALL bulkhead.maintain()").await;
    assert_eq!(leaves(&owner).await[0], "events_3", "{:?}", complaints(&db).await);
    assert_eq!(postgres.one("SHOW search_path").await, "\"$user\", public");
    assert_eq!(postgres.one("SHOW lock_timeout").await, "0");
    assert_eq!(owner.column("SELECT DISTINCT who FROM evil.met").await, [""; 0]);
}

async fn a_constraint_is_no_way_to_other_rights(db: Database) {
    // The function is run when a partition is attached, because its argument is a constant.
    let owner = evil(&db).await;
    owner.run("DROP TABLE events_1, events_2, events_3, events_4, events_5; ALTER TABLE events ADD CHECK (id > evil.lead(-1))").await;
    owner.run("SELECT bulkhead.ensure_partitions('events')").await;
    owner
        .run(
            "BEGIN; CREATE TABLE mine (id bigint CHECK (id > evil.lead(-1)), at date NOT NULL) PARTITION BY RANGE (at);
             SELECT bulkhead.manage_partitions('mine', '1 day', '3 days'); SELECT bulkhead.ensure_partitions('mine'); COMMIT",
        )
        .await;
    owner.run("RESET search_path").await;
    db.connect("postgres").await.run("CALL bulkhead.maintain()").await;
    assert_eq!(owner.column("SELECT DISTINCT who FROM evil.met").await, [""; 0]);
}

async fn a_view_in_a_schema_called_cron_is_not_read(db: Database) {
    db.admin(&format!("GRANT CREATE ON DATABASE {} TO owner; GRANT pg_monitor TO svc", db.name)).unwrap();
    let owner = managed(&db, 1).await;
    owner
        .run(
            "CREATE SCHEMA cron; CREATE TABLE cron.met (who name);
             CREATE FUNCTION cron.f() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN INSERT INTO cron.met VALUES (current_user); RETURN now(); END $$;
             CREATE VIEW cron.job_run_details AS
               SELECT cron.f() AS end_time, 'succeeded' AS status, 'CALL bulkhead.maintain()'::text AS command, current_database() AS database;
             GRANT USAGE ON SCHEMA cron TO PUBLIC; GRANT SELECT ON cron.job_run_details TO PUBLIC",
        )
        .await;
    let checks =
        db.connect("svc").await.rows("SELECT ok, value FROM bulkhead.health() WHERE check_name = 'cron_success'").await;
    assert_eq!(checks, [["f", "never"]]);
    assert_eq!(owner.column("SELECT who FROM cron.met").await, [""; 0]);
    db.admin("REVOKE pg_monitor FROM svc").unwrap();
}

async fn an_archive_function_never_runs_as_another_role(db: Database) {
    let owner = managed(&db, 5).await;
    owner
        .run(
            "CREATE TABLE said (who name); CREATE FUNCTION says(partition regclass) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
               INSERT INTO public.said VALUES (current_user); END $$;
             SELECT bulkhead.manage_partitions('events', '1 day', '3 days', on_expire => 'says(regclass)'::regprocedure)",
        )
        .await;
    db.admin("ALTER TABLE events_5 OWNER TO postgres").unwrap();
    maintain(&db).await;
    assert_eq!(
        complaints(&db).await,
        [
            "archive: partition public.events_5 belongs to another role than public.events (The on_expire function runs as the owner of the table.)"
        ]
    );
    assert_eq!(owner.column("SELECT who FROM said").await, ["owner"], "for events_4");
    assert_eq!(leaves(&owner).await[..2], ["events_5", "events_3"]);
}

async fn a_table_that_took_over_a_name_is_left_alone(db: Database) {
    let owner = managed(&db, 5).await;
    let mover = db.connect("owner").await;
    mover.run("BEGIN; LOCK TABLE events_5 IN SHARE UPDATE EXCLUSIVE MODE").await;
    let run = tokio::spawn({
        let postgres = db.connect("postgres").await;
        async move { postgres.run("CALL bulkhead.maintain()").await }
    });
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'events_5'::regclass";
    while owner.one(waits).await == "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    mover
        .run("ALTER TABLE events_5 RENAME TO old; CREATE TABLE events_5 (what text); INSERT INTO events_5 VALUES ('kept'); COMMIT")
        .await;
    run.await.unwrap();
    assert_eq!(leaves(&owner).await[0], "events_3", "{:?}", complaints(&db).await);
    assert_eq!(owner.column("SELECT what FROM events_5").await, ["kept"]);
}

async fn a_hold_counts_whatever_the_snapshot(db: Database) {
    let owner = managed(&db, 5).await;
    let late = db.connect("owner").await;
    late.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM bulkhead.managed_partitions").await;
    let runner = db.connect("postgres").await;
    runner.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class").await;
    owner.run("SELECT bulkhead.hold_partition('events_5', 'case 2026-17')").await;
    late.refused("DROP TABLE events_5").await.state("55000").message("this would drop a partition that is held");
    runner
        .refused("SELECT bulkhead.maintenance_step()")
        .await
        .state("55000")
        .message("bulkhead.maintain() needs to see what others commit, and this transaction does not");
    assert_eq!(owner.one("SELECT count(*) FROM events_5").await, "2");
}

async fn an_error_like_a_cancel_stops_no_other_table(db: Database) {
    let owner = managed(&db, 4).await;
    owner
        .run(
            "CREATE TABLE others (LIKE events) PARTITION BY RANGE (at);
             CREATE TABLE others_1 PARTITION OF others FOR VALUES FROM ('2001-01-01') TO ('2001-01-02');
             SELECT bulkhead.manage_partitions('others', '1 day', '3 days');
             CREATE FUNCTION fails(partition regclass) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE query_canceled; END $$;
             SELECT bulkhead.manage_partitions('events', '1 day', '3 days', on_expire => 'fails(regclass)'::regprocedure)",
        )
        .await;
    for code in ["57014", "57P01"] {
        owner
            .run(&format!(
                "CREATE OR REPLACE FUNCTION fails(partition regclass) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE '{code}'; END $$"
            ))
            .await;
        maintain(&db).await;
    }
    assert_eq!(complaints(&db).await.len(), 2);
    assert_eq!(owner.one("SELECT to_regclass('others_1') IS NULL").await, "t");
    // A real one ends the run.
    owner
        .run("CREATE OR REPLACE FUNCTION fails(partition regclass) RETURNS void LANGUAGE sql AS 'SELECT pg_catalog.pg_sleep(60)'")
        .await;
    let runner = db.connect("postgres").await;
    runner.run("SET statement_timeout = '1s'").await;
    runner.refused("CALL bulkhead.maintain()").await.state("57014");
    assert_eq!(complaints(&db).await.len(), 2);
}

async fn no_limit_of_waiting_is_left_behind(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "SET lock_timeout = '9s'; BEGIN; CREATE TABLE fresh (at date NOT NULL) PARTITION BY RANGE (at);
             SELECT bulkhead.manage_partitions('fresh', '1 day', '3 days'); SELECT bulkhead.ensure_partitions('fresh')",
        )
        .await;
    assert_eq!(owner.one("SHOW lock_timeout").await, "9s", "the partitions are this transaction's own");
    owner.run("INSERT INTO fresh VALUES ((now() AT TIME ZONE 'UTC')::date); COMMIT").await;
}

async fn what_is_kept_longer_is_archived_again(db: Database) {
    let owner = managed(&db, 5).await;
    owner
        .run(
            "CREATE TABLE calls (partition text); CREATE FUNCTION counts(partition regclass) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
               INSERT INTO public.calls VALUES (partition::text); END $$; CREATE VIEW fifth AS SELECT * FROM events_5;
             SELECT bulkhead.manage_partitions('events', '1 day', '3 days', on_expire => 'counts(regclass)'::regprocedure)",
        )
        .await;
    maintain(&db).await;
    let fifth = "SELECT count(*) FROM calls WHERE partition = 'public.events_5'";
    assert_eq!(owner.one(fifth).await, "1");
    for retain in ["90 days", "3 days"] {
        owner
            .run(&format!(
                "SELECT bulkhead.manage_partitions('events', '1 day', '{retain}', on_expire => 'counts(regclass)'::regprocedure)"
            ))
            .await;
        maintain(&db).await;
        maintain(&db).await;
    }
    assert_eq!(owner.one(fifth).await, "2", "{:?}", complaints(&db).await);
}

async fn a_small_leap_of_the_clock_drops_nothing_young(db: Database) {
    let owner = managed(&db, 6).await;
    // Two days ahead, and rows are kept for three: what is a day old would go.
    db.admin("UPDATE bulkhead.managed_partition SET last_run = now() - interval '2 days'").unwrap();
    owner.run("TRUNCATE events_1, events_2, events_3").await;
    maintain(&db).await;
    assert_eq!(leaves(&owner).await[0], "events_6");
    let said = complaints(&db).await;
    assert!(said[0].starts_with("clock: the clock went far ahead since the last run"), "{said:?}");
}
