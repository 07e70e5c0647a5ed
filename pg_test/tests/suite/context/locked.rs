//! context_mode = locked: what an attacker in the middle of a statement may try, as a plain role.
//!
//! Each way is tried from three starting points: a local tenant A, a session-level tenant A, and none. Whatever happens, no row of
//! tenant B may come back, and no tenant other than A may be in force afterwards.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{A, B, OF_A, OF_B, app, notes, seen};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        no_query_switches_the_tenant_and_reads_the_other,
        a_second_tenant_is_refused_by_every_form,
        clearing_is_allowed_and_reopens_nothing,
        rollback_to_a_savepoint_does_not_reopen,
        reset_to_a_roles_own_tenant_shows_no_second_one,
        reading_without_a_tenant_fixes_the_transaction,
        a_statement_planned_without_a_tenant_gets_none_from_the_planner,
        a_security_definer_wrapper_is_refused,
        a_transaction_in_a_procedure_may_have_its_own_tenant
    ]
}

/// Runs `sql` and gives what came back, rows or the error, as one text.
async fn attempt(client: &Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(messages) => format!("{messages:?}"),
        Err(error) => format!("refused: {error:?}"),
    }
}

async fn helpers(db: &Database) {
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE FUNCTION switch() RETURNS boolean LANGUAGE sql AS
               $$ SELECT set_config('bulkhead.tenant_context', '{B}', false) IS NOT NULL $$;
             CREATE FUNCTION switch_plpgsql() RETURNS boolean LANGUAGE plpgsql AS
               $$ BEGIN SET bulkhead.tenant_context = '{B}'; RETURN true; END $$;
             CREATE FUNCTION switch_immutable() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
               $$ BEGIN PERFORM set_config('bulkhead.tenant_context', '{B}', false); RETURN true; END $$;
             CREATE FUNCTION read_as_b() RETURNS SETOF note LANGUAGE plpgsql SET bulkhead.tenant_context = '{B}' AS
               $$ BEGIN RETURN QUERY SELECT * FROM note; END $$;
             CREATE FUNCTION clear_switch_read() RETURNS SETOF note LANGUAGE plpgsql AS
               $$ BEGIN PERFORM set_config('bulkhead.tenant_context', '', false);
                        PERFORM set_config('bulkhead.tenant_context', '{B}', false); RETURN QUERY SELECT * FROM note; END $$;
             CREATE FUNCTION reset_switch_read() RETURNS SETOF note LANGUAGE plpgsql AS
               $$ BEGIN RESET bulkhead.tenant_context; SET bulkhead.tenant_context = '{B}'; RETURN QUERY SELECT * FROM note; END $$;
             CREATE FUNCTION savepoint_switch_read() RETURNS SETOF note LANGUAGE plpgsql AS
               $$ BEGIN BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END;
                        PERFORM set_config('bulkhead.tenant_context', '{B}', false); RETURN QUERY SELECT * FROM note; END $$"
        ))
        .await;
}

/// Single statements; `{ctx}` is the call that switches to B.
const ATTACKS: &[&str] = &[
    "SELECT {ctx} UNION ALL SELECT body FROM note",
    "SELECT body FROM note UNION ALL SELECT {ctx} UNION ALL SELECT body FROM note",
    "SELECT * FROM note WHERE {ctx} IS NOT NULL",
    "SELECT * FROM note WHERE {ctx} IS NOT NULL OR id > 0",
    "SELECT {ctx}, (SELECT string_agg(body, ',') FROM note)",
    "SELECT {ctx}, query_to_xml('SELECT * FROM note', true, false, '')",
    "SELECT {ctx}, n.* FROM note n",
    "WITH s AS MATERIALIZED (SELECT {ctx} AS x) SELECT s.x, n.* FROM s LEFT JOIN note n ON true",
    "SELECT n.* FROM (SELECT {ctx} OFFSET 0) s, LATERAL (SELECT * FROM note OFFSET 0) n",
    "SELECT * FROM {from}, query_to_xml('SELECT * FROM note', true, false, '')",
    "SELECT * FROM note ORDER BY {ctx}",
    "SELECT count(*), {ctx} FROM note GROUP BY 2",
    "SELECT CASE WHEN {ctx} IS NULL THEN NULL ELSE query_to_xml('TABLE note', true, false, '') END",
    "SELECT query_to_xml('SELECT ' || quote_literal({ctx}) || ', note.* FROM note', true, false, '')",
    "SELECT query_to_xml($q$SELECT {ctx}$q$, true, false, ''), query_to_xml('SELECT * FROM note', true, false, '')",
    "SELECT * FROM note WHERE switch()",
    "SELECT switch(), query_to_xml('SELECT * FROM note', true, false, '')",
    "SELECT switch_plpgsql(), query_to_xml('SELECT * FROM note', true, false, '')",
    "SELECT * FROM note WHERE switch_immutable()",
    "EXPLAIN (VERBOSE) SELECT * FROM note WHERE switch_immutable()",
    "SELECT switch_immutable(), query_to_xml('SELECT * FROM note', true, false, '')",
    "SELECT * FROM read_as_b()",
    "SELECT * FROM clear_switch_read()",
    "SELECT * FROM reset_switch_read()",
    "SELECT * FROM savepoint_switch_read()",
    "EXPLAIN ANALYZE SELECT {ctx}, query_to_xml('SELECT * FROM note', true, false, '')",
    "VALUES ({ctx}), (query_to_xml('SELECT * FROM note', true, false, '')::text)",
    "COPY (SELECT {ctx}, query_to_xml('SELECT * FROM note', true, false, '')) TO STDOUT",
    "UPDATE note SET body = body WHERE {ctx} IS NOT NULL RETURNING *",
    "DELETE FROM note WHERE {ctx} IS NOT NULL RETURNING *",
    "INSERT INTO note (id, body) SELECT 100, {ctx} RETURNING *",
];

