//! What the tests of several features stand on.

use std::path::Path;
use std::time::{Duration, Instant};

use pg_test::{Client, Database};

/// A session that acts for the tenant until it is told otherwise.
pub async fn acting(db: &Database, role: &str, tenant: &str) -> Client {
    let client = db.connect(role).await;
    act_for(&client, tenant).await;
    client
}

/// From its next transaction on, the session acts for the tenant; for none when it is empty.
pub async fn act_for(client: &Client, tenant: &str) {
    client.run(&format!("SET bulkhead.tenant_context = '{tenant}'")).await;
}

/// The setting with which every plan that can runs in a worker; it has another name from 16 on.
pub async fn parallel_setting(client: &Client) -> String {
    client.one("SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')").await
}

/// Today's partition of one of the extension's own tables ends in `seconds` seconds. There are no rows in the table yet, and its partitions have
/// the primary key `key`.
pub fn midnight_in(db: &Database, table: &str, key: &str, seconds: f64) {
    let split = format!(
        "DO $$ DECLARE today timestamptz := date_trunc('day', now(), 'UTC') - interval '24 hours';
                       midnight timestamptz := clock_timestamp() + interval '{seconds} seconds'; BEGIN
           CREATE TABLE bulkhead.before_midnight (LIKE bulkhead.{table}, PRIMARY KEY ({key}));
           CREATE TABLE bulkhead.after_midnight (LIKE bulkhead.{table}, PRIMARY KEY ({key}));
           EXECUTE format('ALTER TABLE bulkhead.{table} ATTACH PARTITION bulkhead.before_midnight FOR VALUES FROM (%L) TO (%L)', today, midnight);
           EXECUTE format('ALTER TABLE bulkhead.{table} ATTACH PARTITION bulkhead.after_midnight FOR VALUES FROM (%L) TO (%L)',
                          midnight, today + interval '72 hours');
         END $$"
    );
    db.admin(&split).unwrap();
}

/// Until the standby has replayed all that the primary has written.
pub async fn caught_up(primary: &Database, standby: &Database) {
    let end = primary.admin("SELECT pg_current_wal_flush_lsn()").unwrap();
    let start = Instant::now();
    while standby.admin(&format!("SELECT pg_last_wal_replay_lsn() >= '{end}'")).unwrap() != "t" {
        assert!(start.elapsed() < Duration::from_secs(60), "not caught up\n{}", standby.cluster.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Lets the server find a script of the extension's.
pub fn put_script(db: &Database, name: &str, text: &str) {
    let share = &db.cluster.provision().postgres.sharedir;
    let inside = db.cluster.dir().join("p").join(share.strip_prefix("/").unwrap_or(Path::new(share))).join("extension");
    // Another test's may be read just now: a file appears whole.
    let unfinished = inside.join(format!("{name}.{}.unfinished", db.name));
    std::fs::write(&unfinished, text).unwrap();
    std::fs::rename(&unfinished, inside.join(name)).unwrap();
}
