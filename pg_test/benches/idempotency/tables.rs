//! The table of keys, and the tables that would be there without it.

use anyhow::{Result, ensure};
use pg_test::Database;
use pg_test::bench::Options;

use crate::keys::Kind;

/// A window, and the keys that go with it.
pub struct Shape {
    pub kind: Kind,
    /// What it is called in the report.
    pub name: &'static str,
    window: &'static str,
    /// So many days before today have a partition.
    past: u32,
}

impl Shape {
    pub const DAY: Shape = Shape { kind: Kind::Random, name: "random keys, a window of a day", window: "1d", past: 2 };
    pub const MONTH: Shape =
        Shape { kind: Kind::Dated, name: "UUIDv7 keys, 32 partitions in the window", window: "31d", past: 31 };
}

/// Columns that both rivals have.
pub const COLUMNS: &str = "
  tenant uuid NOT NULL, key text NOT NULL, fingerprint text, state \"char\" NOT NULL, attempt integer NOT NULL, lease_until timestamptz NOT NULL,
  status integer, response jsonb, claimed_at timestamptz NOT NULL, finished_at timestamptz";

/// A rival's row of each of ours.
pub const COPIED: &str = "
  SELECT tenant::uuid, key, fingerprint, stage, attempt, lease_until, status, response, claimed_at, finished_at FROM bulkhead.idempotency_key";

pub const ROLES: &str = "
DO $$ BEGIN
  IF to_regrole('plain') IS NULL THEN
    CREATE ROLE plain LOGIN IN ROLE app;
    ALTER ROLE app SET session_preload_libraries = 'bulkhead';
  END IF;
END $$;";

/// `bulkhead.idempotency_key`, and `by_hand` and `naive` for the rivals, with some finished keys of every day.
pub fn make(database: &Database, shape: &Shape, options: &Options) -> Result<()> {
    database.admin(ROLES)?;
    let Shape { window, past, .. } = shape;
    let rows = options.pick(20_000, 500);
    database.admin(&format!(
        "ALTER DATABASE {} SET bulkhead.idempotency_window = '{window}';
         ALTER DATABASE {} SET bulkhead.idempotency_retention = '{}d'",
        database.name,
        database.name,
        past + 1
    ))?;
    for day in (0..=*past).rev() {
        let source = format!("generate_series({day}::bigint * {rows} + 1, ({day}::bigint + 1) * {rows}) AS n");
        let start = "date_trunc('day', now(), 'UTC')";
        make_day(database, day, &source, &format!("{start} - interval '{day} days' + (now() - {start}) / 2"))?;
    }
    database.admin(&format!(
        "SET ROLE owner;
         CREATE TABLE by_hand ({COLUMNS}, PRIMARY KEY (tenant, key)) WITH (fillfactor = 70);
         CREATE TABLE naive ({COLUMNS}, day date NOT NULL, PRIMARY KEY (tenant, key, day)) PARTITION BY RANGE (day);
         DO $$ DECLARE day date; BEGIN
           FOR n IN -{past}..3 LOOP
             day := (now() AT TIME ZONE 'UTC')::date + n;
             EXECUTE format('CREATE TABLE naive_%s PARTITION OF naive FOR VALUES FROM (%L) TO (%L) WITH (fillfactor = 70)', n + {past}, day, day + 1);
           END LOOP; END $$;
         RESET ROLE;
         INSERT INTO by_hand {COPIED};
         INSERT INTO naive SELECT *, (claimed_at AT TIME ZONE 'UTC')::date FROM by_hand;
         CALL bulkhead.maintain();
         VACUUM (FREEZE, ANALYZE);
         CHECKPOINT;"
    ))?;
    let partitions: u32 = database
        .admin("SELECT count(*) FROM pg_inherits WHERE inhparent = 'bulkhead.idempotency_key'::regclass")?
        .trim()
        .parse()?;
    let in_force = database.admin("LOAD 'bulkhead'; SHOW bulkhead.idempotency_window")?;
    ensure!(in_force.trim() == *window, "the window is {in_force}");
    ensure!(partitions == past + 4, "{partitions} partitions, those of {past} days, of today and three ahead");
    Ok(())
}

/// The partition of so many days ago with finished keys: one for each `n` of `source`, claimed `at`. The key is built last, as a load is fastest.
pub fn make_day(database: &Database, day: u32, source: &str, at: &str) -> Result<()> {
    let leaf = format!("bulkhead.idempotency_key_{day}_ago");
    database
        .admin(&format!(
            "CREATE TABLE {leaf} (LIKE bulkhead.idempotency_key) WITH (fillfactor = 70);
             INSERT INTO {leaf} {};
             ALTER TABLE {leaf} ADD PRIMARY KEY (digest);
             DO $$ DECLARE day date := (now() AT TIME ZONE 'UTC')::date - {day}; BEGIN
               EXECUTE format('ALTER TABLE bulkhead.idempotency_key ATTACH PARTITION {leaf} FOR VALUES FROM (%L) TO (%L)',
                              day || ' 00:00:00+00', day + 1 || ' 00:00:00+00');
             END $$;
             ANALYZE {leaf};",
            finished(source, at)
        ))
        .map(drop)
}

/// Rows of finished keys, as the functions would have left them. The keys are random UUIDs, not of version 7.
fn finished(source: &str, at: &str) -> String {
    format!(
        "SELECT encode(substr(sha256(int8send(length(tenant)) || convert_to(tenant || key, 'UTF8')), 1, 16), 'hex')::uuid,
                at, at + interval '1 minute', (extract(epoch FROM at) * 1000000)::bigint, 1, 'f', 201, tenant, key,
                encode(sha256(convert_to(key, 'UTF8')), 'hex'), '{RESPONSE}'::jsonb, at
           FROM (SELECT '6f9619ff-8b86-4d01-b42d-' || lpad(to_hex(n % 1000), 12, '0') AS tenant,
                        overlay(md5(n::text) PLACING '4' FROM 13)::uuid::text AS key, {at} AS at FROM {source}) AS rows"
    )
}

/// What is stored with a finished key.
pub const RESPONSE: &str = r#"{"order": 4711, "state": "accepted", "total": {"amount": 12900, "currency": "EUR"}, "at": "2026-01-05T10:00:00Z"}"#;

pub fn tenant(number: usize) -> String {
    format!("6f9619ff-8b86-4d01-b42d-{:012x}", (number + 1) % 1000)
}
