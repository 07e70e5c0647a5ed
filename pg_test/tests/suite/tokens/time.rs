//! Expiry, and the beginning of validity.

use std::time::Duration;

use libtest_mimic::Trial;
use pg_test::Database;
use serde_json::json;

use super::fixture::{A, Issuer, OF_A, SET, issued, now, seen, set, signed, status};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_token_that_expires_is_gone_with_the_next_transaction,
        a_prepared_statement_notices,
        a_token_from_startup_expires_too
    ]
}

/// A token that ends at the next full second but one, and that moment's distance.
fn short(issuer: &Issuer) -> (String, Duration) {
    let exp = now() + 2;
    (issuer.sign(&json!({"tenant_id": A, "exp": exp, "roles": ["admin"]})), Duration::from_millis(2_200))
}

async fn a_token_that_expires_is_gone_with_the_next_transaction(db: Database) {
    let issuer = signed(&db).await;
    let app = db.connect("app").await;
    let (token, later) = short(&issuer);
    set(&app, &token).await;
    app.run("BEGIN").await;
    assert_eq!(seen(&app).await, OF_A);
    tokio::time::sleep(later).await;
    // The transaction that began in time goes on.
    assert_eq!(seen(&app).await, OF_A);
    app.run("COMMIT").await;
    app.refused("SELECT FROM note")
        .await
        .state("42501")
        .detail_contains("does not count: expired")
        .hint_contains("Get a new token");
    assert_eq!(
        app.rows("SELECT bulkhead.tenant_id(), bulkhead.claims(), bulkhead.has_role('admin')").await,
        [["NULL", "NULL", "f"]]
    );
    assert_eq!(app.one(&format!("SHOW {SET}")).await, "");
    assert!(status(&app, "token").await.starts_with("does not count: expired"));
    // Kept from before or not, it is refused now.
    app.refused(&format!("SET {SET} = '{token}'")).await.state("28000").message("invalid tenant token: expired");
    set(&app, &issuer.token(A)).await;
    assert_eq!(seen(&app).await, OF_A);
}

async fn a_prepared_statement_notices(db: Database) {
    let issuer = signed(&db).await;
    let app = db.connect("app").await;
    let (token, later) = short(&issuer);
    set(&app, &token).await;
    let statement = app.prepare("SELECT count(*) FROM note WHERE bulkhead.has_role('admin')").await.unwrap();
    for _ in 0..8 {
        assert_eq!(app.query_one(&statement, &[]).await.unwrap().get::<_, i64>(0), 5);
    }
    tokio::time::sleep(later).await;
    let error = app.query_one(&statement, &[]).await.err().unwrap();
    assert_eq!(error.code().map(|code| code.code()), Some("42501"));
}

async fn a_token_from_startup_expires_too(db: Database) {
    let issuer = issued(&db, Issuer::ed("k1")).await;
    let (token, later) = short(&issuer);
    let mut config = db.config("app");
    let app = pg_test::Client::connect(config.options(format!("-c {SET}={token}"))).await.unwrap();
    assert_eq!(seen(&app).await, OF_A);
    tokio::time::sleep(later).await;
    app.refused("SELECT FROM note").await.state("42501").detail_contains("expired");
    app.run(&format!("RESET {SET}")).await;
    app.refused("SELECT FROM note").await.state("42501");
}
