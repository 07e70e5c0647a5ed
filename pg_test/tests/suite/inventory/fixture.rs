//! Tables with stock, and what orders on them are told.

use pg_test::{Client, Database};

pub use crate::fixture::acting;

pub const A: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
pub const B: &str = "b1ffcd88-8d1c-4fa9-9c7e-7cc0ce491b22";

/// A table without tenants: 10 a, 5 b, 0 c.
pub async fn stock(db: &Database) -> Client {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE stock (sku text PRIMARY KEY, stock int NOT NULL CHECK (stock >= 0), note text DEFAULT 'left alone');
             INSERT INTO stock VALUES ('a', 10), ('b', 5), ('c', 0);
             SELECT bulkhead.register_inventory('stock', 'sku', 'stock');",
        )
        .await;
    owner
}

/// A protected table: 10 x for A, 3 x and 7 y for B.
pub async fn shops(db: &Database) -> Client {
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE TABLE shops (tenant_id uuid NOT NULL, id text NOT NULL, quantity bigint NOT NULL CHECK (quantity >= 0), PRIMARY KEY (tenant_id, id));
             INSERT INTO shops VALUES ('{A}', 'x', 10), ('{B}', 'x', 3), ('{B}', 'y', 7);
             SELECT bulkhead.protect('shops');
             SELECT bulkhead.register_inventory('shops');",
        ))
        .await;
    owner
}

/// Queues a line of each of these orders.
pub async fn queue(db: &Database, role: &str, table: &str, orders: &[(&str, &str, i64)]) {
    let client = db.connect(role).await;
    for (order, item, quantity) in orders {
        client.run(&format!("SELECT bulkhead.enqueue_decrement('{table}', '{order}', '{item}', {quantity})")).await;
    }
}

/// Lines of `order item quantity`, as a call on the table; NULL and '' stand as they are.
pub fn call(table: &str, lines: &[(&str, &str, &str)]) -> String {
    let list = |pick: fn(&(&str, &str, &str)) -> String| lines.iter().map(pick).collect::<Vec<_>>().join(", ");
    let text = |value: &str| if value == "NULL" { value.to_owned() } else { format!("'{value}'") };
    let orders = list(|line| if line.0 == "NULL" { "NULL".to_owned() } else { format!("'{}'", line.0) });
    let items = lines.iter().map(|line| text(line.1)).collect::<Vec<_>>().join(", ");
    let quantities = list(|line| line.2.to_owned());
    format!(
        "bulkhead.decrement_inventory('{table}', ARRAY[{orders}]::text[], ARRAY[{items}]::text[], ARRAY[{quantities}]::bigint[])"
    )
}

/// What each line is told: the verdict and what remains.
pub async fn decide(client: &Client, table: &str, lines: &[(&str, &str, &str)]) -> Vec<String> {
    let rows = client.rows(&format!("SELECT verdict, remaining FROM {} ORDER BY line", call(table, lines))).await;
    rows.into_iter().map(|row| row.join(" ")).collect()
}

/// The stored verdict of an order, a text for each line.
pub async fn stored(client: &Client, table: &str, order: &str) -> Vec<String> {
    let ask =
        format!("SELECT item, verdict, remaining FROM bulkhead.order_verdicts('{table}', '{order}') ORDER BY line");
    client.rows(&ask).await.into_iter().map(|row| row.join(" ")).collect()
}

/// What there is of everything in the table of `stock`.
pub async fn left(client: &Client) -> Vec<String> {
    client.column("SELECT concat(sku, ' ', stock) FROM stock ORDER BY sku").await
}

/// Rows of verdicts, of all tenants, without the marks of what was given back.
pub fn verdicts(db: &Database) -> String {
    db.admin("SELECT count(*) FROM bulkhead.order_verdict WHERE line > 0").unwrap()
}
