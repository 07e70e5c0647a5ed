//! New partitions: when and which.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{complaints, days, events, leaves, leaves_of, log, maintain, managed};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        the_present_and_three_ahead,
        nothing_more_the_second_time,
        existing_partitions_are_adopted,
        an_outage_and_its_holes,
        a_clock_that_went_back_gets_its_partition,
        every_kind_of_control_column,
        months_and_hours,
        the_callers_time_zone_changes_nothing,
        daylight_saving_makes_no_gap,
        the_default_isolation_changes_nothing,
        an_empty_orphan_is_adopted,
        an_orphan_with_rows_is_left_alone,
        one_table_that_fails_stops_no_other,
        partitions_at_once_leave_the_holes_to_maintenance,
        partitions_at_once_for_many_callers,
        partitions_at_once_in_the_transaction_that_made_the_table,
    ]
}

async fn the_present_and_three_ahead(db: Database) {
    let owner = managed(&db, 0).await;
    maintain(&db).await;
    assert_eq!(leaves(&owner).await, days(&owner, "events", 0, 3).await, "{:?}", complaints(&db).await);
    owner.run("INSERT INTO events VALUES (1, NULL, now(), 'x')").await;
    let logged = log(&db).await;
    assert_eq!(logged.len(), 4);
    assert_eq!(logged[0][2..], ["create", "t"]);
    let shown = owner
        .rows(
            "SELECT parent, control_column, every, retain, premake, partitions, held FROM bulkhead.managed_partitions
              WHERE retain IS NOT NULL",
        )
        .await;
    assert_eq!(shown, [["events", "at", "1 day", "3 days", "3", "4", "0"]]);
}

async fn nothing_more_the_second_time(db: Database) {
    let owner = managed(&db, 0).await;
    maintain(&db).await;
    let before = leaves(&owner).await;
    maintain(&db).await;
    assert_eq!(leaves(&owner).await, before);
    assert_eq!(log(&db).await.len(), 4);
    let held = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.objid OR d.oid = l.database
                 WHERE l.locktype = 'userlock' AND d.datname = current_database()";
    assert_eq!(owner.one(held).await, "0");
}

async fn existing_partitions_are_adopted(db: Database) {
    let owner = managed(&db, 2).await;
    maintain(&db).await;
    let mut expected = vec!["events_2".to_owned(), "events_1".to_owned()];
    expected.extend(days(&owner, "events", 0, 3).await);
    assert_eq!(leaves(&owner).await, expected);
}

async fn an_outage_and_its_holes(db: Database) {
    let owner = managed(&db, 8).await;
    // From the eighth day back on nothing was made, and one in the middle by hand.
    owner.run("DROP TABLE events_7, events_6, events_5, events_4, events_3, events_1").await;
    owner.run("SELECT bulkhead.manage_partitions('events', '1 day', '100 days')").await;
    maintain(&db).await;
    let mut expected = vec!["events_8".to_owned()];
    expected.extend(days(&owner, "events", -7, -3).await);
    expected.push("events_2".to_owned());
    expected.extend(days(&owner, "events", -1, 3).await);
    assert_eq!(leaves(&owner).await, expected, "{:?}", complaints(&db).await);
    // The present came first.
    assert_eq!(log(&db).await[0][1], format!("public.{}", days(&owner, "events", 0, 0).await[0]));
}

async fn a_clock_that_went_back_gets_its_partition(db: Database) {
    let owner = events(&db).await;
    owner
        .run(
            "DO $$ DECLARE far timestamptz := date_trunc('day', now(), 'UTC') + interval '240 hours'; BEGIN
               EXECUTE format('CREATE TABLE far PARTITION OF events FOR VALUES FROM (%L) TO (%L)', far, far + interval '24 hours');
             END $$;
             SELECT bulkhead.manage_partitions('events', '1 day', '3 days', 2)",
        )
        .await;
    db.admin("UPDATE bulkhead.managed_partition SET last_run = now() + interval '10 days'").unwrap();
    maintain(&db).await;
    let mut expected = days(&owner, "events", 0, 2).await;
    expected.push("far".to_owned());
    assert_eq!(leaves(&owner).await, expected);
}

async fn every_kind_of_control_column(db: Database) {
    let owner = db.connect("owner").await;
    for (table, kind, value) in [
        ("t_tz", "timestamptz", "now()"),
        ("t_ts", "timestamp", "now() AT TIME ZONE 'UTC'"),
        ("t_date", "date", "(now() AT TIME ZONE 'UTC')::date"),
        (
            "t_uuid",
            "uuid",
            "(lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') || '70008000000000000001')::uuid",
        ),
    ] {
        owner
            .run(&format!(
                "CREATE TABLE {table} (at {kind}) PARTITION BY RANGE (at);
                 SELECT bulkhead.manage_partitions('{table}', '1 day', '3 days', 1)"
            ))
            .await;
        maintain(&db).await;
        assert_eq!(leaves_of(&owner, table).await, days(&owner, table, 0, 1).await, "{:?}", complaints(&db).await);
        owner.run(&format!("INSERT INTO {table} VALUES ({value})")).await;
        let here = owner.one(&format!("SELECT tableoid::regclass FROM {table}")).await;
        assert_eq!(here, days(&owner, table, 0, 0).await[0]);
    }
}

