//! Which tables can be attached, and who may score them.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{A, B, acting, share};
use super::pending::{drain, insert, leads};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        what_cannot_be_attached_is_refused,
        who_may_call_it,
        it_works_without_the_seal_and_for_plain_tables,
        partitions_and_signed_mode,
        health_says_that_rows_wait,
    ]
}

async fn what_cannot_be_attached_is_refused(db: Database) {
    let owner = leads(&db).await;
    let (app, boss) = (db.connect("app").await, db.connect("postgres").await);
    app.refused("SELECT bulkhead.attach_scoring('leads', 'x')").await.state("42501").message_contains("must be owner");
    app.refused("SELECT bulkhead.detach_scoring('leads')").await.state("42501");
    for (columns, state, message) in [
        ("document_column => 'no'", "55000", "has no column \"no\""),
        ("document_column => 'status'", "22023", "a document is jsonb"),
        ("score_column => 'status'", "22023", "a score is a number"),
        ("status_column => 'score'", "22023", "is named for two things"),
        ("score_column => 'id'", "22023", "generated"),
        ("version_column => 'status'", "22023", "an integer"),
    ] {
        let refused = owner.refused(&format!("SELECT bulkhead.attach_scoring('leads', 'x', {columns})")).await;
        refused.state(state).message_contains(message);
    }
    owner.refused("SELECT bulkhead.attach_scoring(NULL, 'x')").await.state("22023");
    owner.run("CREATE VIEW v AS SELECT 1 AS score, '{}'::jsonb AS document, ''::text AS status; CREATE TYPE half AS ENUM ('scored');
               CREATE TABLE other (document jsonb, score numeric, status half)").await;
    owner
        .refused("SELECT bulkhead.attach_scoring('v', 'x')")
        .await
        .state("22023")
        .message_contains("no ordinary table");
    owner.refused("SELECT bulkhead.attach_scoring('other', 'x')").await.state("22P02");
    owner.refused("SELECT bulkhead.detach_scoring('other')").await.state("55000").message_contains("not attached");
    boss.refused("CALL bulkhead.score_pending('other')").await.state("55000").message_contains("not attached");
    owner.run("ALTER TABLE leads RENAME COLUMN document TO doc").await;
    boss.refused("CALL bulkhead.score_pending('leads')")
        .await
        .state("55000")
        .message_contains("has no column \"document\"");
}

async fn who_may_call_it(db: Database) {
    let _owner = leads(&db).await;
    share(&db, "lead", 1);
    let a = acting(&db, A).await;
    insert(&a, "VALUES ('{}')").await;
    for call in ["CALL bulkhead.score_pending('leads')", "CALL bulkhead.rescore('leads')"] {
        a.refused(call).await.state("42501");
    }
    a.refused("SELECT bulkhead.scoring_step('leads', 'score_pending', now(), NULL, 10)")
        .await
        .state("42501")
        .message_contains("permission denied for procedure bulkhead.score_pending");
    db.admin("GRANT EXECUTE ON PROCEDURE bulkhead.score_pending TO app").unwrap();
    a.refused("CALL bulkhead.score_pending('leads', -1)").await.state("22023").message_contains("batch_size");
    a.refused("BEGIN; CALL bulkhead.score_pending('leads')").await.state("2D000");
    a.run("ROLLBACK").await;
    // With a tenant in force it scores that one alone.
    let b = acting(&db, B).await;
    insert(&b, "VALUES ('{}')").await;
    a.run("CALL bulkhead.score_pending('leads')").await;
    assert_eq!(a.one("SELECT status FROM leads").await, "scored");
    assert_eq!(b.one("SELECT status FROM leads").await, "pending_score");
    assert_eq!(a.one("SELECT bulkhead.tenant_id_text()").await, A);
}

async fn it_works_without_the_seal_and_for_plain_tables(db: crate::harness::WithoutPreload) {
    let owner = leads(&db).await;
    share(&db, "lead", 3);
    let a = acting(&db, A).await;
    insert(&a, "VALUES ('{}')").await;
    drain(&db);
    assert_eq!(a.rows("SELECT score, status FROM leads").await, [["3", "scored"]]);
    drop(owner);
}

async fn partitions_and_signed_mode(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE leads (id bigint, tenant_id uuid NOT NULL, document jsonb, score numeric, status text NOT NULL DEFAULT 'pending_score') PARTITION BY RANGE (id);
             CREATE TABLE leads_1 PARTITION OF leads FOR VALUES FROM (1) TO (100);
             CREATE TABLE leads_2 PARTITION OF leads FOR VALUES FROM (100) TO (200);
             CREATE INDEX ON leads (tenant_id) WHERE status = 'pending_score';
             GRANT SELECT, INSERT ON leads TO app;
             SELECT bulkhead.protect('leads'); SELECT bulkhead.attach_scoring('leads', 'lead')",
        )
        .await;
    share(&db, "lead", 3);
    let a = acting(&db, A).await;
    a.run("INSERT INTO leads (id, document) SELECT i, '{}' FROM generate_series(1, 199) i").await;
    let boss = db.connect("postgres").await;
    boss.run("SET bulkhead.context_mode = signed").await;
    boss.run("CALL bulkhead.score_pending('leads', 50)").await;
    assert_eq!(boss.one("SHOW bulkhead.context_mode").await, "signed");
    assert_eq!(a.rows("SELECT score, status, count(*) FROM leads GROUP BY 1, 2").await, [["3", "scored", "199"]]);
}

async fn health_says_that_rows_wait(db: Database) {
    let owner = leads(&db).await;
    share(&db, "lead", 3);
    let check =
        || db.admin("SELECT ok, value, detail FROM bulkhead.health() WHERE check_name = 'scoring_lag'").unwrap();
    assert_eq!(check(), "t|0 rows|");
    for tenant in [A, B] {
        insert(&acting(&db, tenant).await, "VALUES ('{}'), ('{}')").await;
    }
    assert!(
        check().starts_with("f|4 rows|4 rows of public.leads wait, and no batch was done for a week"),
        "{}",
        check()
    );
    db.admin("CALL bulkhead.score_pending('leads', 1, 2)").unwrap();
    assert_eq!(check(), "t|2 rows|");
    db.admin("UPDATE bulkhead.scoring_run SET last_at = now() - interval '11 minutes'").unwrap();
    assert!(
        check().starts_with("f|2 rows|2 rows of public.leads wait, and no batch was done for 11 min"),
        "{}",
        check()
    );
    db.admin("CALL bulkhead.score_pending('leads')").unwrap();
    assert_eq!(check(), "t|0 rows|");
    owner.run("ALTER TABLE leads RENAME status TO state").await;
    assert_eq!(check(), "f|0 rows|public.leads has no column \"status\"");
}
