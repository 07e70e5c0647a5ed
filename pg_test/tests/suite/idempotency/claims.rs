//! What a claim is told, and what it refuses.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{A, B, acting, app, claim, complete, rows_of, start};
use crate::harness::WithoutPreload;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        it_starts_replays_and_holds,
        the_fingerprint_comes_first,
        a_key_is_the_tenants_own,
        keys_of_any_length_and_letters,
        bad_arguments_are_refused,
        without_a_tenant_it_is_refused,
        where_nothing_can_be_written_it_is_refused,
        a_rollback_frees_the_key,
        a_savepoint_frees_the_key,
        one_statement_may_claim_and_finish,
        it_works_wherever_a_function_may_stand,
        an_answer_of_any_shape_comes_back,
        a_fingerprint_does_not_depend_on_the_order,
        the_settings_fit_each_other,
        settings_of_a_database_come_in_any_order,
        settings_come_to_a_library_that_is_loaded_late,
        settings_come_to_parallel_workers,
        the_table_is_sealed,
    ]
}

async fn it_starts_replays_and_holds(db: Database) {
    let app = app(&db).await;
    let all = "SELECT state, status, response, attempt, fence IS NOT NULL FROM bulkhead.idempotency_claim('order-1')";
    assert_eq!(app.rows(all).await, [["started", "NULL", "NULL", "1", "t"]]);
    assert_eq!(app.rows(all).await, [["in_progress", "NULL", "NULL", "1", "f"]]);
    complete(&app, "order-1").await;
    for _ in 0..3 {
        assert_eq!(app.rows(all).await, [["replay", "201", "{\"id\": 7}", "1", "f"]]);
    }
    assert_eq!(rows_of(&db, "order-1"), "1");
}

async fn the_fingerprint_comes_first(db: Database) {
    let app = app(&db).await;
    let ask = async |fingerprint: &str| {
        app.one(&format!("SELECT state FROM bulkhead.idempotency_claim('k', {fingerprint})")).await
    };
    assert_eq!(ask("'f'").await, "started");
    assert_eq!(ask("'g'").await, "mismatch");
    assert_eq!(ask("'f'").await, "in_progress");
    assert_eq!(ask("NULL").await, "in_progress", "who gives none is not compared");
    complete(&app, "k").await;
    assert_eq!(ask("'g'").await, "mismatch");
    assert_eq!(ask("'f'").await, "replay");
    let row = "SELECT state, status, response, attempt, fence FROM bulkhead.idempotency_claim('k', 'g')";
    assert_eq!(
        app.rows(row).await,
        [["mismatch", "NULL", "NULL", "1", "NULL"]],
        "nothing of the other request's answer"
    );
}

async fn a_key_is_the_tenants_own(db: Database) {
    let (a, b) = (app(&db).await, acting(&db, "app", B).await);
    start(&a, "k").await;
    complete(&a, "k").await;
    start(&b, "k").await;
    assert_eq!(claim(&a, "k").await, "replay");
    assert_eq!(claim(&b, "k").await, "in_progress");
}

async fn keys_of_any_length_and_letters(db: Database) {
    let app = app(&db).await;
    let keys =
        ["x".repeat(10_000), "x".repeat(300_000), "\u{e9}\u{1f600} '' \\".into(), " ".into(), "K".into(), "k".into()];
    for key in &keys {
        start(&app, key).await;
        complete(&app, key).await;
        assert_eq!(claim(&app, key).await, "replay");
    }
    start(&app, &"x".repeat(10_001)).await;
    assert_eq!(db.admin("SELECT count(*) FROM bulkhead.idempotency_key").unwrap(), "7");
}

