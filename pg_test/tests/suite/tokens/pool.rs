//! Many tokens: over a pooler, and over the life of one connection.

use libtest_mimic::Trial;
use pg_test::Database;
use pg_test::bench::memory;
use serde_json::json;

use super::fixture::{A, B, Issuer, OF_A, OF_B, SET, issued, now, seen, signed};
use crate::harness::Skip;
use crate::pooled::pooler;

pub fn tests() -> Vec<Trial> {
    crate::tests![transactions_of_two_tenants_share_connections, ten_thousand_tokens_take_no_memory]
}

async fn transactions_of_two_tenants_share_connections(db: Database) -> Result<(), Skip> {
    let pooler = pooler(&db, 2)?;
    let issuer = signed(&db).await;
    let bad = Issuer::es("k1").token(A);
    let mut tasks = Vec::new();
    for number in 0..8 {
        let client = pooler.connect("app", &db).await;
        let (token, expected) =
            if number % 2 == 0 { (issuer.token(A), OF_A.to_vec()) } else { (issuer.token(B), OF_B.to_vec()) };
        let bad = bad.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..20 {
                client.run("BEGIN").await;
                assert_eq!(client.one("SELECT bulkhead.tenant_id_text()").await, "NULL");
                client.run(&format!("SET LOCAL {SET} = '{token}'")).await;
                assert_eq!(seen(&client).await, expected);
                if round % 3 == 0 {
                    client.refused(&format!("SET LOCAL {SET} = '{bad}'")).await.state("28000");
                    client.run("ROLLBACK").await;
                } else {
                    client.run("COMMIT").await;
                }
                client.refused("SELECT FROM note").await.state("42501");
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    Ok(())
}

async fn ten_thousand_tokens_take_no_memory(db: Database) {
    let issuer = issued(&db, Issuer::ed("k1")).await;
    let admin = db.connect("postgres").await;
    admin.run("GRANT pg_read_all_stats TO app").await;
    let app = db.connect("app").await;
    let batch = |from: usize| -> String {
        (from..from + 500)
            .map(|n| {
                let token = issuer
                    .sign(&json!({"tenant_id": format!("t{n}"), "exp": now() + 600, "roles": ["a", "b"], "n": n}));
                format!("BEGIN; SET LOCAL {SET} = '{token}'; SELECT bulkhead.has_role('a'), bulkhead.claims(); COMMIT;")
            })
            .collect()
    };
    for n in 0..2 {
        app.simple_query(&batch(n * 500)).await.unwrap();
    }
    let before = memory::of(&app).await.unwrap();
    for n in 2..20 {
        app.simple_query(&batch(n * 500)).await.unwrap();
    }
    let after = memory::of(&app).await.unwrap();
    assert!(after.contexts < before.contexts + 200_000, "memory contexts: {before:?} {after:?}");
    assert!(after.private < before.private + 2_000_000, "private memory: {before:?} {after:?}");
}
