//! Which version counts: after every kind of change, in every session, and for whom.

use libtest_mimic::Trial;
use pg_test::{Client, Cluster, Database};

use super::fixture::{A, B, acting, put, score, share};
use crate::harness::Skip;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        the_last_one_put_counts,
        another_session_changes_it,
        a_rollback_and_a_savepoint_leave_nothing,
        a_statement_keeps_what_it_began_with,
        a_tenants_own_shadows_the_shared,
        a_tenant_never_gets_anothers,
        an_earlier_version_is_activated,
        an_earlier_shared_version_is_activated,
        a_draft_is_put_without_effect,
        two_put_at_once,
        repeatable_read_sees_its_own_time,
        the_view_shows_ones_own_and_the_shared,
        tables_are_sealed,
        through_a_pooler,
        while_a_prepared_transaction_waits => 240,
    ]
}

async fn the_last_one_put_counts(db: Database) {
    let a = acting(&db, A).await;
    a.refused("SELECT bulkhead.score('lead', '{}')").await.state("55000").message("there is no rule set \"lead\"");
    for version in 1..=5 {
        assert_eq!(put(&a, "lead", version * 10).await, version.to_string());
        assert_eq!(score(&a, "lead").await, (version * 10).to_string());
    }
    assert_eq!(a.one("SELECT bulkhead.score_explain('lead', '{}') ->> 'version'").await, "5");
    assert_eq!(a.one("SELECT bulkhead.score('lead', NULL) IS NULL").await, "t");
}

async fn another_session_changes_it(db: Database) {
    let (one, two) = (acting(&db, A).await, acting(&db, A).await);
    put(&one, "lead", 1).await;
    assert_eq!(score(&two, "lead").await, "1");
    put(&one, "lead", 2).await;
    assert_eq!(score(&two, "lead").await, "2");
    two.run("BEGIN").await;
    assert_eq!(score(&two, "lead").await, "2");
    put(&one, "lead", 3).await;
    assert_eq!(score(&two, "lead").await, "3", "READ COMMITTED: each statement sees what is committed");
    one.run("BEGIN").await;
    put(&one, "lead", 4).await;
    assert_eq!(score(&two, "lead").await, "3");
    assert_eq!(score(&one, "lead").await, "4");
    one.run("COMMIT").await;
    assert_eq!(score(&two, "lead").await, "4");
    two.run("COMMIT").await;
}

async fn a_rollback_and_a_savepoint_leave_nothing(db: Database) {
    let a = acting(&db, A).await;
    put(&a, "lead", 1).await;
    a.run("BEGIN").await;
    put(&a, "lead", 2).await;
    assert_eq!(score(&a, "lead").await, "2");
    a.run("ROLLBACK").await;
    assert_eq!(score(&a, "lead").await, "1");
    a.run("BEGIN").await;
    assert_eq!(put(&a, "lead", 30).await, "2", "the number is given again, with other rules");
    assert_eq!(score(&a, "lead").await, "30");
    a.run("SAVEPOINT s").await;
    put(&a, "lead", 40).await;
    assert_eq!(score(&a, "lead").await, "40");
    a.run("ROLLBACK TO s").await;
    assert_eq!(score(&a, "lead").await, "30");
    a.run("SAVEPOINT t").await;
    put(&a, "lead", 50).await;
    a.run("RELEASE t").await;
    assert_eq!(score(&a, "lead").await, "50");
    a.run("COMMIT").await;
    assert_eq!(score(&a, "lead").await, "50");
    let handled = r#"DO $$ BEGIN
        BEGIN PERFORM bulkhead.put_rule_set('lead', '[{"id": "x", "when": true, "score": 99}]');
          ASSERT bulkhead.score('lead', '{}') = 99; RAISE 'no';
        EXCEPTION WHEN raise_exception THEN NULL; END;
        ASSERT bulkhead.score('lead', '{}') = 50, bulkhead.score('lead', '{}'); END $$"#;
    a.run(handled).await;
}

