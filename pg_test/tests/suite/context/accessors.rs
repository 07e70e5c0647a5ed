//! tenant_id(), tenant_id_text(), tenant_id_bigint(), require_tenant().

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{A, B, OF_A, OF_B, app, open_mode, seen};
use crate::harness::WithoutPreload;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        each_accessor_answers_for_its_type,
        accessors_are_declared_for_policies,
        require_tenant_raises_without_one,
        a_switch_inside_a_query_is_seen_at_once,
        a_cursor_keeps_the_key_it_was_opened_with,
        parallel_workers_see_the_tenant,
        a_generic_plan_serves_every_tenant,
        a_plan_prepared_by_one_role_serves_another,
        where_nothing_is_sealed_a_plan_prepared_by_one_role_serves_another,
        memory_stays_flat
    ]
}

const ALL: &str = "SELECT bulkhead.tenant_id(), bulkhead.tenant_id_text(), bulkhead.tenant_id_bigint()";

async fn each_accessor_answers_for_its_type(db: Database) {
    let app = db.connect("app").await;
    let upper = A.to_uppercase();
    let braces = format!("{{{A}}}");
    let long = "x".repeat(255);
    let cases: [(&str, [&str; 3]); 12] = [
        (&upper, [A, A, "NULL"]),
        (&braces, ["NULL", &braces, "NULL"]),
        ("00000000-0000-0000-0000-000000000000", ["00000000-0000-0000-0000-000000000000"; 3]),
        ("h2o", ["NULL", "h2o", "NULL"]),
        ("H2O", ["NULL", "H2O", "NULL"]),
        ("A ", ["NULL", "A ", "NULL"]),
        ("42", ["NULL", "42", "42"]),
        ("-9223372036854775808", ["NULL", "-9223372036854775808", "-9223372036854775808"]),
        ("9223372036854775808", ["NULL", "9223372036854775808", "NULL"]),
        ("007", ["NULL", "007", "NULL"]),
        ("日本", ["NULL", "日本", "NULL"]),
        (&long, ["NULL", &long, "NULL"]),
    ];
    assert_eq!(app.rows(ALL).await, [["NULL"; 3]]);
    for (id, mut expected) in cases {
        if id.starts_with("00000000") {
            expected[2] = "NULL";
        }
        app.run("BEGIN").await;
        app.execute("SELECT bulkhead.set_tenant($1)", &[&id]).await.unwrap();
        assert_eq!(app.rows(ALL).await, [expected], "{id:?}");
        app.run("COMMIT").await;
    }
}

async fn accessors_are_declared_for_policies(db: Database) {
    let app = db.connect("app").await;
    let flags = app
        .rows(
            "SELECT proname, provolatile, proparallel, proleakproof, proconfig IS NULL FROM pg_proc
              WHERE pronamespace = 'bulkhead'::regnamespace AND proname LIKE 'tenant\\_id%' ORDER BY proname",
        )
        .await;
    assert_eq!(
        flags,
        [
            ["tenant_id", "s", "s", "t", "t"],
            ["tenant_id_bigint", "s", "s", "t", "t"],
            ["tenant_id_text", "s", "s", "t", "t"]
        ]
    );
}

async fn require_tenant_raises_without_one(db: Database) {
    let app = db.connect("app").await;
    app.refused("SELECT bulkhead.require_tenant()")
        .await
        .state("42501")
        .message("no tenant context for bulkhead.require_tenant()")
        .hint_contains("SET LOCAL bulkhead.tenant_context");
    app.run("SET bulkhead.tenant_context = 'h2o'").await;
    assert_eq!(app.one("SELECT bulkhead.require_tenant()").await, "h2o");
}

async fn a_switch_inside_a_query_is_seen_at_once(db: Database) {
    open_mode(&db).await;
    let app = db.connect("app").await;
    // Each row switches to a tenant of its own; the accessor before the switch must still show the former one.
    let wrong = app.one(
        "SELECT count(*) FILTER (WHERE before IS DISTINCT FROM CASE WHEN i > 1 THEN 't' || (i - 1) END OR after <> 't' || i)
           FROM (SELECT i, bulkhead.tenant_id_text() AS before, set_config('bulkhead.tenant_context', 't' || i, false),
                        bulkhead.tenant_id_text() AS after
                   FROM generate_series(1, 20000) i OFFSET 0) AS t",
    );
    assert_eq!(wrong.await, "0");
}

async fn a_cursor_keeps_the_key_it_was_opened_with(db: Database) {
    open_mode(&db).await;
    let app = app(&db).await;
    app.run("SET enable_seqscan = off; SET enable_bitmapscan = off").await;
    app.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'")).await;
    let plan = app.column("EXPLAIN (COSTS off) SELECT id FROM note").await;
    assert!(plan.iter().any(|line| line.contains("Index Cond: (tenant_id = bulkhead.tenant_id())")), "{plan:#?}");
    app.run("DECLARE c CURSOR FOR SELECT id FROM note").await;
    assert_eq!(app.column("FETCH 2 FROM c").await, OF_A[..2]);
    // The scan holds a pointer to its key; what the setting held then is overwritten many times over.
    app.run(&format!(
        "DO $$ BEGIN FOR i IN 1..2000 LOOP PERFORM set_config('bulkhead.tenant_context', repeat('z', 1 + i % 200), true); END LOOP; END $$;
         SET LOCAL bulkhead.tenant_context = '{B}'"
    ))
    .await;
    let rest = app.column("FETCH ALL FROM c").await;
    assert!(rest.iter().all(|id| OF_A.contains(&id.as_str())), "rows of another tenant: {rest:?}");
    assert_eq!(seen(&app).await, OF_B);
}

