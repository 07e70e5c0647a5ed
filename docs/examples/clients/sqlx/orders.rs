use std::time::Duration;

use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, Postgres};
use sqlx::{Transaction, query, query_as};

/// Serialization failure, deadlock, lock not available: the transaction is rolled back, and may be tried again.
const RETRY: [&str; 3] = ["40001", "40P01", "55P03"];
const PAUSES: [u64; 3] = [50, 200, 800];

/// Behind a pooler of transactions the next one may run on another server connection, which does not know what was
/// prepared on this one: hence `persistent(false)` for each query.
pub fn pool(options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new().max_connections(4).connect_lazy_with(options)
}

/// A transaction of the tenant: `context` is its id, or a token. Dropped without a commit it is rolled back.
pub async fn with_tenant(pool: &PgPool, context: &str) -> sqlx::Result<Transaction<'static, Postgres>> {
    let mut db = pool.begin().await?;
    query("SELECT bulkhead.set_tenant($1)").bind(context).persistent(false).execute(&mut *db).await?;
    Ok(db)
}

/// Runs `work`, a whole transaction, again where the server asks for that.
pub async fn retry<T, F: Future<Output = sqlx::Result<T>>>(work: impl Fn() -> F) -> sqlx::Result<T> {
    for pause in PAUSES {
        match work().await {
            Err(error) if may_retry(&error) => tokio::time::sleep(Duration::from_millis(pause)).await,
            done => return done,
        }
    }
    work().await
}

fn may_retry(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| RETRY.contains(&&*code))
}

pub async fn list_orders(pool: &PgPool, context: &str) -> sqlx::Result<Vec<(i64, String, String, i32)>> {
    retry(|| async {
        let mut db = with_tenant(pool, context).await?;
        let orders = query_as("SELECT id, tenant_id, item, quantity FROM orders ORDER BY id");
        let orders = orders.persistent(false).fetch_all(&mut *db).await?;
        db.commit().await?;
        Ok(orders)
    })
    .await
}

/// POST /orders with an Idempotency-Key: the status and body to answer with. It is committed by then.
pub async fn post_order(pool: &PgPool, context: &str, key: &str, body: &Value) -> sqlx::Result<(i32, Value)> {
    retry(|| async {
        let mut db = with_tenant(pool, context).await?;
        let (state, status, response, fence): (String, Option<i32>, Option<Value>, Option<i64>) = query_as(
            "SELECT state, status, response, fence
               FROM bulkhead.idempotency_claim($1, bulkhead.request_fingerprint('POST', '/orders', $2))",
        )
        .bind(key)
        .bind(body)
        .persistent(false)
        .fetch_one(&mut *db)
        .await?;
        match (state.as_str(), status, response) {
            ("replay", Some(status), Some(response)) => return Ok((status, response)),
            ("in_progress", ..) => {
                return Ok((409, json!({"detail": "a request with this Idempotency-Key is being worked on"})));
            }
            ("mismatch", ..) => {
                return Ok((422, json!({"detail": "this Idempotency-Key was used for another request"})));
            }
            _ => {}
        }
        let (id, item, quantity): (i64, String, i32) =
            query_as("INSERT INTO orders (item, quantity) VALUES ($1, $2) RETURNING id, item, quantity")
                .bind(body["item"].as_str())
                .bind(body["quantity"].as_i64())
                .persistent(false)
                .fetch_one(&mut *db)
                .await?;
        let order = json!({"id": id, "item": item, "quantity": quantity});
        query("SELECT bulkhead.idempotency_complete($1, 201, $2, $3)")
            .bind(key)
            .bind(&order)
            .bind(fence)
            .persistent(false)
            .execute(&mut *db)
            .await?;
        db.commit().await?;
        Ok((201, order))
    })
    .await
}

/// Takes from the stock, durable when it is told. After an error or `pending` ask again with the same order id.
pub async fn sell(
    pool: &PgPool,
    context: &str,
    order_id: &str,
    item: &str,
    quantity: i64,
) -> sqlx::Result<(String, Option<i64>)> {
    retry(|| async {
        let mut db = with_tenant(pool, context).await?;
        let verdict = query_as("SELECT verdict, remaining FROM bulkhead.decrement_now('stock', $1, $2, $3)")
            .bind(order_id)
            .bind(item)
            .bind(quantity)
            .persistent(false)
            .fetch_one(&mut *db)
            .await?;
        db.commit().await?;
        Ok(verdict)
    })
    .await
}