async fn months_and_hours(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE monthly (at timestamptz) PARTITION BY RANGE (at); SELECT bulkhead.manage_partitions('monthly', '1 month', '1 year', 2);
             CREATE TABLE hourly (at timestamp) PARTITION BY RANGE (at); SELECT bulkhead.manage_partitions('hourly', '6 hours', '1 day', 2)",
        )
        .await;
    maintain(&db).await;
    let months = "SELECT 'monthly_p' || to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + i * interval '1 month', 'YYYYMM') FROM generate_series(0, 2) i";
    assert_eq!(leaves_of(&owner, "monthly").await, owner.column(months).await);
    let bounds = owner
        .column("SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname LIKE 'hourly\\_p%' ORDER BY 1")
        .await;
    assert_eq!(bounds.len(), 3);
    assert!(bounds.iter().all(|bound| bound.contains(":00:00') TO (")), "{bounds:?}");
    owner
        .run("INSERT INTO hourly SELECT now() AT TIME ZONE 'UTC' + i * interval '6 hours' FROM generate_series(0, 2) i")
        .await;
}

async fn the_callers_time_zone_changes_nothing(db: Database) {
    let owner = managed(&db, 6).await;
    let strange = db.connect("postgres").await;
    strange
        .run("SET TimeZone = 'Pacific/Kiritimati'; SET DateStyle = 'German, DMY'; SET IntervalStyle = 'sql_standard'")
        .await;
    strange.run("SET search_path = ''; SET lock_timeout = '7s'").await;
    strange.run("CALL bulkhead.maintain()").await;
    let mut expected: Vec<String> = ["events_3", "events_2", "events_1"].map(str::to_owned).to_vec();
    expected.extend(days(&owner, "events", 0, 3).await);
    assert_eq!(leaves(&owner).await, expected);
    owner.run("SET TimeZone = 'UTC'").await;
    let odd =
        "SELECT count(*) FROM pg_class WHERE relname LIKE 'events\\_p%' AND pg_get_expr(relpartbound, oid) NOT LIKE
               '%00:00:00+00'') TO (''%00:00:00+00'')' AND relkind = 'r'";
    assert_eq!(owner.one(odd).await, "0");
    assert_eq!(strange.one("SHOW TimeZone").await, "Pacific/Kiritimati");
    assert_eq!(strange.one("SHOW lock_timeout").await, "7s");
    owner.run("SET TimeZone = 'America/New_York'; SET DateStyle = 'SQL, DMY'").await;
    owner.run("SELECT bulkhead.manage_partitions('events', '1 day', '3 days')").await;
    maintain(&db).await;
    assert_eq!(leaves(&owner).await.len(), 7);
}

