//! What these tests stand on: an observed table with rows of two tenants, and what was counted.

use pg_test::{Client, Database};

pub const A: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
pub const B: &str = "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
pub const NO_ROWS: [[&str; 0]; 0] = [];

/// `orders(id, tenant_id uuid, item)`: 1, 2 and 3 are A's, 4 and 5 are B's. Returns its owner.
pub async fn bare_orders(db: &Database) -> Client {
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE TABLE orders (id int PRIMARY KEY, tenant_id uuid, item text);
             INSERT INTO orders
             SELECT i, CASE WHEN i <= 3 THEN '{A}' ELSE '{B}' END::uuid, 'item ' || i FROM generate_series(1, 5) i"
        ))
        .await;
    owner
}

/// The same, observed.
pub async fn orders(db: &Database) -> Client {
    let owner = bare_orders(db).await;
    owner.run("SELECT bulkhead.observe('orders')").await;
    owner
}

/// Statements and how often, in the order of the statements.
pub async fn counted(client: &Client) -> Vec<Vec<String>> {
    client.rows("SELECT query, count FROM bulkhead.naked_statements ORDER BY query COLLATE \"C\", role").await
}
