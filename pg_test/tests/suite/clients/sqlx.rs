//! sqlx's example, compiled into the tests.

use pg_test::Database;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPool};

use super::ask::{Answer, Example, Refusal};

#[path = "../../../../docs/examples/clients/sqlx/orders.rs"]
mod orders;

pub struct Shop {
    pool: PgPool,
}

impl Shop {
    pub fn new(db: &Database, (host, port): (String, String)) -> Shop {
        let options = PgConnectOptions::new_without_pgpass().socket(host).port(port.parse().unwrap());
        Shop { pool: orders::pool(options.username("app").database(&db.name)) }
    }
}

impl Example for Shop {
    async fn ask(&self, request: Value) -> Answer {
        let text = |name: &str| request[name].as_str().unwrap_or_default();
        let (pool, context, key) = (&self.pool, text("context"), text("key"));
        let told = match text("do") {
            "list" => orders::list_orders(pool, context).await.map(|rows| rows.into_iter().map(row).collect()),
            "order" => orders::post_order(pool, context, key, &request["body"]).await.map(|told| json!(told)),
            "sell" => orders::sell(pool, context, key, text("item"), request["quantity"].as_i64().unwrap())
                .await
                .map(|(verdict, remaining)| json!({"verdict": verdict, "remaining": remaining})),
            "naked" => naked(pool).await,
            "left" => left(pool).await,
            other => panic!("{other}"),
        };
        told.map_err(|error| Refusal {
            sqlstate: error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned()),
            message: error.to_string(),
        })
    }
}

/// In a transaction, because a pooler may run another client's statement between the parsing of one and its execution.
async fn naked(pool: &PgPool) -> sqlx::Result<Value> {
    let mut db = pool.begin().await?;
    let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM orders").persistent(false).fetch_all(&mut *db).await?;
    db.commit().await.map(|()| json!(ids))
}

async fn left(pool: &PgPool) -> sqlx::Result<Value> {
    let mut db = pool.begin().await?;
    let tenant: Option<String> =
        sqlx::query_scalar("SELECT bulkhead.tenant_id_text()").persistent(false).fetch_one(&mut *db).await?;
    db.commit().await.map(|()| json!(tenant))
}

fn row((id, tenant, item, quantity): (i64, String, String, i32)) -> Value {
    json!({"id": id, "tenant_id": tenant, "item": item, "quantity": quantity})
}
