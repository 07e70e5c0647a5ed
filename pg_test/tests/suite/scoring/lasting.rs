//! What outlives a server's death, a dump and a restore; and what a standby serves.

use std::time::Duration;

use libtest_mimic::Trial;
use pg_test::{Cluster, Database};

use super::fixture::{A, B, acting, put, score, share};
use super::pending::leads;
use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_server_that_was_killed_scores_each_row_once => 600,
        a_dump_carries_rule_sets_and_attached_tables => 300,
        a_standby_scores => 240,
    ]
}

const BY_N: &str = r#"[{"id": "n", "when": true, "score": {"var": "n"}}]"#;
const KILLS: usize = 6;

/// Rows come in, and are scored by several workers; the server is killed again and again.
async fn a_server_that_was_killed_scores_each_row_once(_: Nowhere) {
    let cluster = Cluster::builder().start().unwrap();
    let db = cluster.database("killed").unwrap();
    let owner = leads(&db).await;
    owner
        .run(
            "CREATE TABLE written (id bigint, score numeric);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.written VALUES (NEW.id, NEW.score); RETURN NEW; END $$;
             CREATE TRIGGER note AFTER UPDATE ON leads FOR EACH ROW EXECUTE FUNCTION note()",
        )
        .await;
    db.admin(&format!("SELECT bulkhead.put_shared_rule_set('lead', '{BY_N}')")).unwrap();
    let mut saved: Vec<i64> = Vec::new();
    for round in 0..KILLS {
        let mut sessions = tokio::task::JoinSet::new();
        for tenant in ["a", "b", "c"] {
            let (db, worker) = (db.clone(), db.clone());
            sessions.spawn(async move { insert_until_killed(&db, tenant, round as i64).await });
            sessions.spawn(async move {
                score_until_killed(&worker).await;
                Vec::new()
            });
        }
        tokio::time::sleep(Duration::from_millis(500 + 41 * round as u64)).await;
        cluster.kill().unwrap();
        while let Some(session) = sessions.join_next().await {
            saved.extend(session.unwrap());
        }
        cluster.start().unwrap();
    }
    let scored = "SELECT count(*) FROM written";
    let (before, saved_in_all) = (db.admin(scored).unwrap(), saved.len());
    assert!(before.parse::<usize>().unwrap() > 100 && saved_in_all > 100, "{before} scored, {saved_in_all} saved");
    db.admin("CALL bulkhead.score_pending('leads')").unwrap();
    let all = db.past_the_seal("postgres").await;
    assert_eq!(
        all.rows("SELECT DISTINCT status, rules_version, score = (document ->> 'n')::numeric FROM leads").await,
        [["scored", "1", "t"]]
    );
    let there: Vec<i64> =
        all.column("SELECT document ->> 'n' FROM leads").await.iter().map(|n| n.parse().unwrap()).collect();
    let there: std::collections::HashSet<i64> = there.into_iter().collect();
    assert!(saved.iter().all(|n| there.contains(n)), "a row that was saved is gone");
    let once = "SELECT (SELECT count(*) FROM leads) = count(*) AND count(*) = count(DISTINCT id) FROM written";
    assert_eq!(all.one(once).await, "t", "each row was written once");
}

/// The numbers whose commit the server has answered.
async fn insert_until_killed(db: &Database, tenant: &str, round: i64) -> Vec<i64> {
    let mut saved = Vec::new();
    // The server may be gone before it has answered the first word.
    let Ok(client) = db.try_connect("app").await else { return saved };
    if client.batch_execute(&format!("SET bulkhead.tenant_context = '{tenant}'")).await.is_err() {
        return saved;
    }
    let first = (i64::from(tenant.as_bytes()[0]) * 100 + round) * 1_000_000;
    for from in (first..).step_by(20) {
        let insert = format!(
            "INSERT INTO leads (document) SELECT jsonb_build_object('n', n) FROM generate_series({from}, {from} + 19) n"
        );
        match client.batch_execute(&insert).await {
            Ok(()) => saved.extend(from..from + 20),
            Err(_) => break,
        }
    }
    saved
}

async fn score_until_killed(db: &Database) {
    let Ok(client) = db.try_connect("postgres").await else { return };
    while client.batch_execute("CALL bulkhead.score_pending('leads', 37)").await.is_ok() {}
}