async fn a_statement_keeps_what_it_began_with(db: Database) {
    let (one, two) = (acting(&db, A).await, acting(&db, A).await);
    put(&one, "lead", 1).await;
    two.run("BEGIN; DECLARE c CURSOR FOR SELECT bulkhead.score('lead', '{}') FROM generate_series(1, 10)").await;
    assert_eq!(two.one("FETCH c").await, "1");
    put(&one, "lead", 2).await;
    assert_eq!(score(&two, "lead").await, "2");
    assert_eq!(two.one("FETCH c").await, "1", "its snapshot is older");
    assert_eq!(score(&two, "lead").await, "2");
    put(&two, "lead", 3).await;
    assert_eq!(two.one("FETCH c").await, "1");
    assert_eq!(score(&two, "lead").await, "3");
    two.run("COMMIT").await;
}

async fn a_tenants_own_shadows_the_shared(db: Database) {
    share(&db, "lead", 1);
    let (a, b, naked) = (acting(&db, A).await, acting(&db, B).await, db.connect("app").await);
    put(&a, "lead", 2).await;
    assert_eq!(score(&a, "lead").await, "2");
    assert_eq!(score(&b, "lead").await, "1");
    assert_eq!(score(&naked, "lead").await, "1");
    share(&db, "lead", 10);
    assert_eq!((score(&a, "lead").await, score(&b, "lead").await), ("2".into(), "10".into()));
    a.run("SELECT bulkhead.activate_rule_set('lead', NULL)").await;
    assert_eq!(score(&a, "lead").await, "10", "none of its own is active");
    naked
        .refused("SELECT bulkhead.put_rule_set('lead', '[]')")
        .await
        .state("42501")
        .message_contains("no tenant context");
    let plain = db.connect("owner").await;
    for function in ["put_rule_set('x', '[]')", "put_shared_rule_set('x', '[]')", "activate_rule_set('x', 1)"] {
        plain
            .refused(&format!("SELECT bulkhead.{function}"))
            .await
            .state("42501")
            .message_contains("permission denied");
    }
}

async fn a_tenant_never_gets_anothers(db: Database) {
    db.admin(&format!("ALTER DATABASE {} SET bulkhead.context_mode = open", db.name)).unwrap();
    let (a, b) = (acting(&db, A).await, acting(&db, B).await);
    put(&a, "lead", 1).await;
    put(&b, "lead", 2).await;
    put(&a, "only_a", 7).await;
    // One backend, one transaction, prepared and not, from one tenant to the other and back.
    a.run("PREPARE s AS SELECT bulkhead.score('lead', '{}'); BEGIN").await;
    for _ in 0..8 {
        for (tenant, wanted) in [(A, "1"), (B, "2")] {
            a.run(&format!("SET LOCAL bulkhead.tenant_context = '{tenant}'")).await;
            assert_eq!(a.one("EXECUTE s").await, wanted);
            assert_eq!(score(&a, "lead").await, wanted);
        }
    }
    a.refused("SELECT bulkhead.score('only_a', '{}')").await.state("55000");
    a.run("ROLLBACK; SET bulkhead.tenant_context = ''").await;
    a.refused("SELECT bulkhead.score('lead', '{}')").await.state("55000").detail_contains("acts for no tenant");
    db.admin(&format!("ALTER DATABASE {} RESET bulkhead.context_mode", db.name)).unwrap();
    // Reading rules is reading a tenant's rows: the transaction keeps to that tenant.
    let locked = acting(&db, A).await;
    locked.run("BEGIN; SELECT bulkhead.score('lead', '{}')").await;
    locked.refused(&format!("SET LOCAL bulkhead.tenant_context = '{B}'")).await.state("42501");
}

