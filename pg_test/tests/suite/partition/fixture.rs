//! What these tests stand on: a partitioned table of events, partitions of the past, and the log.

use pg_test::{Client, Database};

pub const A: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
pub const B: &str = "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

/// `events(id, tenant_id, at, note)`, partitioned by `at`; none of its partitions is there.
pub async fn events(db: &Database) -> Client {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE events (id bigint NOT NULL, tenant_id uuid, at timestamptz NOT NULL, note text) PARTITION BY RANGE (at);
             CREATE INDEX ON events (tenant_id, at)",
        )
        .await;
    owner
}

/// The same, managed by days and kept for three, with a partition for each of the last `days` days and a row in each.
pub async fn managed(db: &Database, days: i32) -> Client {
    let owner = events(db).await;
    owner.run(&past(days)).await;
    owner.run("SELECT bulkhead.manage_partitions('events', '1 day', '3 days')").await;
    owner
}

/// Partitions `events_1` (yesterday's), `events_2` and so on, each with a row of A and one of B.
pub fn past(days: i32) -> String {
    format!(
        "DO $$ DECLARE today timestamptz := date_trunc('day', now(), 'UTC'); lower timestamptz; BEGIN
           FOR i IN REVERSE {days}..1 LOOP
             lower := today - i * interval '24 hours';
             EXECUTE format('CREATE TABLE events_%s PARTITION OF events FOR VALUES FROM (%L) TO (%L)', i, lower, lower + interval '24 hours');
             EXECUTE format('INSERT INTO events_%s VALUES (2 * %s, %L, %L, ''old''), (2 * %s + 1, %L, %L, ''old'')', i, i, '{A}', lower, i, '{B}', lower);
           END LOOP; END $$"
    )
}

pub async fn maintain(db: &Database) {
    db.connect("postgres").await.run("CALL bulkhead.maintain()").await;
}

/// The partitions' names, in the order of their bounds.
pub async fn leaves(client: &Client) -> Vec<String> {
    leaves_of(client, "events").await
}

pub async fn leaves_of(client: &Client, parent: &str) -> Vec<String> {
    client
        .column(&format!(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
              WHERE i.inhparent = '{parent}'::regclass ORDER BY pg_get_expr(c.relpartbound, c.oid)"
        ))
        .await
}

/// The names that daily partitions have from `from` days after today to `to`.
pub async fn days(client: &Client, prefix: &str, from: i32, to: i32) -> Vec<String> {
    client
        .column(&format!(
            "SELECT '{prefix}_p' || to_char((now() AT TIME ZONE 'UTC')::date + i, 'YYYYMMDD') FROM generate_series({from}, {to}) i"
        ))
        .await
}

/// The log without times, oldest first; the partitions of the extension's own tables are not what these tests are about.
pub async fn log(db: &Database) -> Vec<Vec<String>> {
    db.connect("postgres")
        .await
        .rows(
            "SELECT parent, partition, action, ok FROM bulkhead.maintenance_log
              WHERE parent NOT IN ('bulkhead.idempotency_key'::regclass, 'bulkhead.order_verdict'::regclass) ORDER BY id",
        )
        .await
}

/// What went wrong, as the log has it.
pub async fn complaints(db: &Database) -> Vec<String> {
    db.connect("postgres")
        .await
        .column("SELECT concat_ws(': ', action, detail) FROM bulkhead.maintenance_log WHERE NOT ok ORDER BY id")
        .await
}