async fn bad_arguments_are_refused(db: Database) {
    let app = app(&db).await;
    for key in ["NULL", "''"] {
        for call in ["claim({})", "complete({}, 200, NULL)", "release({})", "extend({}, '1 s')"] {
            let call = call.replace("{}", key);
            let refused = app.refused(&format!("SELECT bulkhead.idempotency_{call}")).await;
            refused.state("22023").message("an idempotency key must not be empty").hint_contains("400");
        }
    }
    start(&app, "held").await;
    for lease in ["NULL", "'0'", "'-1 s'", "'24 hours 1 s'", "'1 month'", "'-178000000 years'", "'178000000 years'"] {
        for call in ["claim('k', NULL, {})", "extend('held', {})"] {
            let call = call.replace("{}", &format!("{lease}::interval"));
            let refused = app.refused(&format!("SELECT bulkhead.idempotency_{call}")).await;
            refused.state("22023").message_contains("bulkhead.idempotency_window").hint_contains("extend");
        }
    }
    assert_eq!(claim(&app, "k").await, "started", "nothing of it was kept");
    app.refused("SELECT bulkhead.idempotency_complete('k', 200, to_jsonb(repeat('x', 2000000)))")
        .await
        .state("54000")
        .message_contains("bulkhead.idempotency_response_limit")
        .hint_contains("id");
    assert_eq!(claim(&app, "k").await, "in_progress");
}

async fn without_a_tenant_it_is_refused(db: Database) {
    for role in ["app", "owner", "svc", "postgres"] {
        let client = db.connect(role).await;
        for call in ["claim('k')", "complete('k', 200, NULL)", "release('k')", "extend('k', '1 s')"] {
            let refused = client.refused(&format!("SELECT bulkhead.idempotency_{call}")).await;
            refused.state("42501").message_contains("no tenant context").hint_contains("SET LOCAL");
        }
    }
    // Nor does one come in by the back door: a claim fixes the transaction's tenant.
    let app = db.connect("app").await;
    app.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'; SELECT bulkhead.idempotency_claim('k')")).await;
    app.refused(&format!("SET LOCAL bulkhead.tenant_context = '{B}'")).await.state("42501");
}

async fn where_nothing_can_be_written_it_is_refused(db: Database) {
    let app = app(&db).await;
    app.run("BEGIN READ ONLY").await;
    app.refused("SELECT bulkhead.idempotency_claim('k')").await.state("25006");
}

async fn a_rollback_frees_the_key(db: Database) {
    let app = app(&db).await;
    start(&app, "before").await;
    app.run("BEGIN").await;
    start(&app, "k").await;
    complete(&app, "k").await;
    assert_eq!(claim(&app, "k").await, "replay", "its own");
    app.run("ROLLBACK").await;
    start(&app, "k").await;
    let attempt = "SELECT attempt FROM bulkhead.idempotency_claim('k')";
    assert_eq!(app.one(attempt).await, "1");
}

async fn a_savepoint_frees_the_key(db: Database) {
    let app = app(&db).await;
    app.run("BEGIN; SAVEPOINT s").await;
    start(&app, "k").await;
    app.run("ROLLBACK TO s").await;
    start(&app, "k").await;
    app.run("SAVEPOINT t").await;
    complete(&app, "k").await;
    app.run("ROLLBACK TO t").await;
    assert_eq!(claim(&app, "k").await, "in_progress", "the answer went, the claim stayed");
    complete(&app, "k").await;
    app.run("COMMIT").await;
    assert_eq!(claim(&app, "k").await, "replay");
    let handled = "DO $$ BEGIN
        BEGIN PERFORM bulkhead.idempotency_claim('handled'); RAISE 'no'; EXCEPTION WHEN OTHERS THEN NULL; END;
        ASSERT (SELECT state FROM bulkhead.idempotency_claim('handled')) = 'started'; END $$";
    app.run(handled).await;
}

async fn one_statement_may_claim_and_finish(db: Database) {
    let app = app(&db).await;
    let both = "SELECT state, bulkhead.idempotency_complete('k', 200, '[]') FROM bulkhead.idempotency_claim('k')";
    assert_eq!(app.rows(both).await, [["started", ""]]);
    assert_eq!(claim(&app, "k").await, "replay");
    let many = "SELECT count(*) FROM generate_series(1, 500) i, LATERAL bulkhead.idempotency_claim('n' || i) c WHERE c.state = 'started'";
    assert_eq!(app.one(many).await, "500");
    assert_eq!(app.one(many).await, "0");
}

