//! A database whose tokens come from an issuer of the test's own.

use pg_test::{Client, Database};

pub use super::issuer::{Issuer, b64, jwks, now};
pub use crate::context::fixture::{A, B, OF_A, OF_B, notes, seen};

pub const SET: &str = "bulkhead.tenant_context";

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

pub async fn set(client: &Client, token: &str) {
    client.run(&format!("SET {SET} = '{token}'")).await;
}

/// `value: detail` of an item of status().
pub async fn status(client: &Client, item: &str) -> String {
    client.one(&format!("SELECT concat_ws(': ', value, detail) FROM bulkhead.status() WHERE item = '{item}'")).await
}