const SWITCHES: [(&str, &str); 3] = [
    ("set_config('bulkhead.tenant_context', '{B}', false)", "set_config('bulkhead.tenant_context', '{B}', false)"),
    ("set_config('bulkhead.tenant_context', '{B}', true)", "set_config('bulkhead.tenant_context', '{B}', true)"),
    ("bulkhead.set_tenant('{B}', false)::text", "bulkhead.set_tenant('{B}', false)"),
];

async fn no_query_switches_the_tenant_and_reads_the_other(db: Database) {
    let app = app(&db).await;
    helpers(&db).await;
    let starts = [
        ("local", format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'")),
        ("session", format!("SET bulkhead.tenant_context = '{A}'; BEGIN")),
        ("session, no block", format!("SET bulkhead.tenant_context = '{A}'")),
    ];
    let mut tried = 0;
    for (start, begin) in &starts {
        for attack in ATTACKS {
            for (call, from) in SWITCHES {
                let sql = attack.replace("{ctx}", call).replace("{from}", from).replace("{B}", B);
                app.run(begin).await;
                let answer = attempt(&app, &sql).await;
                for body in ["note 6", "note 7", "note 8"] {
                    assert!(
                        !answer.contains(body),
                        "with a {start} tenant, a row of B came back from\n{sql}\n{answer}"
                    );
                }
                let _ = app.try_run("ROLLBACK").await;
                let after = app.one("SHOW bulkhead.tenant_context").await;
                assert!(after != B, "with a {start} tenant, B was in force after\n{sql}\n{answer}");
                app.run("RESET bulkhead.tenant_context").await;
                tried += 1;
                if !attack.contains('{') {
                    break;
                }
            }
        }
    }
    assert!(tried > 200, "only {tried} attempts were made");
    assert_eq!(db.admin("SELECT count(*) FROM note").unwrap(), "8");
}

async fn a_second_tenant_is_refused_by_every_form(db: Database) {
    let app = app(&db).await;
    helpers(&db).await;
    for form in [
        format!("SET LOCAL bulkhead.tenant_context = '{B}'"),
        format!("SET bulkhead.tenant_context = '{B}'"),
        format!("SELECT set_config('bulkhead.tenant_context', '{B}', true)"),
        format!("SELECT bulkhead.set_tenant('{B}')"),
        format!("DO $$ BEGIN PERFORM bulkhead.set_tenant('{B}'); END $$"),
        "SELECT switch()".to_owned(),
        "SELECT switch_plpgsql()".to_owned(),
        "SELECT * FROM read_as_b()".to_owned(),
    ] {
        app.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'")).await;
        app.refused(&form)
            .await
            .state("42501")
            .message("the tenant of this transaction cannot be changed")
            .detail_contains("another tenant already")
            .hint_contains("End the transaction first");
        app.run("ROLLBACK").await;
    }
    // The same tenant again is no change, and the next transaction is free.
    app.run(&format!(
        "BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'; SET LOCAL bulkhead.tenant_context = '{}'; COMMIT",
        A.to_uppercase()
    ))
    .await;
    app.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{B}'")).await;
    assert_eq!(seen(&app).await, OF_B);
}

async fn clearing_is_allowed_and_reopens_nothing(db: Database) {
    let app = app(&db).await;
    for clear in ["RESET bulkhead.tenant_context", "SET LOCAL bulkhead.tenant_context = ''", "RESET ALL"] {
        app.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'; {clear}; SAVEPOINT s")).await;
        app.refused(&format!("SET LOCAL bulkhead.tenant_context = '{B}'")).await.state("42501");
        app.run("ROLLBACK TO s").await;
        app.refused("SELECT FROM note").await.state("42501").message_contains("no tenant context");
        app.run(&format!("ROLLBACK TO s; SET LOCAL bulkhead.tenant_context = '{A}'")).await;
        assert_eq!(seen(&app).await, OF_A);
        app.run("ROLLBACK").await;
    }
}

async fn rollback_to_a_savepoint_does_not_reopen(db: Database) {
    let app = app(&db).await;
    app.run(&format!("BEGIN; SAVEPOINT s; SET LOCAL bulkhead.tenant_context = '{A}'; ROLLBACK TO s")).await;
    app.refused(&format!("SET LOCAL bulkhead.tenant_context = '{B}'")).await.state("42501");
    app.run("ROLLBACK").await;
    // A session-level tenant that was replaced inside a savepoint is back, as long as no row of the other was seen.
    app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
    app.run(&format!("BEGIN; SAVEPOINT s; SET LOCAL bulkhead.tenant_context = '{B}'; ROLLBACK TO s")).await;
    assert_eq!(seen(&app).await, OF_A);
    app.refused(&format!("SET LOCAL bulkhead.tenant_context = '{B}'")).await.state("42501");
    app.run("ROLLBACK").await;
    app.run(&format!("BEGIN; SAVEPOINT s; SET LOCAL bulkhead.tenant_context = '{B}'")).await;
    assert_eq!(seen(&app).await, OF_B);
    app.run("ROLLBACK TO s").await;
    app.refused("SELECT FROM note")
        .await
        .state("42501")
        .detail_contains("A rollback or RESET brought back another tenant")
        .hint_contains("End this transaction");
}

async fn reset_to_a_roles_own_tenant_shows_no_second_one(db: Database) {
    notes(&db).await;
    let admin = db.connect("postgres").await;
    admin.run(&format!("ALTER ROLE app IN DATABASE {} SET bulkhead.tenant_context = '{B}'", db.name)).await;
    let app = db.connect("app").await;
    for reset in ["RESET bulkhead.tenant_context", "RESET ALL", "SET LOCAL bulkhead.tenant_context TO DEFAULT"] {
        app.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'")).await;
        assert_eq!(seen(&app).await, OF_A);
        app.run(reset).await;
        assert_eq!(app.one("SELECT bulkhead.tenant_id()").await, "NULL");
        app.refused("SELECT FROM note").await.state("42501");
        app.run("ROLLBACK").await;
        assert_eq!(seen(&app).await, OF_B);
    }
}

async fn reading_without_a_tenant_fixes_the_transaction(db: Database) {
    notes(&db).await;
    let admin = db.connect("postgres").await;
    admin.run(&format!("ALTER DATABASE {} SET bulkhead.missing_context = 'empty'", db.name)).await;
    let app = db.connect("app").await;
    app.run("BEGIN").await;
    assert_eq!(seen(&app).await, [""; 0]);
    app.refused(&format!("SET LOCAL bulkhead.tenant_context = '{A}'"))
        .await
        .state("42501")
        .detail_contains("touched a protected table without a tenant");
    app.run("ROLLBACK").await;
    // One statement cannot do both either.
    for attack in ATTACKS {
        let sql = attack.replace("{ctx}", SWITCHES[1].0).replace("{from}", SWITCHES[1].0).replace("{B}", B);
        if sql.contains("query_to_xml") || sql.contains("_read") || sql.contains("read_as_b") || sql.contains("switch")
        {
            continue;
        }
        app.run("BEGIN").await;
        let answer = attempt(&app, &sql).await;
        assert!(!answer.contains("note 6"), "{sql}\n{answer}");
        app.run("ROLLBACK").await;
    }
}

async fn a_statement_planned_without_a_tenant_gets_none_from_the_planner(db: Database) {
    let app = app(&db).await;
    helpers(&db).await;
    for sql in ["SELECT * FROM note WHERE switch_immutable()", "EXPLAIN SELECT * FROM note WHERE switch_immutable()"] {
        app.refused(sql)
            .await
            .state("42501")
            .message("the tenant was set while the statement was being planned")
            .hint_contains("VOLATILE");
        assert_eq!(app.one("SHOW bulkhead.tenant_context").await, "");
    }
}

async fn a_security_definer_wrapper_is_refused(db: Database) {
    let app = app(&db).await;
    let admin = db.connect("postgres").await;
    admin
        .run(
            "CREATE FUNCTION public.become(id text) RETURNS text LANGUAGE sql SECURITY DEFINER
                AS $$ SELECT set_config('bulkhead.tenant_context', id, true) $$",
        )
        .await;
    app.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'")).await;
    app.refused(&format!("SELECT public.become('{B}')")).await.state("42501").message_contains("cannot be changed");
    app.run("ROLLBACK").await;
    app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
    app.refused(&format!("SELECT public.become('{B}')"))
        .await
        .state("42501")
        .detail_contains("The session has a tenant");
}

async fn a_transaction_in_a_procedure_may_have_its_own_tenant(db: Database) {
    let app = app(&db).await;
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE seen (tenant text, notes bigint); GRANT ALL ON seen TO app;
             CREATE PROCEDURE each(ids text[]) LANGUAGE plpgsql AS $$
             DECLARE id text;
             BEGIN
               FOREACH id IN ARRAY ids LOOP
                 PERFORM bulkhead.set_tenant(id);
                 INSERT INTO seen SELECT bulkhead.require_tenant(), count(*) FROM note;
                 COMMIT;
               END LOOP;
             END $$",
        )
        .await;
    app.run(&format!("CALL each(ARRAY['{A}', '{B}', '{A}'])")).await;
    assert_eq!(app.rows("SELECT * FROM seen").await, [[A, "5"], [B, "3"], [A, "5"]]);
    app.refused("SELECT FROM note").await.state("42501");
}
