//! A database in which every room is in use.

use std::path::{Path, PathBuf};

use pg_test::{Client, Database};

pub const TENANT: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Tables of every kind, rows of every kind; the owner's session.
pub async fn world(db: &Database) -> Client {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE orders (id int, tenant_id uuid, item text);
             SELECT bulkhead.protect('orders');
             CREATE TABLE watched (id int, tenant_id uuid);
             SELECT bulkhead.observe('watched');
             CREATE TABLE events (at timestamptz NOT NULL, body text) PARTITION BY RANGE (at);
             SELECT bulkhead.manage_partitions('events', '1 day', '30 days');
             SELECT bulkhead.ensure_partitions('events');
             INSERT INTO events SELECT now(), 'x' FROM generate_series(1, 1000);
             CREATE TABLE stock (sku text PRIMARY KEY, pieces int NOT NULL CHECK (pieces >= 0));
             INSERT INTO stock VALUES ('a', 10), ('b', 5);
             SELECT bulkhead.register_inventory('stock', 'sku', 'pieces');
             CREATE TABLE leads (id int PRIMARY KEY, document jsonb, score numeric, status text NOT NULL DEFAULT 'pending_score');
             CREATE INDEX ON leads (id) WHERE status = 'pending_score';
             SELECT bulkhead.attach_scoring('leads', 'leads');
             INSERT INTO leads (id, document) SELECT g, '{}' FROM generate_series(1, 7) g",
        )
        .await;
    db.admin(r#"SELECT bulkhead.put_shared_rule_set('leads', '[{"id": "a", "when": true, "score": 1}]')"#).unwrap();
    db.admin("CALL bulkhead.maintain(); CALL bulkhead.score_pending('leads', 2, 1)").unwrap();
    let app = db.connect("app").await;
    app.run(&format!(
        "SET bulkhead.tenant_context = '{TENANT}'; SELECT bulkhead.idempotency_claim('key-1'); SELECT count(*) FROM orders"
    ))
    .await;
    owner
}

/// A role of pg_monitor alone, and a session of its; `forget` it at the end.
pub async fn monitor(db: &Database) -> (String, Client) {
    let name = format!("{}_monitor", db.name);
    db.admin(&format!("CREATE ROLE {name} LOGIN IN ROLE pg_monitor")).unwrap();
    let client = db.connect(&name).await;
    (name, client)
}

pub fn forget(db: &Database, monitor: &str) {
    db.admin(&format!("DROP ROLE {monitor}")).unwrap();
}

/// Whether a check of health() is well, its value, and its detail.
pub async fn check(client: &Client, name: &str) -> Vec<String> {
    let rows =
        client.rows(&format!("SELECT ok, value, detail FROM bulkhead.health() WHERE check_name = '{name}'")).await;
    assert_eq!(rows.len(), 1, "{name}");
    rows.into_iter().next().unwrap()
}

/// Asks again until it is so.
pub async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    for _ in 0..500 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{what}: not within 10 s");
}
