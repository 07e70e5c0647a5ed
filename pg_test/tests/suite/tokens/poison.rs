//! A token that failed: no tenant of before comes back, whatever is rolled back.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{A, B, Issuer, OF_A, OF_B, SET, issued, seen, set, status};
use crate::fixture::parallel_setting;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_session_tenant_does_not_survive,
        no_rollback_revives,
        what_is_set_afterwards_counts,
        an_exception_block_hides_no_failure,
        a_functions_end_revives_nothing,
        a_bad_id_is_no_failed_token,
        asking_whether_a_value_would_do_is_no_failure,
        parallel_queries_know
    ]
}

async fn start(db: &Database) -> (Issuer, Client, String) {
    let issuer = issued(db, Issuer::es("k1")).await;
    let bad = format!("SET {SET} = '{}'", Issuer::es("k1").token(A));
    (issuer, db.connect("app").await, bad)
}

async fn without(app: &Client) {
    app.refused("SELECT FROM note").await.state("42501").detail_contains("A tenant token was refused (bad signature)");
}

async fn a_session_tenant_does_not_survive(db: Database) {
    let (issuer, app, bad) = start(&db).await;
    for good in [issuer.token(A), A.to_owned()] {
        set(&app, &good).await;
        assert_eq!(seen(&app).await, OF_A);
        app.refused(&bad).await.state("28000").detail_contains("no longer counts");
        without(&app).await;
        assert_eq!(app.one("SELECT bulkhead.claims()").await, "NULL");
        assert!(status(&app, "token").await.starts_with("refused: bad signature"));
        assert!(status(&app, "tenant").await.starts_with("none: a token was refused"));
        app.run(&format!("RESET {SET}")).await;
        app.refused("SELECT FROM note").await.state("42501").detail("The current transaction acts for no tenant.");
    }
}

async fn no_rollback_revives(db: Database) {
    let (issuer, app, bad) = start(&db).await;
    set(&app, &issuer.token(A)).await;
    app.run("BEGIN; SAVEPOINT s").await;
    app.refused(&bad).await.state("28000");
    app.run("ROLLBACK TO s").await;
    without(&app).await;
    app.run("ROLLBACK").await;
    without(&app).await;
    app.run("BEGIN; COMMIT").await;
    without(&app).await;
    // A tenant of the transaction, set before the savepoint.
    app.run(&format!("BEGIN; SET LOCAL {SET} = '{}'; SAVEPOINT s", issuer.token(A))).await;
    assert_eq!(seen(&app).await, OF_A);
    app.refused(&bad).await.state("28000");
    app.run("ROLLBACK TO s").await;
    without(&app).await;
    app.run("COMMIT").await;
    without(&app).await;
    // What is set in a transaction that is rolled back brings nothing older back with it.
    app.run(&format!("BEGIN; SET LOCAL {SET} = '{}'", issuer.token(B))).await;
    assert_eq!(seen(&app).await, OF_B);
    app.run("ROLLBACK").await;
    app.refused("SELECT FROM note").await.state("42501");
    assert_eq!(app.one(&format!("SHOW {SET}")).await, "");
}

async fn what_is_set_afterwards_counts(db: Database) {
    let (issuer, app, bad) = start(&db).await;
    app.refused(&bad).await.state("28000");
    set(&app, &issuer.token(B)).await;
    assert_eq!(seen(&app).await, OF_B);
    // Set after the failure, so a rollback to it is a rollback to something good.
    app.run(&format!("BEGIN; SAVEPOINT s; SET LOCAL {SET} = '{}'; ROLLBACK TO s", issuer.token(A))).await;
    assert_eq!(seen(&app).await, OF_B);
    app.run("COMMIT").await;
    app.refused(&bad).await.state("28000");
    app.run(&format!("SET {SET} = '{A}'")).await;
    assert_eq!(seen(&app).await, OF_A);
}

async fn an_exception_block_hides_no_failure(db: Database) {
    let (issuer, app, _) = start(&db).await;
    app.run(&format!("BEGIN; SET LOCAL {SET} = '{}'", issuer.token(A))).await;
    app.run(&format!(
        "DO $$ BEGIN PERFORM set_config('{SET}', '{}', true); EXCEPTION WHEN OTHERS THEN NULL; END $$",
        Issuer::es("k1").token(B)
    ))
    .await;
    without(&app).await;
    app.run("ROLLBACK").await;
}

async fn a_functions_end_revives_nothing(db: Database) {
    let (issuer, app, _) = start(&db).await;
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE FUNCTION tries(t text) RETURNS text LANGUAGE plpgsql SET {SET} = '' AS
               $$ BEGIN BEGIN PERFORM set_config('{SET}', t, true); EXCEPTION WHEN OTHERS THEN NULL; END; RETURN 'done'; END $$"
        ))
        .await;
    app.run(&format!("BEGIN; SET LOCAL {SET} = '{}'", issuer.token(A))).await;
    assert_eq!(seen(&app).await, OF_A);
    assert_eq!(app.one(&format!("SELECT tries('{}')", Issuer::es("k1").token(A))).await, "done");
    without(&app).await;
    app.run("ROLLBACK").await;
}

async fn a_bad_id_is_no_failed_token(db: Database) {
    let (issuer, app, _) = start(&db).await;
    set(&app, &issuer.token(A)).await;
    app.refused(&format!("SET {SET} = E'a\\tb'")).await.state("22023");
    assert_eq!(seen(&app).await, OF_A);
}

async fn asking_whether_a_value_would_do_is_no_failure(db: Database) {
    let (issuer, app, bad) = start(&db).await;
    set(&app, &issuer.token(A)).await;
    app.run(&format!("BEGIN; ALTER ROLE app {bad}")).await;
    assert_eq!(seen(&app).await, OF_A);
    app.run("ROLLBACK").await;
    assert_eq!(seen(&app).await, OF_A);
}

async fn parallel_queries_know(db: Database) {
    let (issuer, app, bad) = start(&db).await;
    let name = parallel_setting(&app).await;
    set(&app, &issuer.token(A)).await;
    app.refused(&bad).await.state("28000");
    app.run(&format!("SET {name} = on")).await;
    app.refused("SELECT bulkhead.tenant_id()").await.state("42501").detail_contains("A tenant token was refused");
    set(&app, &issuer.token(A)).await;
    assert_eq!(app.one("SELECT bulkhead.tenant_id()").await, A);
    // Clearing for a transaction makes nothing of before good again, for a worker either.
    app.run(&format!("SET {name} = off; BEGIN; SAVEPOINT s")).await;
    app.refused(&bad).await.state("28000");
    app.run(&format!("ROLLBACK TO s; SET LOCAL {SET} = ''; COMMIT; SET {name} = on")).await;
    app.refused("SELECT bulkhead.tenant_id()").await.state("42501").detail_contains("A tenant token was refused");
    app.run("DISCARD ALL").await;
    app.refused("SELECT FROM note").await.state("42501").detail("The current transaction acts for no tenant.");
}
