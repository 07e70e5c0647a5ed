//! How a session-level tenant may be replaced in locked mode: by a statement that does nothing else, and by nothing else.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{A, B, OF_A, OF_B, app, notes, seen};
use crate::harness::{SessionPreload, WithoutPreload};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_lone_statement_replaces_a_session_tenant,
        drivers_replace_it_with_bound_parameters,
        nothing_else_replaces_it,
        only_at_the_start_of_a_transaction,
        session_preload_keeps_the_same_rules,
        without_preload_the_same_rules_hold
    ]
}

fn lone_switches() -> Vec<String> {
    vec![
        format!("SET bulkhead.tenant_context = '{B}'"),
        format!("SET SESSION bulkhead.tenant_context TO '{B}'"),
        format!("SELECT set_config('bulkhead.tenant_context', '{B}', false)"),
        format!("SELECT pg_catalog.set_config('bulkhead.tenant_context', '{B}', false) AS x"),
        format!("SELECT set_config('bulkhead.tenant_context', '{B}'::uuid::text, false)"),
        format!("SELECT bulkhead.set_tenant('{B}', false)"),
    ]
}

async fn a_lone_statement_replaces_a_session_tenant(db: Database) {
    let app = app(&db).await;
    for switch in lone_switches() {
        app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
        app.run(&switch).await;
        assert_eq!(seen(&app).await, OF_B, "{switch}");
        // The same inside a block, where it is the first statement.
        app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
        app.run("BEGIN").await;
        app.run(&switch.replace("false", "true").replace("SESSION ", "LOCAL ")).await;
        assert_eq!(seen(&app).await, OF_B, "{switch} in a block");
        app.run("ROLLBACK").await;
        assert_eq!(seen(&app).await, OF_A, "{switch} rolled back");
    }
    // In one message with what follows, as poolers and simple drivers send it.
    app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
    let message = format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{B}'; SELECT id FROM note ORDER BY id; COMMIT");
    assert_eq!(app.column(&message).await, OF_B);
}

async fn drivers_replace_it_with_bound_parameters(db: Database) {
    let app = app(&db).await;
    let uuid: uuid::Uuid = B.parse().unwrap();
    for _ in 0..2 {
        app.query("SELECT set_config('bulkhead.tenant_context', $1, false)", &[&A]).await.unwrap();
        assert_eq!(seen(&app).await, OF_A);
        app.query("SELECT set_config($1, $2, $3)", &[&"bulkhead.tenant_context", &B, &false]).await.unwrap();
        assert_eq!(seen(&app).await, OF_B);
        app.execute("SELECT bulkhead.set_tenant($1, false)", &[&A]).await.unwrap();
        assert_eq!(seen(&app).await, OF_A);
        app.execute("SELECT bulkhead.set_tenant($1::uuid::text, false)", &[&uuid]).await.unwrap();
        assert_eq!(seen(&app).await, OF_B);
    }
}

async fn nothing_else_replaces_it(db: Database) {
    let app = app(&db).await;
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE FUNCTION pick() RETURNS text LANGUAGE sql AS $$ SELECT '{B}'::text $$;
             CREATE FUNCTION become(id text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('bulkhead.tenant_context', id, false) $$;
             CREATE FUNCTION become_later(id text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN set_config('bulkhead.tenant_context', id, false); END $$;
             CREATE PROCEDURE call_become() LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('bulkhead.tenant_context', '{B}', false); END $$"
        ))
        .await;
    app.run(&format!("SET bulkhead.tenant_context = '{A}'; PREPARE p(text) AS SELECT $1; PREPARE switch(text) AS SELECT bulkhead.set_tenant($1, false)")).await;
    let set = format!("set_config('bulkhead.tenant_context', '{B}', false)");
    for sql in [
        format!("SELECT {set}, 1"),
        format!("SELECT 1, {set}"),
        format!("SELECT {set} FROM generate_series(1, 1)"),
        format!("SELECT * FROM {set}"),
        format!("SELECT {set} WHERE true IS NOT NULL AND random() < 2"),
        format!("SELECT ({set})::text || ''"),
        format!("SELECT (SELECT {set})"),
        format!("SELECT {set} UNION ALL SELECT 'x'"),
        format!("VALUES ({set})"),
        "SELECT set_config('bulkhead.tenant_context', pick(), false) FROM pg_class LIMIT 1".to_owned(),
        "SELECT set_config('bulkhead.tenant_context', (SELECT max(body) FROM note), false)".to_owned(),
        format!("SELECT become('{B}') FROM pg_am LIMIT 1"),
        format!("SELECT become_later('{B}')"),
        format!("EXECUTE p({set})"),
        format!("EXECUTE switch('{B}')"),
        format!("EXPLAIN ANALYZE SELECT {set}"),
        format!("CREATE TEMP TABLE t AS SELECT {set}"),
        format!("DO $$ BEGIN PERFORM {set}; END $$"),
        format!("DO $$ BEGIN SET bulkhead.tenant_context = '{B}'; END $$"),
        "CALL call_become()".to_owned(),
    ] {
        let error = app.simple_query(&sql).await.err();
        let state = error.as_ref().and_then(|error| error.code()).map(|code| code.code().to_owned());
        assert_eq!(state.as_deref(), Some("42501"), "{sql}: {error:?}");
        assert_eq!(seen(&app).await, OF_A, "{sql}");
    }
    let output =
        db.psql("app", &format!("SET bulkhead.tenant_context = '{A}'; COPY (SELECT {set}) TO STDOUT;")).unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be changed"), "{output:?}");
}

async fn only_at_the_start_of_a_transaction(db: Database) {
    let app = app(&db).await;
    app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
    for touch in [
        "SELECT count(*) FROM note",
        "UPDATE note SET body = body",
        "SELECT query_to_xml('SELECT * FROM note', true, false, '')",
    ] {
        for switch in lone_switches() {
            app.run(&format!("BEGIN; {touch}")).await;
            app.refused(&switch).await.state("42501").detail_contains("another tenant already");
            app.run("ROLLBACK").await;
        }
    }
    // What touches no protected table may come before.
    app.run(&format!("BEGIN; SELECT count(*) FROM pg_class; SET bulkhead.tenant_context = '{B}'")).await;
    assert_eq!(seen(&app).await, OF_B);
}

async fn session_preload_keeps_the_same_rules(db: SessionPreload) {
    rules_in_short(&db).await;
}

async fn without_preload_the_same_rules_hold(db: WithoutPreload) {
    rules_in_short(&db).await;
}

async fn rules_in_short(db: &Database) {
    notes(db).await;
    for warm in [false, true] {
        let app = db.connect("app").await;
        if warm {
            app.one("SELECT count(bulkhead.tenant_id())").await;
        }
        app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
        assert_eq!(seen(&app).await, OF_A);
        app.run(&format!("SET bulkhead.tenant_context = '{B}'")).await;
        assert_eq!(seen(&app).await, OF_B);
        app.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'")).await;
        assert_eq!(seen(&app).await, OF_A);
        app.refused(&format!(
            "SELECT set_config('bulkhead.tenant_context', '{B}', true) UNION ALL SELECT body FROM note"
        ))
        .await
        .state("42501");
        app.run("ROLLBACK").await;
        app.refused(&format!(
            "SELECT * FROM note WHERE set_config('bulkhead.tenant_context', '{A}', true) IS NOT NULL"
        ))
        .await
        .state("42501");
    }
}