async fn an_earlier_version_is_activated(db: Database) {
    let a = acting(&db, A).await;
    put(&a, "lead", 1).await;
    put(&a, "lead", 2).await;
    a.run("SELECT bulkhead.activate_rule_set('lead', 1)").await;
    assert_eq!(score(&a, "lead").await, "1");
    assert_eq!(put(&a, "lead", 3).await, "3");
    assert_eq!(score(&a, "lead").await, "3");
    a.refused("SELECT bulkhead.activate_rule_set('lead', 9)").await.state("55000").message_contains("no version 9");
    a.refused("SELECT bulkhead.activate_rule_set(NULL, 1)").await.state("22023");
    assert_eq!(score(&a, "lead").await, "3");
}

async fn an_earlier_shared_version_is_activated(db: Database) {
    let (a, b) = (acting(&db, A).await, acting(&db, B).await);
    share(&db, "lead", 1);
    share(&db, "lead", 2);
    put(&b, "lead", 10).await;
    assert_eq!(score(&a, "lead").await, "2");
    let activate = |version: i32| format!("SELECT bulkhead.activate_shared_rule_set('lead', {version})");
    db.admin(&activate(1)).unwrap();
    assert_eq!(score(&a, "lead").await, "1");
    assert_eq!(score(&b, "lead").await, "10", "a tenant's own");
    a.refused(&activate(2)).await.state("42501").message_contains("activate_shared_rule_set");
    let admin = db.connect("postgres").await;
    admin.refused(&activate(9)).await.state("55000").message_contains("no version 9");
    assert_eq!(score(&a, "lead").await, "1");
}

async fn a_draft_is_put_without_effect(db: Database) {
    let a = acting(&db, A).await;
    put(&a, "lead", 1).await;
    let put = r#"SELECT bulkhead.put_rule_set('lead', '[{"id": "x", "when": true, "score": 2}]', false)"#;
    assert_eq!(a.one(put).await, "2");
    assert_eq!(score(&a, "lead").await, "1");
    let draft = r#"SELECT bulkhead.score_explain('[{"id": "x", "when": true, "score": 2.50}]'::jsonb, '{}')"#;
    assert_eq!(
        a.one(draft).await,
        r#"{"fired": [{"id": "x", "score": 2.50, "values": {}}], "score": 2.50, "errors": [], "version": null}"#
    );
}

