//! The same where nothing loads the library with the server: in sessions that load it at their start, and in those whose first call does.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::{as_shop, becomes, refused, world};
use crate::harness::{SessionPreload, WithoutPreload};

pub fn tests() -> Vec<Trial> {
    crate::tests![sessions_that_load_it_refuse, experiment]
}

const ROLES: [&str; 4] = ["app", "svc", "owner", "postgres"];

const STATEMENTS: [&str; 8] = [
    "SELECT * FROM note",
    "SELECT (SELECT count(*) FROM note) FROM plain",
    "INSERT INTO note (body) VALUES ('two')",
    "UPDATE note SET body = 'two'",
    "DELETE FROM note",
    "WITH n AS (SELECT * FROM note) SELECT 1 FROM n",
    "COPY (SELECT * FROM note) TO STDOUT",
    "COPY note TO STDOUT",
];

async fn sessions_that_load_it_refuse(SessionPreload(db): SessionPreload) {
    world(&db).await;
    for role in ROLES {
        // Each as the first statement of its session, and then one after the other.
        for sql in STATEMENTS {
            refused(&db.connect(role).await, sql).await;
        }
        let client = as_shop(&db, role).await;
        for sql in STATEMENTS {
            refused(&client, sql).await;
        }
        calls_are_refused(&client).await;
    }
    becomes(&db, "0.1.0");
    let app = as_shop(&db, "app").await;
    assert_eq!(app.one("SELECT body FROM note").await, "one");
    becomes(&db, "next");
    refused(&app, "SELECT body FROM note").await;
    becomes(&db, "0.1.0");
}

async fn calls_are_refused(client: &Client) {
    for call in [
        "SELECT bulkhead.score('lead', '{}')",
        "SELECT * FROM bulkhead.order_verdicts('stock', 'o')",
        "SELECT * FROM bulkhead.idempotency_claim('k')",
        "SELECT * FROM bulkhead.rule_sets",
    ] {
        refused(client, call).await;
    }
    assert_eq!(client.one("SELECT bulkhead.tenant_id_text()").await, "shop-1");
}

async fn experiment(WithoutPreload(db): WithoutPreload) {
    world(&db).await;
    let mut told = String::new();
    for role in ROLES {
        for sql in STATEMENTS {
            for before in [
                "",
                "SET bulkhead.tenant_context = 'shop-1'",
                "SET bulkhead.tenant_context = 'shop-1'; SELECT bulkhead.tenant_id()",
            ] {
                let client = db.connect(role).await;
                client.run(before).await;
                let answer = match client.try_run(sql).await {
                    Ok(()) => "ok".to_string(),
                    Err(e) => e.as_db_error().map_or(e.to_string(), |e| format!("{} {}", e.code().code(), e.message())),
                };
                told += &format!("{role} | {before} | {sql} | {answer}\n");
            }
        }
    }
    panic!("{told}");
}
