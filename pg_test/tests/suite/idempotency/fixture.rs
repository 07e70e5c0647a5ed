//! Sessions that act for a tenant, and what they are told.

use pg_test::{Client, Database};

pub use crate::fixture::acting;

pub const A: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
pub const B: &str = "shop-2";

/// A plain role's session that acts for A.
pub async fn app(db: &Database) -> Client {
    acting(db, "app", A).await
}

/// The state that a claim of the key is told.
pub async fn claim(client: &Client, key: &str) -> String {
    client.one(&format!("SELECT state FROM bulkhead.idempotency_claim('{key}')")).await
}

/// Claims and expects to go on; the fence.
pub async fn start(client: &Client, key: &str) -> String {
    let row = client.rows(&format!("SELECT state, fence FROM bulkhead.idempotency_claim('{key}')")).await.remove(0);
    assert_eq!(row[0], "started", "{key}");
    row[1].clone()
}

pub async fn complete(client: &Client, key: &str) {
    client.run(&format!("SELECT bulkhead.idempotency_complete('{key}', 201, '{{\"id\": 7}}')")).await;
}

/// How many rows there are of a key, of all tenants.
pub fn rows_of(db: &Database, key: &str) -> String {
    db.admin(&format!("SELECT count(*) FROM bulkhead.idempotency_key WHERE key = '{key}'")).unwrap()
}

/// Makes a key's row so much older, as if the time had passed: the row moves into the partition of its day.
pub fn age(db: &Database, key: &str, by: &str) {
    for days in [1, 2] {
        let day = "((now() AT TIME ZONE 'UTC')::date - {days})".replace("{days}", &days.to_string());
        let make = format!(
            "DO $$ BEGIN
               IF to_regclass('bulkhead.idempotency_key_{days}_ago') IS NULL THEN
                 CREATE TABLE bulkhead.idempotency_key_{days}_ago (LIKE bulkhead.idempotency_key, PRIMARY KEY (digest));
                 EXECUTE format('ALTER TABLE bulkhead.idempotency_key ATTACH PARTITION bulkhead.idempotency_key_{days}_ago
                                 FOR VALUES FROM (%L) TO (%L)', {day} || ' 00:00:00+00', {day} + 1 || ' 00:00:00+00');
               END IF; END $$"
        );
        db.admin(&make).unwrap();
    }
    let moved = db
        .admin(&format!(
            "UPDATE bulkhead.idempotency_key SET claimed_at = claimed_at - interval '{by}', lease_until = lease_until - interval '{by}'
              WHERE key = '{key}' RETURNING 1"
        ))
        .unwrap();
    assert_eq!(moved.lines().next(), Some("1"), "one row of {key} moved: {moved}");
}