async fn a_dump_carries_rule_sets_and_attached_tables(db: Database) {
    let _owner = leads(&db).await;
    share(&db, "lead", 1);
    share(&db, "other", 5);
    let (a, b) = (acting(&db, A).await, acting(&db, B).await);
    put(&a, "lead", 10).await;
    put(&a, "lead", 20).await;
    a.run("SELECT bulkhead.activate_rule_set('lead', 1)").await;
    put(&b, "other", 30).await;
    for client in [&a, &b] {
        client.run("INSERT INTO leads (document) VALUES ('{}'), ('{}')").await;
    }
    db.admin("CALL bulkhead.score_pending('leads', 1, 2)").unwrap();
    let picture =
        "SELECT name, tenant, version, active, rules, put_at, put_by FROM bulkhead.rule_sets ORDER BY 1, 2, 3";
    let before = (a.rows(picture).await, b.rows(picture).await);
    assert_eq!(before.0.len(), 4);

    let path = std::env::temp_dir().join(format!("{}.{}.dump", db.name, std::process::id()));
    let mut dump = db.client_program("pg_dump", "postgres");
    let dumped = dump.args(["-Fc", "-f"]).arg(&path).env("PGOPTIONS", "-c bulkhead.bypass=backup").output().unwrap();
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    let there = db.cluster.empty_database("there").unwrap();
    let mut restore = there.client_program("pg_restore", "postgres");
    let restored = restore.args(["-d", &there.name, "--exit-on-error"]).arg(&path).output().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));

    let (a, b) = (acting(&there, A).await, acting(&there, B).await);
    assert_eq!((a.rows(picture).await, b.rows(picture).await), before);
    for (client, name, wanted) in [(&a, "lead", "10"), (&b, "lead", "1"), (&a, "other", "5"), (&b, "other", "30")] {
        assert_eq!(score(client, name).await, wanted, "{name}");
    }
    // What waited is scored, and versions go on where they were.
    there.admin("CALL bulkhead.score_pending('leads')").unwrap();
    let all = "SELECT score, status, rules_version, count(*) FROM leads GROUP BY 1, 2, 3";
    assert_eq!(a.rows(all).await, [["10", "scored", "1", "2"]]);
    assert_eq!(b.rows(all).await, [["1", "scored", "1", "2"]]);
    assert_eq!(put(&a, "lead", 40).await, "3");
    there.admin("CALL bulkhead.rescore('leads')").unwrap();
    assert_eq!(a.rows(all).await, [["40", "scored", "3", "2"]]);
    drop((a, b));
    there.drop().unwrap();
}

async fn a_standby_scores(_: Nowhere) {
    let cluster = Cluster::builder().start().unwrap();
    let db = cluster.database("standby").unwrap();
    let _owner = leads(&db).await;
    share(&db, "lead", 3);
    let a = acting(&db, A).await;
    put(&a, "own", 7).await;
    a.run("INSERT INTO leads (document) VALUES ('{}'), ('{}'), ('{}')").await;
    db.admin("CALL bulkhead.score_pending('leads', 1, 1)").unwrap();
    drop(a);
    cluster.stop().unwrap();
    std::fs::write(cluster.data_dir().join("standby.signal"), "").unwrap();
    cluster.start().unwrap();
    let a = db.connect("app").await;
    assert_eq!(a.one("SELECT pg_is_in_recovery()").await, "t");
    a.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
    assert_eq!((score(&a, "lead").await, score(&a, "own").await), ("3".to_owned(), "7".to_owned()));
    assert_eq!(a.column("SELECT bulkhead.score('own', document) FROM leads").await, ["7", "7", "7"]);
    assert_eq!(
        a.one("SELECT bulkhead.score_explain('own', '{}')").await,
        r#"{"fired": [{"id": "always", "score": 7, "values": {}}], "score": 7, "errors": [], "version": 1}"#
    );
    assert_eq!(
        a.one(&format!("SELECT bulkhead.score_explain('{BY_N}'::jsonb, '{{\"n\": 9}}') ->> 'score'")).await,
        "9"
    );
    assert_eq!(a.one(r#"SELECT bulkhead.jsonlogic('{"+": [1, 2]}', '{}')"#).await, "3");
    assert_eq!(a.column("SELECT name FROM bulkhead.rule_sets ORDER BY 1").await, ["lead", "own"]);
    assert_eq!(a.rows("SELECT scored, failed FROM bulkhead.scoring_progress").await, [["1", "0"]]);
    a.refused("SELECT bulkhead.put_rule_set('own', '[]')").await.state("25006");
    a.refused("SELECT bulkhead.activate_rule_set('own', 1)").await.state("25006");
    let boss = db.connect("postgres").await;
    boss.refused("CALL bulkhead.score_pending('leads')").await.state("25006").hint_contains("on the primary");
    boss.refused("CALL bulkhead.rescore('leads')").await.state("25006");
    assert_eq!(boss.one("SELECT value FROM bulkhead.health() WHERE check_name = 'scoring_lag'").await, "2 rows");
    // Promoted, it goes on where the other ended.
    boss.run("SELECT pg_promote()").await;
    let boss = db.connect("postgres").await;
    boss.run("CALL bulkhead.score_pending('leads')").await;
    assert_eq!(a.column("SELECT status FROM leads").await, ["scored", "scored", "scored"]);
}
