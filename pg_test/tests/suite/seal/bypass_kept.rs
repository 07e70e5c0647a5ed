//! What is kept across statements, plans, cursors and loops, does not keep a bypass; workers have it while it lasts.

use libtest_mimic::Trial;
use pg_test::Database;

use super::bypass::{is_naked, world};
use super::fixture::{OF_A, acting};
use crate::fixture::parallel_setting;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        cached_plans_do_not_cross_its_border,
        cursors_end_with_it,
        a_loop_that_commits_loses_it,
        parallel_queries_see_all_rows_under_it
    ]
}

async fn cached_plans_do_not_cross_its_border(db: Database) {
    world(&db).await;
    db.admin(
        "CREATE FUNCTION cached() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM public.orders); END';
         CREATE FUNCTION sql_cached() RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT count(*) FROM public.orders'",
    )
    .unwrap();
    for role in ["svc", "postgres"] {
        for mode in ["force_generic_plan", "force_custom_plan", "auto"] {
            let client = acting(&db, role).await;
            client
                .run(&format!(
                    "SET plan_cache_mode = {mode}; PREPARE p(int) AS SELECT count(*) FROM orders WHERE id > $1"
                ))
                .await;
            let typed = client.prepare("SELECT count(*) FROM orders WHERE id > $1").await.unwrap();
            let all = async |expected: &str, when: &str| {
                for query in ["EXECUTE p(0)", "SELECT cached()", "SELECT sql_cached()"] {
                    assert_eq!(client.one(query).await, expected, "{role} {mode} {when}: {query}");
                }
                let bound: i64 = client.query_one(&typed, &[&0]).await.unwrap().get(0);
                assert_eq!(bound.to_string(), expected, "{role} {mode} {when}: bound");
            };
            for round in 0..7 {
                all("3", "outside").await;
                client.run("BEGIN; SELECT bulkhead.begin_bypass('x')").await;
                all("5", "under the bypass").await;
                client.run(if round % 2 == 0 { "COMMIT" } else { "ROLLBACK" }).await;
                all("3", "outside again").await;
                client.run("BEGIN; SAVEPOINT s; SELECT bulkhead.begin_bypass('x')").await;
                all("5", "in a savepoint").await;
                client.run("ROLLBACK TO s").await;
                all("3", "after the savepoint").await;
                client.run("COMMIT").await;
            }
        }
    }
    // Across roles, within the bypass.
    let admin = acting(&db, "postgres").await;
    admin.run("SET plan_cache_mode = force_generic_plan; PREPARE p AS SELECT count(*) FROM orders").await;
    admin.run("BEGIN; SELECT bulkhead.begin_bypass('x')").await;
    for _ in 0..3 {
        assert_eq!(admin.one("EXECUTE p").await, "5");
        admin.run("SET LOCAL ROLE svc").await;
        assert_eq!(admin.one("EXECUTE p").await, "3");
        admin.run("RESET ROLE").await;
    }
}

async fn cursors_end_with_it(db: Database) {
    world(&db).await;
    let svc = acting(&db, "svc").await;
    svc.run(
        "BEGIN; SAVEPOINT s; SELECT bulkhead.begin_bypass('x'); DECLARE c CURSOR FOR SELECT id FROM orders ORDER BY id",
    )
    .await;
    assert_eq!(svc.column("FETCH 4 FROM c").await, ["1", "2", "3", "4"]);
    svc.run("RESET bulkhead.bypass").await;
    assert!(svc.simple_query("FETCH ALL FROM c").await.is_err());
    svc.run("ROLLBACK").await;
    // Declared under it, with the rows to come when it is over.
    svc.run(
        "BEGIN; SELECT bulkhead.begin_bypass('x'); DECLARE c CURSOR WITH HOLD FOR SELECT id FROM orders ORDER BY id",
    )
    .await;
    let committed = svc.simple_query("COMMIT").await;
    assert!(committed.is_err(), "a held cursor of a bypass must not be kept");
    svc.run("ROLLBACK").await;
    svc.refused("FETCH ALL FROM c").await.state("34000");
    for cursor in [
        "SELECT id FROM orders",
        "SELECT count(*) FROM orders",
        "WITH o AS MATERIALIZED (SELECT id FROM orders) SELECT * FROM o",
    ] {
        svc.run(&format!("BEGIN; SELECT bulkhead.begin_bypass('x'); DECLARE d CURSOR WITH HOLD FOR {cursor}")).await;
        let _ = svc.column("FETCH ALL FROM d").await;
        assert!(svc.simple_query("COMMIT").await.is_err(), "{cursor}");
        svc.run("ROLLBACK").await;
        svc.refused("FETCH ALL FROM d").await.state("34000");
    }
    // What was opened before it keeps to the tenant under it.
    svc.run("BEGIN; DECLARE e CURSOR FOR SELECT id FROM orders ORDER BY id; SELECT bulkhead.begin_bypass('x')").await;
    assert_eq!(svc.column("FETCH ALL FROM e").await, OF_A);
    svc.run("COMMIT").await;
}

async fn a_loop_that_commits_loses_it(db: Database) {
    world(&db).await;
    db.admin(
        "CREATE TABLE found (id int); GRANT ALL ON found TO PUBLIC;
         CREATE PROCEDURE walk() LANGUAGE plpgsql AS $$ DECLARE r record; BEGIN
           PERFORM bulkhead.begin_bypass('walk');
           FOR r IN SELECT id FROM public.orders ORDER BY id LOOP
             INSERT INTO public.found VALUES (r.id); COMMIT; PERFORM * FROM public.orders; END LOOP; END $$",
    )
    .unwrap();
    for role in ["svc", "postgres"] {
        let client = db.connect(role).await;
        assert!(client.simple_query("CALL walk()").await.is_err(), "{role}");
        is_naked(&client).await;
    }
}

async fn parallel_queries_see_all_rows_under_it(db: Database) {
    world(&db).await;
    let svc = acting(&db, "svc").await;
    let parallel = parallel_setting(&svc).await;
    svc.run(&format!("SET {parallel} = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0")).await;
    for _ in 0..3 {
        assert_eq!(svc.one("SELECT count(*) FROM orders").await, "3");
        svc.run("BEGIN; SELECT bulkhead.begin_bypass('x')").await;
        assert_eq!(svc.one("SELECT count(*) FROM orders").await, "5");
        // A plan without the table may be parallel; a worker has to start under a bypass.
        assert_eq!(svc.one("SELECT count(*) FROM pg_class WHERE relname = 'orders'").await, "1");
        svc.run("COMMIT").await;
    }
}
