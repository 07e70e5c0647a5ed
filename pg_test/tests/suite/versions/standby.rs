//! A standby whose library is of another version than the objects that it replays: upgraded before its primary, or after it.

use libtest_mimic::Trial;
use pg_test::{Client, Cluster, Database};

use super::{as_shop, becomes, refused, scripts, world};
use crate::fixture::caught_up;
use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![a_standby_waits_for_its_primary => 300]
}

const ROLES: [&str; 4] = ["app", "svc", "owner", "postgres"];

/// What another tenant left: none of it may be in any answer.
const FOREIGN: &str = "of shop-2";

async fn a_standby_waits_for_its_primary(_: Nowhere) {
    let primary = Cluster::builder().setting("bulkhead.drain_databases", "").start().unwrap();
    let db = primary.database("versions").unwrap();
    world(&db).await;
    becomes(&db, "0.1.0");
    both_shops_leave_something(&db).await;
    becomes(&db, "next");
    let standby = primary.standby().unwrap();
    let copy = standby.existing(&db.name);
    caught_up(&db, &copy).await;

    // Upgraded first: its library has never been of the version of what it replays.
    let mut sessions = Vec::new();
    for role in ROLES {
        sessions.push(as_shop(&copy, role).await);
    }
    nothing_is_answered(&sessions).await;
    becomes(&db, "0.1.0");
    caught_up(&db, &copy).await;
    serves(&sessions).await;

    // The primary first: sessions with plans of their own, and a snapshot that is older than the update, hear of it in the replay.
    for session in &sessions {
        session.run("PREPARE mine AS SELECT body FROM note").await;
        for _ in 0..7 {
            assert_eq!(session.one("EXECUTE mine").await, "one");
        }
    }
    let reader = as_shop(&copy, "app").await;
    reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ").await;
    assert_eq!(reader.one("SELECT body FROM note").await, "one");
    becomes(&db, "later");
    caught_up(&db, &copy).await;
    for session in &sessions {
        session.refused("EXECUTE mine").await.state("55000").message_contains("its SQL objects of version later");
    }
    reader.refused("SELECT body FROM note").await.state("55000");
    reader.run("ROLLBACK").await;
    becomes(&db, "0.1.0");
    caught_up(&db, &copy).await;
    for session in &sessions {
        assert_eq!(session.one("EXECUTE mine").await, "one", "{}", session.user());
    }
    serves(&sessions).await;

    // Promoted while they differ, it is updated by its own DBA.
    becomes(&db, "next");
    caught_up(&db, &copy).await;
    primary.kill().unwrap();
    sessions[3].run("SELECT pg_promote()").await;
    nothing_is_answered(&sessions).await;
    refused(&sessions[0], "INSERT INTO note (body) VALUES ('two')").await;
    refused(&sessions[3], "SELECT * FROM bulkhead.idempotency_claim('k')").await;
    scripts(&copy);
    becomes(&copy, "0.1.0");
    serves(&sessions).await;
    sessions[0].run("INSERT INTO note (body) VALUES ('two')").await;
}

async fn both_shops_leave_something(db: &Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE shelf (id text, tenant_id text, quantity bigint, PRIMARY KEY (tenant_id, id));
             INSERT INTO shelf VALUES ('a', 'shop-1', 9), ('a', 'shop-2', 9), ('of shop-2', 'shop-2', 5);
             SELECT bulkhead.protect('shelf'); SELECT bulkhead.register_inventory('shelf');",
        )
        .await;
    let mine = as_shop(db, "app").await;
    mine.run("SELECT bulkhead.decrement_inventory('shelf', 'o', 'a', 1::bigint)").await;
    let theirs = db.connect("app").await;
    theirs.run("SET bulkhead.tenant_context = 'shop-2'").await;
    theirs.run("INSERT INTO note (body) VALUES ('of shop-2')").await;
    theirs.run("SELECT bulkhead.decrement_inventory('shelf', 'o', 'of shop-2', 2::bigint)").await;
    // Both have a rule set of one name; only the other tenant's is worth anything.
    let worth = r#"SELECT bulkhead.put_rule_set('lead', '[{"id": "of shop-2", "when": true, "score": 77}]')"#;
    db.admin(&format!("SET bulkhead.tenant_context = 'shop-2'; {worth}")).unwrap();
}

/// Whoever asks is refused, with a tenant and without, and what answers nevertheless has nothing of a tenant's in it.
async fn nothing_is_answered(sessions: &[Client]) {
    for session in sessions {
        for tenant in ["shop-1", ""] {
            session.run(&format!("SET bulkhead.tenant_context = '{tenant}'")).await;
            for sql in [
                "SELECT * FROM note",
                "SELECT (SELECT count(*) FROM shelf) FROM plain",
                "WITH n AS (SELECT * FROM note) SELECT 1 FROM n",
                "COPY (SELECT * FROM note) TO STDOUT",
                "COPY note TO STDOUT",
                "SELECT bulkhead.score('lead', '{}')",
                "SELECT bulkhead.score_explain('lead'::text, '{}')",
                "SELECT * FROM bulkhead.order_verdicts('shelf', 'o')",
                "SELECT * FROM bulkhead.rule_sets",
            ] {
                refused(session, sql).await;
            }
        }
        session.run("SET bulkhead.tenant_context = 'shop-1'").await;
        assert_eq!(session.one("SELECT id FROM plain").await, "1");
        for call in
            ["lint()", "status()", "protected_tables", "managed_partitions", "scoring_progress", "naked_statements"]
        {
            let answer =
                session.column(&format!("SELECT to_jsonb(answer) FROM bulkhead.{call} AS answer")).await.join("\n");
            assert!(!answer.contains(FOREIGN), "{}: {answer}", session.user());
            if ["lint()", "status()"].contains(&call) {
                assert!(answer.contains("next"), "{call} says nothing of the versions: {answer}");
            }
        }
    }
    let boss = &sessions[3];
    refused(boss, "SELECT * FROM bulkhead.order_verdict").await;
    refused(boss, "SELECT * FROM bulkhead.rule_set").await;
    assert_eq!(boss.one("SELECT ok FROM bulkhead.health() WHERE check_name = 'version'").await, "f");
}

/// Each sees the one tenant's.
async fn serves(sessions: &[Client]) {
    for session in sessions {
        session.run("RESET bulkhead.tenant_context").await;
        session.refused("SELECT * FROM note").await.state("42501");
        session.run("SET bulkhead.tenant_context = 'shop-1'").await;
        assert_eq!(session.column("SELECT body FROM note").await, ["one"], "{}", session.user());
        assert_eq!(session.one("SELECT bulkhead.score('lead', '{}')").await, "0", "{}", session.user());
        let verdicts = "SELECT concat_ws(' ', item, verdict, remaining) FROM bulkhead.order_verdicts('shelf', 'o')";
        assert_eq!(session.column(verdicts).await, ["a accepted 8"], "{}", session.user());
    }
}