async fn it_works_wherever_a_function_may_stand(db: Database) {
    let app = app(&db).await;
    assert_eq!(app.one("SELECT (bulkhead.idempotency_claim('a')).state").await, "started");
    assert_eq!(app.one("SELECT (c).state FROM (SELECT bulkhead.idempotency_claim('b') AS c) AS q").await, "started");
    assert_eq!(app.one("SELECT count(*) FROM bulkhead.idempotency_claim('c') LIMIT 1").await, "1");
    assert_eq!(app.one("SELECT jsonb_typeof(to_jsonb(c)) FROM bulkhead.idempotency_claim('d') AS c").await, "object");
    app.run("PREPARE p (text) AS SELECT state FROM bulkhead.idempotency_claim($1)").await;
    for key in ["e", "f", "g", "h", "i", "j", "k"] {
        assert_eq!(app.one(&format!("EXECUTE p('{key}')")).await, "started");
        assert_eq!(app.one(&format!("EXECUTE p('{key}')")).await, "in_progress");
    }
    app.run("CREATE TEMP TABLE claimed AS SELECT * FROM bulkhead.idempotency_claim('l')").await;
    assert_eq!(app.one("SELECT state FROM claimed").await, "started");
    let set = "SELECT string_agg(c.state, ' ') FROM unnest('{m,m,n}'::text[]) k, bulkhead.idempotency_claim(k) c";
    assert_eq!(app.one(set).await, "started in_progress started");
}

async fn an_answer_of_any_shape_comes_back(db: Database) {
    let app = app(&db).await;
    let answers = [
        "NULL",
        "'null'",
        "'[]'",
        "'\"x\"'",
        "'1e400'",
        "to_jsonb(repeat('xyz', 200000))",
        "(SELECT jsonb_object_agg(i, i) FROM generate_series(1, 20000) i)",
    ];
    for (number, answer) in answers.iter().enumerate() {
        start(&app, &format!("k{number}")).await;
        app.run(&format!("SELECT bulkhead.idempotency_complete('k{number}', NULL, {answer}::jsonb)")).await;
        let same = format!(
            "SELECT response IS NOT DISTINCT FROM {answer}::jsonb AND status IS NULL FROM bulkhead.idempotency_claim('k{number}')"
        );
        assert_eq!(app.one(&same).await, "t", "{answer}");
    }
}