async fn parallel_workers_see_the_tenant(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE TABLE event (id int, tenant_id uuid); INSERT INTO event
               SELECT i, CASE WHEN i % 4 = 0 THEN '{A}' ELSE '{B}' END::uuid FROM generate_series(1, 40000) i;
             SELECT bulkhead.protect('event'); ANALYZE event"
        ))
        .await;
    let app = db.connect("app").await;
    app.run("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off")
        .await;
    for (tenant, count) in [(A, "10000"), (B, "30000")] {
        app.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{tenant}'")).await;
        let plan = app.column("EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT count(*) FROM event").await;
        assert!(plan.iter().any(|line| line.contains("Workers Launched: ") && !line.ends_with(" 0")), "{plan:#?}");
        assert_eq!(app.one("SELECT count(*) FROM event").await, count);
        app.run("COMMIT").await;
    }
}

async fn a_generic_plan_serves_every_tenant(db: Database) {
    let app = app(&db).await;
    app.run("SET plan_cache_mode = force_generic_plan; PREPARE ids AS SELECT id FROM note ORDER BY id").await;
    for _ in 0..3 {
        for (tenant, ids) in [(A, &OF_A[..]), (B, &OF_B[..])] {
            app.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{tenant}'")).await;
            assert_eq!(app.column("EXECUTE ids").await, ids);
            app.run("COMMIT").await;
        }
        app.refused("EXECUTE ids").await.state("42501");
    }
    assert_eq!(app.one("SELECT generic_plans >= 6 FROM pg_prepared_statements").await, "t");
}

async fn a_plan_prepared_by_one_role_serves_another(db: Database) {
    drop(app(&db).await);
    let session = db.connect("postgres").await;
    session.run("SET plan_cache_mode = force_generic_plan; PREPARE ids AS SELECT id FROM note ORDER BY id").await;
    session.run("BEGIN; SELECT bulkhead.begin_bypass('counting')").await;
    assert_eq!(session.column("EXECUTE ids").await.len(), 8);
    session.run("COMMIT").await;
    session.refused("EXECUTE ids").await.state("42501").message("no tenant context for protected table public.note");
    session.run("SET ROLE app").await;
    session.refused("EXECUTE ids").await.state("42501").message("no tenant context for protected table public.note");
    session.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{B}'")).await;
    assert_eq!(session.column("EXECUTE ids").await, OF_B);
    session.run("SET LOCAL ROLE postgres").await;
    assert_eq!(session.column("EXECUTE ids").await, OF_B);
}

async fn where_nothing_is_sealed_a_plan_prepared_by_one_role_serves_another(db: WithoutPreload) {
    drop(app(&db).await);
    let session = db.connect("postgres").await;
    session.run("SET plan_cache_mode = force_generic_plan; PREPARE ids AS SELECT id FROM note ORDER BY id").await;
    assert_eq!(session.column("EXECUTE ids").await.len(), 8);
    session.run("SET ROLE app").await;
    assert_eq!(session.one("SELECT count(*) FROM note").await, "0");
    session.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{B}'")).await;
    assert_eq!(session.column("EXECUTE ids").await, OF_B);
}

async fn memory_stays_flat(db: Database) {
    open_mode(&db).await;
    // Only the grant is new: the session stays a plain role's.
    db.connect("postgres").await.run("GRANT EXECUTE ON FUNCTION pg_get_backend_memory_contexts() TO app; GRANT SELECT ON pg_backend_memory_contexts TO app").await;
    let app = app(&db).await;
    let memory = "SELECT sum(total_bytes)::bigint FROM pg_backend_memory_contexts";
    let resident = |pid: &str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap_or("RssAnon: 0 kB").to_owned();
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<i64>().ok()).unwrap_or(0)
    };
    let work = "DO $$ BEGIN FOR i IN 1..100000 LOOP
                  PERFORM bulkhead.set_tenant('tenant ' || i % 1000 || repeat('x', i % 200), i % 2 = 0);
                  PERFORM bulkhead.tenant_id_text(), bulkhead.tenant_id(), bulkhead.tenant_id_bigint(), bulkhead.require_tenant();
                END LOOP; END $$";
    app.run(work).await;
    let pid = app.one("SELECT pg_backend_pid()").await;
    let (contexts, rss) = (app.one(memory).await.parse::<i64>().unwrap(), resident(&pid));
    for _ in 0..3 {
        app.run(work).await;
    }
    let grown = app.one(memory).await.parse::<i64>().unwrap() - contexts;
    assert!(grown < 64 * 1024, "memory contexts grew by {grown} bytes");
    assert!(rss > 0 && resident(&pid) - rss < 1024, "the process grew by {} kB", resident(&pid) - rss);
}
