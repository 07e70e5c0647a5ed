//! Who lifted the seal, when and why: the server log and bulkhead.bypass_log.

use libtest_mimic::Trial;
use pg_test::Database;

use super::bypass::world;
use super::fixture::{ALL, seen};

pub fn tests() -> Vec<Trial> {
    crate::tests![it_is_recorded, a_rolled_back_one_is_in_the_server_log]
}

async fn it_is_recorded(db: Database) {
    world(&db).await;
    db.admin("TRUNCATE bulkhead.bypass_log").unwrap();
    let svc = db.connect("svc").await;
    svc.run("SET application_name = 'nightly'; BEGIN; SELECT bulkhead.begin_bypass('invoice run'); SELECT * FROM orders; COMMIT").await;
    svc.run("BEGIN; SET LOCAL bulkhead.bypass = 'by setting'; SELECT 7, count(*) FROM orders; COMMIT").await;
    let rows = db
        .admin(
            "SELECT role, session_role, client, application, reason, statement LIKE '%orders%' FROM bulkhead.bypass_log
                         WHERE role = 'svc' ORDER BY at",
        )
        .unwrap();
    assert_eq!(rows.trim(), "svc|svc|local|nightly|invoice run|t\nsvc|svc|local|nightly|by setting|t");
    let log = db.log();
    for reason in ["invoice run", "by setting"] {
        assert!(
            log.lines().any(|line| line.contains("bulkhead bypass by role \"svc\"") && line.contains(reason)),
            "{reason}"
        );
    }
    for role in ["app", "svc"] {
        db.connect(role).await.refused("SELECT * FROM bulkhead.bypass_log").await.state("42501");
    }
}

async fn a_rolled_back_one_is_in_the_server_log(db: Database) {
    world(&db).await;
    let svc = db.connect("svc").await;
    svc.run("BEGIN; SELECT bulkhead.begin_bypass('undone'); SELECT * FROM orders; ROLLBACK").await;
    svc.run("BEGIN READ ONLY; SELECT bulkhead.begin_bypass('only read')").await;
    assert_eq!(seen(&svc).await, ALL);
    svc.run("COMMIT").await;
    let log = db.log();
    assert!(log.contains("undone") && log.contains("only read"));
    assert_eq!(
        db.admin("SELECT count(*) FROM bulkhead.bypass_log WHERE reason IN ('undone', 'only read')").unwrap().trim(),
        "0"
    );
}
