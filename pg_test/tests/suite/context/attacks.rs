//! Ways round locked mode that worked once: each kept as it was found.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{A, B, OF_A, app, notes, seen};
use crate::fixture::parallel_setting;
use crate::harness::WithoutPreload;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_parallel_worker_switches_no_tenant,
        a_worker_does_not_see_a_hidden_tenant,
        what_a_worker_read_counts_as_read,
        a_worker_without_a_tenant_is_refused,
        planning_cannot_clear_and_set,
        a_type_checked_while_parsing_cannot_switch,
        after_commit_in_a_block_a_session_tenant_still_holds,
        reset_to_a_default_tenant_inside_a_query_shows_nothing,
        asking_whether_a_value_would_do_is_no_switch,
        a_library_that_loads_late_keeps_the_last_tenant
    ]
}

async fn reader(db: &Database) -> Client {
    let app = app(db).await;
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE FUNCTION reads() RETURNS text LANGUAGE plpgsql PARALLEL SAFE STABLE AS
               $$ BEGIN RETURN (SELECT string_agg(body, ',' ORDER BY id) FROM note); END $$;
             CREATE FUNCTION reads_as_b() RETURNS text LANGUAGE plpgsql PARALLEL SAFE STABLE SET bulkhead.tenant_context = '{B}' AS
               $$ BEGIN RETURN (SELECT string_agg(body, ',' ORDER BY id) FROM note); END $$;
             CREATE FUNCTION clears_and_reads_as_b() RETURNS SETOF text LANGUAGE plpgsql AS
               $$ BEGIN PERFORM set_config('bulkhead.tenant_context', '', true); RETURN QUERY SELECT reads_as_b(); END $$"
        ))
        .await;
    app.run(&format!("SET {} = on", parallel_setting(&app).await)).await;
    app
}

async fn a_parallel_worker_switches_no_tenant(db: Database) {
    let app = reader(&db).await;
    app.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'")).await;
    assert_eq!(seen(&app).await, OF_A);
    app.run("SAVEPOINT s").await;
    for attack in ["SELECT clears_and_reads_as_b()", "SELECT reads_as_b()"] {
        app.refused(attack).await.state("42501").message("the tenant of this transaction cannot be changed");
        app.run("ROLLBACK TO s").await;
    }
    app.run("ROLLBACK").await;
    app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
    for attack in ["SELECT clears_and_reads_as_b()", "SELECT reads_as_b()"] {
        app.refused(attack).await.state("42501");
    }
    assert_eq!(app.one("SELECT reads()").await, "note 1,note 2,note 3,note 4,note 5");
}

async fn a_worker_does_not_see_a_hidden_tenant(db: Database) {
    let app = reader(&db).await;
    app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
    app.run(&format!("BEGIN; SAVEPOINT s; SET LOCAL bulkhead.tenant_context = '{B}'")).await;
    assert_eq!(seen(&app).await, ["6", "7", "8"]);
    app.run("ROLLBACK TO s").await;
    app.refused("SELECT reads()").await.state("42501").detail_contains("another tenant than the one");
}

async fn what_a_worker_read_counts_as_read(db: Database) {
    let app = reader(&db).await;
    app.run(&format!("SET bulkhead.tenant_context = '{A}'; BEGIN")).await;
    assert_eq!(app.one("SELECT reads()").await, "note 1,note 2,note 3,note 4,note 5");
    app.refused(&format!("SET LOCAL bulkhead.tenant_context = '{B}'")).await.state("42501");
}

async fn a_worker_without_a_tenant_is_refused(db: Database) {
    let app = reader(&db).await;
    app.refused("SELECT reads()").await.state("42501").message("no tenant context for protected table public.note");
}

async fn planning_cannot_clear_and_set(db: Database) {
    let app = app(&db).await;
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE FUNCTION imm() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ DECLARE v text; BEGIN
               v := set_config('bulkhead.tenant_context', NULL, false); v := set_config('bulkhead.tenant_context', '{B}', false);
               RETURN true; END $$"
        ))
        .await;
    app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
    for attack in ["SELECT * FROM note WHERE imm()", "EXPLAIN SELECT * FROM note WHERE imm()", "SELECT imm()"] {
        app.refused(attack).await.state("42501");
        assert_eq!(seen(&app).await, OF_A, "{attack}");
    }
}

async fn a_type_checked_while_parsing_cannot_switch(db: Database) {
    let app = app(&db).await;
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE DOMAIN cleared AS text CHECK (set_config('bulkhead.tenant_context', NULL, false) = '');
             CREATE DOMAIN switched AS text CHECK (set_config('bulkhead.tenant_context', VALUE, false) IS NOT NULL);
             CREATE TYPE pair AS (c cleared, s switched)",
        )
        .await;
    app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
    app.refused(&format!("SELECT * FROM note WHERE '(x,{B})'::pair IS NOT NULL")).await.state("42501");
    assert_eq!(seen(&app).await, OF_A);
}

async fn after_commit_in_a_block_a_session_tenant_still_holds(db: Database) {
    let app = app(&db).await;
    app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
    app.refused(&format!(
        "DO $$ DECLARE v text; BEGIN COMMIT;
           v := set_config('bulkhead.tenant_context', NULL, false); v := set_config('bulkhead.tenant_context', '{B}', false);
           RAISE NOTICE '%', (SELECT string_agg(body, ',') FROM note); END $$"
    ))
    .await
    .state("42501");
    assert_eq!(app.notices(), [""; 0]);
}

async fn reset_to_a_default_tenant_inside_a_query_shows_nothing(db: Database) {
    notes(&db).await;
    let admin = db.connect("postgres").await;
    admin.run(&format!("ALTER ROLE app IN DATABASE {} SET bulkhead.tenant_context = '{B}'", db.name)).await;
    for start in
        [format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'"), format!("SET bulkhead.tenant_context = '{A}'")]
    {
        for value in ["NULL", "''"] {
            let app = db.connect("app").await;
            app.run(&start).await;
            let attack = format!(
                "SELECT set_config('bulkhead.tenant_context', {value}, false), set_config('bulkhead.tenant_context', NULL, false),
                        query_to_xml('SELECT body FROM note', false, true, '')"
            );
            app.refused(&attack).await.state("42501");
        }
    }
    // By a statement of its own it is a switch like any other.
    let app = db.connect("app").await;
    app.run(&format!("SET bulkhead.tenant_context = '{A}'; RESET bulkhead.tenant_context")).await;
    assert_eq!(seen(&app).await, ["6", "7", "8"]);
}

async fn asking_whether_a_value_would_do_is_no_switch(db: Database) {
    let app = app(&db).await;
    let alter = format!("ALTER ROLE app SET bulkhead.tenant_context = '{B}'");
    app.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'; {alter}")).await;
    assert_eq!(seen(&app).await, OF_A);
    app.run("ROLLBACK").await;
    app.run(&format!("BEGIN; {alter}; SET LOCAL bulkhead.tenant_context = '{A}'")).await;
    assert_eq!(seen(&app).await, OF_A);
    app.run("ROLLBACK").await;
}

async fn a_library_that_loads_late_keeps_the_last_tenant(db: WithoutPreload) {
    notes(&db).await;
    let app = db.connect("app").await;
    app.run(&format!("SET bulkhead.tenant_context = '{B}'")).await;
    app.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'")).await;
    assert_eq!(seen(&app).await, OF_A);
    app.refused(&format!("SET LOCAL bulkhead.tenant_context = '{B}'")).await.state("42501");
    app.run("ROLLBACK").await;
    assert_eq!(seen(&app).await, ["6", "7", "8"]);
}
