//! A database whose tokens come from an issuer of the test's own.

use pg_test::{Client, Database};

pub use super::issuer::{Issuer, b64, jwks, now};

pub const A: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
pub const B: &str = "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
pub const OF_A: [&str; 5] = ["1", "2", "3", "4", "5"];
pub const OF_B: [&str; 3] = ["6", "7", "8"];

pub const SET: &str = "bulkhead.tenant_context";

/// `note(id, tenant_id uuid, body)`, protected: ids 1 to 5 of A, 6 to 8 of B.
pub async fn notes(db: &Database) {
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE TABLE note (id int PRIMARY KEY, tenant_id uuid, body text);
             INSERT INTO note SELECT i, CASE WHEN i <= 5 THEN '{A}' ELSE '{B}' END::uuid, 'note ' || i FROM generate_series(1, 8) i;
             SELECT bulkhead.protect('note')"
        ))
        .await;
}

/// For every session that begins later.
pub async fn setting(db: &Database, name: &str, value: &str) {
    let sql = format!("ALTER DATABASE {} SET {name} = '{}'", db.name, value.replace('\'', "''"));
    db.connect("postgres").await.run(&sql).await;
}

/// The table, and an issuer whose key the database knows.
pub async fn issued(db: &Database, issuer: Issuer) -> Issuer {
    notes(db).await;
    setting(db, "bulkhead.jwks", &jwks(&[&issuer])).await;
    issuer
}

/// The same in signed mode.
pub async fn signed(db: &Database) -> Issuer {
    setting(db, "bulkhead.context_mode", "signed").await;
    issued(db, Issuer::es("k1")).await
}

pub async fn seen(client: &Client) -> Vec<String> {
    client.column("SELECT id FROM note ORDER BY id").await
}

pub async fn set(client: &Client, token: &str) {
    client.run(&format!("SET {SET} = '{token}'")).await;
}

/// `value: detail` of an item of status().
pub async fn status(client: &Client, item: &str) -> String {
    client.one(&format!("SELECT concat_ws(': ', value, detail) FROM bulkhead.status() WHERE item = '{item}'")).await
}