async fn two_put_at_once(db: Database) {
    let (one, two) = (acting(&db, A).await, acting(&db, A).await);
    one.run("BEGIN").await;
    put(&one, "lead", 1).await;
    let waiting = tokio::spawn(async move {
        let version = put(&two, "lead", 2).await;
        (version, score(&two, "lead").await)
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "it waits for the other's transaction");
    // Another name waits for nobody.
    put(&acting(&db, A).await, "other", 5).await;
    one.run("COMMIT").await;
    assert_eq!(waiting.await.unwrap(), ("2".to_owned(), "2".to_owned()));
}

async fn repeatable_read_sees_its_own_time(db: Database) {
    let (one, two) = (acting(&db, A).await, acting(&db, A).await);
    put(&one, "lead", 1).await;
    two.run("BEGIN ISOLATION LEVEL REPEATABLE READ").await;
    assert_eq!(score(&two, "lead").await, "1");
    put(&one, "lead", 2).await;
    assert_eq!(score(&two, "lead").await, "1");
    two.refused(r#"SELECT bulkhead.put_rule_set('lead', '[{"id": "x", "when": true, "score": 3}]')"#)
        .await
        .state("40001");
    two.run("ROLLBACK").await;
    assert_eq!(score(&two, "lead").await, "2");
}

async fn the_view_shows_ones_own_and_the_shared(db: Database) {
    share(&db, "common", 1);
    let (a, b, naked) = (acting(&db, A).await, acting(&db, B).await, db.connect("svc").await);
    put(&a, "lead", 1).await;
    put(&a, "lead", 2).await;
    put(&b, "secret", 3).await;
    let all = "SELECT name, tenant, version, active, put_by FROM bulkhead.rule_sets ORDER BY name, version";
    let common = ["common", "NULL", "1", "t", "postgres"];
    assert_eq!(a.rows(all).await, [common, ["lead", A, "1", "f", "app"], ["lead", A, "2", "t", "app"]]);
    assert_eq!(naked.rows(all).await, [common]);
    let exact = r#"SELECT bulkhead.put_rule_set('exact', '[{"id": "x", "when": true, "score": 0.1234567890123456789012345678901234567890}]')"#;
    a.run(exact).await;
    assert_eq!(
        a.one("SELECT rules -> 0 ->> 'score' FROM bulkhead.rule_sets WHERE name = 'exact'").await,
        "0.1234567890123456789012345678901234567890"
    );
    assert_eq!(score(&a, "exact").await, "0.1234567890123456789012345678901234567890");
}

async fn tables_are_sealed(db: Database) {
    let a = acting(&db, A).await;
    put(&a, "lead", 1).await;
    for table in ["rule_set", "shared_rule_set"] {
        a.refused(&format!("SELECT * FROM bulkhead.{table}")).await.state("42501");
    }
    let boss = db.connect("postgres").await;
    boss.refused("SELECT * FROM bulkhead.rule_set").await.state("42501");
    boss.run(&format!("SET bulkhead.tenant_context = '{B}'")).await;
    assert_eq!(boss.one("SELECT count(*) FROM bulkhead.rule_set").await, "0");
    boss.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
    assert_eq!(boss.one("SELECT count(*) FROM bulkhead.rule_set").await, "1");
}

async fn through_a_pooler(db: Database) -> Result<(), Skip> {
    let pooler = crate::pooled::pooler(&db, 1)?;
    put(&acting(&db, A).await, "lead", 1).await;
    put(&acting(&db, B).await, "lead", 2).await;
    // One connection of the server serves both.
    let (one, two) = (pooler.connect("app", &db).await, pooler.connect("app", &db).await);
    for _ in 0..5 {
        for (client, tenant, wanted) in [(&one, A, "1"), (&two, B, "2")] {
            client.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{tenant}'")).await;
            assert_eq!(score(client, "lead").await, wanted);
            client.run("COMMIT").await;
        }
        one.refused("SELECT bulkhead.score('lead', '{}')").await.state("55000");
    }
    Ok(())
}

/// As long as it waits for a synchronous standby it runs twice: as the session's and as the prepared one. A snapshot that lost one transaction and got it instead
/// has as many as before.
async fn while_a_prepared_transaction_waits(_: Database) {
    let cluster = Cluster::builder()
        .setting("synchronous_standby_names", "nobody")
        .setting("synchronous_commit", "local")
        .start()
        .unwrap();
    let db = cluster.database("prepared").unwrap();
    share(&db, "s", 1);
    db.admin("CREATE TABLE t (i integer); GRANT INSERT ON t TO app").unwrap();
    let (oldest, putter, scorer) = (db.connect("app").await, db.connect("postgres").await, db.connect("app").await);
    oldest.run("BEGIN; INSERT INTO t VALUES (1)").await;
    let two = r#"[{"id": "always", "when": true, "score": 2}]"#;
    putter.run(&format!("BEGIN; SELECT bulkhead.put_shared_rule_set('s', '{two}')")).await;
    let preparing = db.connect("app").await;
    preparing.run("SET synchronous_commit = on; BEGIN; INSERT INTO t VALUES (2)").await;
    db.admin("INSERT INTO t VALUES (3)").unwrap();
    assert_eq!(score(&scorer, "s").await, "1");
    let waiting = tokio::spawn(async move {
        preparing.run("PREPARE TRANSACTION 'p'").await;
        preparing
    });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    while db.admin(waits).unwrap() != "1" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    putter.run("COMMIT").await;
    assert_eq!(score(&scorer, "s").await, "2");
    // And then nobody waits any more.
    db.admin("ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf()").unwrap();
    let preparing: Client = waiting.await.unwrap();
    preparing.run("ROLLBACK PREPARED 'p'").await;
    oldest.run("COMMIT").await;
}