async fn a_fingerprint_does_not_depend_on_the_order(db: Database) {
    let app = db.connect("app").await;
    let of = async |arguments: &str| app.one(&format!("SELECT bulkhead.request_fingerprint({arguments})")).await;
    let first = of(r#"'POST', '/orders', '{"a": 1, "b": {"c": [1, 2], "d": null}}'"#).await;
    assert_eq!(first.len(), 64);
    assert_eq!(first, of(r#"'post', '/orders', '{"b": {"d": null, "c": [1, 2]}, "a": 1}'"#).await);
    let others = [
        r#"'POST', '/orders', '{"a": 1, "b": {"c": [2, 1], "d": null}}'"#,
        r#"'PUT', '/orders', '{"a": 1, "b": {"c": [1, 2], "d": null}}'"#,
        r#"'POST', '/orders/', '{"a": 1, "b": {"c": [1, 2], "d": null}}'"#,
        "'POST', '/orders', NULL",
        "'POST', '/orders', 'null'",
        "'POST/orders', '', NULL",
        "'POST', NULL, NULL",
        "NULL, NULL, NULL",
    ];
    let mut seen = vec![first];
    for other in others {
        let fingerprint = of(other).await;
        assert!(!seen.contains(&fingerprint), "{other}");
        seen.push(fingerprint);
    }
}

async fn the_settings_fit_each_other(db: Database) {
    let admin = db.connect("postgres").await;
    let shown = "SELECT name, setting, unit FROM pg_settings WHERE name LIKE 'bulkhead.idempotency%' ORDER BY 1";
    let expected = [
        ["bulkhead.idempotency_response_limit", "1024", "kB"],
        ["bulkhead.idempotency_retention", "172800", "s"],
        ["bulkhead.idempotency_window", "86400", "s"],
    ];
    assert_eq!(admin.rows(shown).await, expected);
    for statement in [
        "SET bulkhead.idempotency_window = '49h'",
        "SET bulkhead.idempotency_retention = '23h'",
        "ALTER SYSTEM SET bulkhead.idempotency_retention = '1h'",
        "SET bulkhead.idempotency_window = 0",
    ] {
        admin.refused(statement).await.state("22023");
    }
    admin.run("SET bulkhead.idempotency_retention = '7d'; SET bulkhead.idempotency_window = '72h'").await;
    db.connect("app").await.refused("SET bulkhead.idempotency_window = '1h'").await.state("42501");
}

/// Each of them comes alone to a new session, the window first.
fn longer(db: &Database) {
    let name = &db.name;
    let set = format!(
        "ALTER DATABASE {name} SET bulkhead.idempotency_window = '31d'; ALTER DATABASE {name} SET bulkhead.idempotency_retention = '32d'"
    );
    db.admin(&set).unwrap();
}

const BOTH: &str =
    "SELECT current_setting('bulkhead.idempotency_window') || ' ' || current_setting('bulkhead.idempotency_retention')";

async fn settings_of_a_database_come_in_any_order(db: Database) {
    longer(&db);
    assert_eq!(db.connect("app").await.one(BOTH).await, "31d 32d");
}

async fn settings_come_to_a_library_that_is_loaded_late(db: WithoutPreload) {
    longer(&db);
    let admin = db.connect("postgres").await;
    admin.run("LOAD 'bulkhead'").await;
    assert_eq!(admin.one(BOTH).await, "31d 32d");
    admin.refused("SET bulkhead.idempotency_window = '33d'").await.state("22023");
}

async fn settings_come_to_parallel_workers(db: Database) {
    let admin = db.connect("postgres").await;
    admin.run("SET bulkhead.idempotency_retention = '7d'; SET bulkhead.idempotency_window = '72h'").await;
    longer(&db);
    for client in [admin, db.connect("app").await] {
        client
            .run(
                "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
                 SET max_parallel_workers_per_gather = 2",
            )
            .await;
        let plan =
            "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT count(*) FROM pg_class WHERE relpages >= 0";
        let plan = client.column(plan).await.join(" ");
        assert!(plan.contains("Workers Launched: ") && !plan.contains("Workers Launched: 0"), "{plan}");
    }
}

/// Nobody reads the table but through the functions; who may read all the same sees one tenant.
async fn the_table_is_sealed(db: Database) {
    let (a, b) = (app(&db).await, acting(&db, "app", B).await);
    start(&a, "of a").await;
    start(&b, "of b").await;
    for statement in ["TABLE bulkhead.idempotency_key", "DELETE FROM bulkhead.idempotency_key"] {
        a.refused(statement).await.state("42501");
    }
    for client in [&a, &db.connect("postgres").await] {
        client.refused("TRUNCATE bulkhead.idempotency_key").await.state("55000").message_contains("needs a bypass");
    }
    let leaf = db.admin("SELECT tableoid::regclass FROM bulkhead.idempotency_key LIMIT 1").unwrap();
    a.refused(&format!("TABLE {leaf}")).await.state("42501").message_contains("permission denied");
    let superuser = db.connect("postgres").await;
    for table in ["bulkhead.idempotency_key", &leaf] {
        superuser.refused(&format!("TABLE {table}")).await.state("42501").message_contains("no tenant context");
    }
    let superuser = acting(&db, "postgres", A).await;
    for table in ["bulkhead.idempotency_key", &leaf] {
        assert_eq!(superuser.column(&format!("SELECT key FROM {table}")).await, ["of a"]);
        assert_eq!(superuser.rows(&format!("DELETE FROM {table} WHERE key = 'of b' RETURNING 1")).await, [[""; 1]; 0]);
    }
    assert_eq!(db.admin("SELECT count(*) FROM bulkhead.idempotency_key").unwrap(), "2");
}