/// Eight months have a change of the clocks in them, whenever the test runs.
async fn daylight_saving_makes_no_gap(db: Database) {
    let owner = managed(&db, 0).await;
    owner
        .run("SET TimeZone = 'America/New_York'; SELECT bulkhead.manage_partitions('events', '1 day', '3 days', 245)")
        .await;
    let strange = db.connect("postgres").await;
    strange.run("SET TimeZone = 'America/New_York'").await;
    strange.run("CALL bulkhead.maintain()").await;
    let bounds = "SELECT count(*), count(DISTINCT lower), bool_and(upper = lower + interval '24 hours'), max(upper) - min(lower) = 246 * interval '24 hours'
                    FROM (SELECT split_part(b, '''', 2)::timestamptz AS lower, split_part(b, '''', 4)::timestamptz AS upper
                            FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid, pg_get_expr(relpartbound, c.oid) b
                           WHERE inhparent = 'events'::regclass) bounds";
    owner.run("SET TimeZone = 'UTC'").await;
    assert_eq!(owner.rows(bounds).await, [["246", "246", "t", "t"]]);
    owner
        .run(
            "INSERT INTO events SELECT i, NULL, now() + i * interval '1 hour', 'x' FROM generate_series(0, 245 * 24) i",
        )
        .await;
}

async fn the_default_isolation_changes_nothing(db: Database) {
    let owner = managed(&db, 5).await;
    owner.run("SELECT bulkhead.protect('events')").await;
    let strict = db.connect("postgres").await;
    strict.run("SET default_transaction_isolation = 'serializable'").await;
    strict.run("CALL bulkhead.maintain()").await;
    assert_eq!(leaves(&owner).await.len(), 7, "{:?}", complaints(&db).await);
    assert_eq!(complaints(&db).await, [""; 0]);
}

async fn an_empty_orphan_is_adopted(db: Database) {
    let owner = managed(&db, 0).await;
    let name = days(&owner, "events", 1, 1).await.remove(0);
    owner
        .run(&format!("CREATE TABLE {name} (note text, id bigint NOT NULL, tenant_id uuid, at timestamptz NOT NULL)"))
        .await;
    maintain(&db).await;
    assert_eq!(leaves(&owner).await, days(&owner, "events", 0, 3).await, "{:?}", complaints(&db).await);
    assert!(log(&db).await.iter().any(|row| row[1] == format!("public.{name}") && row[2] == "adopt"));
}

async fn an_orphan_with_rows_is_left_alone(db: Database) {
    let owner = managed(&db, 0).await;
    let name = days(&owner, "events", 1, 1).await.remove(0);
    owner.run(&format!("CREATE TABLE {name} (LIKE events); INSERT INTO {name} VALUES (1, NULL, now(), 'mine')")).await;
    maintain(&db).await;
    let mut expected = days(&owner, "events", 0, 3).await;
    expected[1].push_str("_2");
    assert_eq!(leaves(&owner).await, expected, "{:?}", complaints(&db).await);
    assert_eq!(owner.one(&format!("SELECT note FROM {name}")).await, "mine");
    assert_eq!(complaints(&db).await.len(), 1);
    maintain(&db).await;
    assert_eq!(complaints(&db).await.len(), 1, "it is said once");
}

async fn one_table_that_fails_stops_no_other(db: Database) {
    let owner = managed(&db, 5).await;
    owner
        .run(
            "CREATE SCHEMA alone; CREATE TABLE alone.broken (at timestamptz) PARTITION BY RANGE (at);
             SELECT bulkhead.manage_partitions('alone.broken', '1 day', '3 days')",
        )
        .await;
    db.admin("ALTER SCHEMA alone OWNER TO postgres; UPDATE bulkhead.managed_partition SET parent = parent").unwrap();
    maintain(&db).await;
    assert_eq!(leaves(&owner).await.len(), 7);
    let said = complaints(&db).await;
    assert_eq!(said, ["create: permission denied for schema alone"]);
}

async fn partitions_at_once_for_many_callers(db: Database) {
    managed(&db, 0).await;
    let mut callers = Vec::new();
    for _ in 0..12 {
        let owner = db.connect("owner").await;
        callers.push(tokio::spawn(async move {
            owner.run("BEGIN; SELECT bulkhead.ensure_partitions('events'); INSERT INTO events VALUES (1, NULL, now(), 'x'); COMMIT").await;
        }));
    }
    for caller in callers {
        caller.await.unwrap();
    }
    let owner = db.connect("owner").await;
    assert_eq!(leaves(&owner).await, days(&owner, "events", 0, 3).await);
    assert_eq!(owner.one("SELECT count(*) FROM events").await, "12");
    db.connect("app").await.refused("SELECT bulkhead.ensure_partitions('events')").await.state("42501");
    // They are in a transaction of their own.
    owner.run("DROP TABLE events; CREATE TABLE events (at timestamptz) PARTITION BY RANGE (at); SELECT bulkhead.manage_partitions('events', '1 day', '3 days')").await;
    owner
        .run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; SELECT bulkhead.ensure_partitions('events'); ROLLBACK")
        .await;
    assert_eq!(leaves(&owner).await.len(), 4);
}

/// After an outage there may be thousands of holes: nobody waits for those, and what is needed now does not depend on them.
async fn partitions_at_once_leave_the_holes_to_maintenance(db: Database) {
    let owner = events(&db).await;
    owner
        .run(
            "DO $$ BEGIN EXECUTE format('CREATE TABLE events_old PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
               date_trunc('day', now(), 'UTC') - interval '30 days', date_trunc('day', now(), 'UTC') - interval '29 days'); END $$;
             SELECT bulkhead.manage_partitions('events', '10 minutes', '60 days', 100); SET statement_timeout = '60s'",
        )
        .await;
    owner.run("SELECT bulkhead.ensure_partitions('events'); INSERT INTO events VALUES (1, NULL, now(), 'x')").await;
    let made = "SELECT format('%s %s', count(*), count(*) FILTER (WHERE c.relname < 'events_p' || to_char(now() AT TIME ZONE 'UTC' - interval '20 minutes', 'YYYYMMDD_HH24MI')))
                  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'events'::regclass AND c.relname <> 'events_old'";
    assert_eq!(owner.one(made).await, "32 0");
}

async fn partitions_at_once_in_the_transaction_that_made_the_table(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "BEGIN; CREATE TABLE young (at timestamptz) PARTITION BY RANGE (at); SELECT bulkhead.manage_partitions('young', '1 day', '3 days');
             SELECT bulkhead.ensure_partitions('young'); INSERT INTO young VALUES (now()); COMMIT",
        )
        .await;
    assert_eq!(leaves_of(&owner, "young").await, days(&owner, "young", 0, 3).await);
}
