//! Killed in the middle: what was answered is kept, what was not is free.

use libtest_mimic::Trial;
use pg_test::{Cluster, Database};

use super::fixture::{A, app, claim, complete, start};
use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_killed_session_frees_what_it_had_not_committed,
        a_server_that_was_killed_keeps_what_it_promised => 300,
        a_dump_carries_the_keys => 300,
    ]
}

async fn a_killed_session_frees_what_it_had_not_committed(db: Database) {
    let (victim, app) = (app(&db).await, app(&db).await);
    start(&victim, "committed").await;
    victim.run("BEGIN").await;
    start(&victim, "open").await;
    complete(&victim, "open").await;
    let pid = victim.one("SELECT pg_backend_pid()").await;
    db.admin(&format!("SELECT pg_terminate_backend({pid}, 5000)")).unwrap();
    assert_eq!(claim(&app, "committed").await, "in_progress", "its lease runs on");
    start(&app, "open").await;
}

/// Sessions claim, work and answer without a pause; the server is killed again and again. Every answer that a client has seen is there
/// afterwards, and no work was done twice.
async fn a_server_that_was_killed_keeps_what_it_promised(_: Nowhere) {
    let cluster = Cluster::builder().setting("max_prepared_transactions", "5").start().unwrap();
    let db = cluster.database("killed").unwrap();
    db.connect("owner").await.run("CREATE TABLE done (key text, session int)").await;
    let mut promised: Vec<String> = Vec::new();
    for round in 0..4 {
        let mut sessions = tokio::task::JoinSet::new();
        for number in 0..6 {
            let db = db.clone();
            sessions.spawn(async move { work_until_killed(&db, round, number).await });
        }
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        cluster.kill().unwrap();
        while let Some(session) = sessions.join_next().await {
            promised.extend(session.unwrap());
        }
        cluster.start().unwrap();
    }
    assert!(promised.len() > 100, "{} answers were promised", promised.len());
    let app = app(&db).await;
    for key in &promised {
        assert_eq!(claim(&app, key).await, "replay", "{key}");
    }
    let twice = "SELECT count(*) - count(DISTINCT key) FROM done";
    assert_eq!(db.admin(twice).unwrap(), "0");
    // And a transaction that was prepared holds its keys over a restart.
    app.run("BEGIN").await;
    start(&app, "prepared").await;
    app.run("PREPARE TRANSACTION 'p'").await;
    assert_eq!(claim(&app, "prepared").await, "in_progress");
    cluster.kill().unwrap();
    cluster.start().unwrap();
    let app = super::fixture::app(&db).await;
    assert_eq!(claim(&app, "prepared").await, "in_progress");
    app.run("ROLLBACK PREPARED 'p'").await;
    start(&app, "prepared").await;
}

/// The keys whose commit the server has answered.
async fn work_until_killed(db: &Database, round: usize, number: usize) -> Vec<String> {
    let mut promised = Vec::new();
    // The server may be gone before it has answered the first word.
    let Ok(client) = db.try_connect("app").await else { return promised };
    if client.batch_execute(&format!("SET bulkhead.tenant_context = '{A}'")).await.is_err() {
        return promised;
    }
    for count in 0.. {
        // Some keys are everybody's.
        let key = if count % 5 == 0 { format!("{round} all {count}") } else { format!("{round} {number} {count}") };
        let work = format!(
            "BEGIN; DO $$ BEGIN
               IF (SELECT state FROM bulkhead.idempotency_claim('{key}')) = 'started' THEN
                 INSERT INTO done VALUES ('{key}', {number});
                 PERFORM bulkhead.idempotency_complete('{key}', 200, '1');
               ELSE RAISE 'not mine'; END IF; END $$; COMMIT"
        );
        match client.batch_execute(&work).await {
            Ok(()) => promised.push(key),
            Err(error) if error.code().is_some_and(|code| code.code() == "P0001") => {
                if client.batch_execute("ROLLBACK").await.is_err() {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    promised
}

async fn a_dump_carries_the_keys(db: Database) {
    let app = app(&db).await;
    start(&app, "started").await;
    start(&app, "finished").await;
    complete(&app, "finished").await;
    let refused = db.client_program("pg_dump", "postgres").output().unwrap();
    assert!(!refused.status.success(), "a dump of all tenants needs a bypass");
    let dump = db.client_program("pg_dump", "postgres").env("PGOPTIONS", "-c bulkhead.bypass=backup").output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let there = db.cluster.empty_database("there").unwrap();
    let script = String::from_utf8(dump.stdout).unwrap();
    let restored = there.psql("postgres", &script).unwrap();
    let errors = String::from_utf8_lossy(&restored.stderr).into_owned();
    assert!(restored.status.success() && !errors.contains("ERROR"), "{errors}");
    let app = super::fixture::app(&there).await;
    assert_eq!(claim(&app, "finished").await, "replay");
    assert_eq!(claim(&app, "started").await, "in_progress");
    start(&app, "new").await;
    drop(app);
    there.drop().unwrap();
}
