//! Tables with stock, and callers.

use pg_test::{Client, Database};

pub use crate::inventory::fixture::{A, B, acting, shops, stored};

/// A table without tenants: 10 a, 5 b, 0 c.
pub async fn stock(db: &Database) -> Client {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE stock (sku text PRIMARY KEY, pieces int NOT NULL CHECK (pieces >= 0));
             INSERT INTO stock VALUES ('a', 10), ('b', 5), ('c', 0);
             SELECT bulkhead.register_inventory('stock', 'sku', 'pieces');",
        )
        .await;
    owner
}

/// A call for one line.
pub fn now(table: &str, order: &str, item: &str, quantity: i64) -> String {
    format!("SELECT verdict, remaining FROM bulkhead.decrement_now('{table}', '{order}', '{item}', {quantity})")
}

/// What one line is told: the verdict and what remains.
pub async fn buy(client: &Client, table: &str, order: &str, item: &str, quantity: i64) -> String {
    client.rows(&now(table, order, item, quantity)).await.concat().join(" ")
}

/// The same, when an error may come of it.
pub async fn try_to_buy(
    client: &Client,
    table: &str,
    order: &str,
    item: &str,
    quantity: i64,
) -> Result<String, tokio_postgres::Error> {
    let ask = format!(
        "SELECT concat(verdict, ' ', remaining) FROM bulkhead.decrement_now('{table}', '{order}', '{item}', {quantity})"
    );
    Ok(client.query_one(&ask, &[]).await?.get(0))
}

/// What there is of everything in the table of `stock`.
pub async fn left(client: &Client) -> Vec<String> {
    client.column("SELECT concat(sku, ' ', pieces) FROM stock ORDER BY sku").await
}

/// The worker of the database; empty when there is none.
pub fn worker(db: &Database) -> String {
    let sql =
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'bulkhead worker' AND datname = current_database()";
    db.admin(sql).unwrap().trim().to_owned()
}

/// Asks again until it is so.
pub async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    for _ in 0..1_000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{what}: not within 10 s");
}
