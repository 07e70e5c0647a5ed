//! What these tests stand on: a table with rows of two tenants, and sessions of every role that act for one of them.

use pg_test::{Client, Database};

use super::A;
pub use crate::fixture::acting as acting_for;

pub const ROLES: [&str; 4] = ["app", "owner", "svc", "postgres"];
pub const OF_A: [&str; 3] = ["1", "2", "3"];
pub const ALL: [&str; 5] = ["1", "2", "3", "4", "5"];
pub const NOTHING: [&str; 0] = [];

/// `orders(id, tenant_id uuid, item)`, protected: 1, 2 and 3 are A's, 4 and 5 are B's. Returns its owner, without a tenant.
pub async fn orders(db: &Database) -> Client {
    let owner = db.connect("owner").await;
    let b = super::B;
    owner
        .run(&format!(
            "CREATE TABLE orders (id int PRIMARY KEY, tenant_id uuid, item text);
             INSERT INTO orders SELECT i, CASE WHEN i <= 3 THEN '{A}' ELSE '{b}' END::uuid, 'item ' || i
               FROM generate_series(1, 5) i;
             SELECT bulkhead.protect('orders')"
        ))
        .await;
    owner
}

/// A session that acts for A.
pub async fn acting(db: &Database, role: &str) -> Client {
    acting_for(db, role, A).await
}

/// The ids of the orders that the session sees.
pub async fn seen(client: &Client) -> Vec<String> {
    client.column("SELECT id FROM orders ORDER BY id").await
}

/// Every row of a table as text, past the seal.
pub fn all_rows(db: &Database, table: &str) -> String {
    db.admin(&format!("SELECT t::text FROM {table} t ORDER BY 1")).unwrap()
}
