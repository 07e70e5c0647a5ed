//! Ways a tenant's rows get out through plans: made for one tenant and used for another, or leaky themselves.
//! The numbers are those of the project's list of leak paths.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{A, B, OF_A, OF_B, act_for, acting, orders, seen_by};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        path_33_a_generic_plan_across_tenants,
        path_33_a_typed_statement_across_tenants,
        path_33_a_plan_of_a_function_across_tenants,
        path_33_plans_across_tenants_of_other_key_types,
        path_33_a_pooled_session_across_tenants,
        path_38_a_leaky_function_sees_no_foreign_row,
        path_38_a_leaky_operator_and_cast_see_no_foreign_row,
        path_38_errors_tell_nothing_of_foreign_rows,
        path_48_an_inlined_function,
        joins_and_aggregates_see_one_tenant,
        a_parallel_scan_sees_one_tenant,
        an_index_only_scan_sees_one_tenant,
    ]
}

async fn path_33_a_generic_plan_across_tenants(db: Database) {
    orders(&db).await;
    for (role, mode) in
        [("app", "force_generic_plan"), ("app", "force_custom_plan"), ("app", "auto"), ("owner", "force_generic_plan")]
    {
        let client = db.connect(role).await;
        client
            .run(&format!(
                "SET plan_cache_mode = {mode};
                 PREPARE q AS SELECT id FROM orders ORDER BY id;
                 PREPARE k(int) AS SELECT item FROM orders WHERE id = $1;
                 PREPARE w AS UPDATE orders SET item = item RETURNING id"
            ))
            .await;
        for round in 0..8 {
            let (tenant, ids, own, foreign) = if round % 2 == 0 { (A, &OF_A[..], 1, 4) } else { (B, &OF_B[..], 4, 1) };
            act_for(&client, tenant).await;
            assert_eq!(client.column("EXECUTE q").await, ids, "{mode}, round {round}");
            assert_eq!(
                client.column(&format!("EXECUTE k({own})")).await,
                [format!("item {own}")],
                "{mode}, round {round}"
            );
            assert!(client.column(&format!("EXECUTE k({foreign})")).await.is_empty(), "{mode}, round {round}");
            assert_eq!(client.column("EXECUTE w").await.len(), ids.len(), "{mode}, round {round}");
        }
    }
}

async fn path_33_a_typed_statement_across_tenants(db: Database) {
    orders(&db).await;
    let mut app = db.connect("app").await;
    let query = app.prepare("SELECT id FROM orders WHERE id > $1 ORDER BY id").await.unwrap();
    let set = app.prepare("SELECT bulkhead.set_tenant($1)").await.unwrap();
    for round in 0..12 {
        let (tenant, ids) = if round % 2 == 0 { (A, &[1, 2, 3][..]) } else { (B, &[4, 5][..]) };
        let transaction = app.transaction().await.unwrap();
        transaction.query(&set, &[&tenant]).await.unwrap();
        let rows = transaction.query(&query, &[&0]).await.unwrap();
        let seen: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(seen, ids, "round {round}");
        transaction.commit().await.unwrap();
        let naked = app.query(&query, &[&0]).await.unwrap_err();
        assert_eq!(naked.code().unwrap().code(), "42501", "round {round}");
    }
}

async fn path_33_a_plan_of_a_function_across_tenants(db: Database) {
    let owner = orders(&db).await;
    owner
        .run(
            "CREATE FUNCTION ids() RETURNS SETOF int LANGUAGE plpgsql AS 'BEGIN RETURN QUERY SELECT id FROM orders ORDER BY id; END';
             CREATE FUNCTION definer() RETURNS SETOF int SECURITY DEFINER LANGUAGE plpgsql AS
               'BEGIN RETURN QUERY SELECT id FROM orders ORDER BY id; END';
             CREATE FUNCTION stable_sql() RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM orders'",
        )
        .await;
    let app = db.connect("app").await;
    for round in 0..8 {
        let (tenant, ids) = if round % 2 == 0 { (A, &OF_A[..]) } else { (B, &OF_B[..]) };
        act_for(&app, tenant).await;
        for function in ["ids", "definer"] {
            assert_eq!(app.column(&format!("SELECT {function}()")).await, ids, "{function}, round {round}");
        }
        assert_eq!(app.one("SELECT stable_sql()").await, ids.len().to_string(), "round {round}");
    }
}

async fn path_33_plans_across_tenants_of_other_key_types(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE jobs (tenant_id text, n int); INSERT INTO jobs SELECT 'site' || i % 50, i FROM generate_series(1, 500) i;
             CREATE TABLE messages (tenant_id int, n int); INSERT INTO messages SELECT i % 50, i FROM generate_series(1, 500) i;
             SELECT bulkhead.protect('jobs'), bulkhead.protect('messages'); ANALYZE jobs, messages",
        )
        .await;
    let app = db.connect("app").await;
    app.run("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off").await;
    app.run("PREPARE j AS SELECT count(*), count(DISTINCT tenant_id), min(tenant_id) FROM jobs").await;
    app.run("PREPARE m AS SELECT count(*), count(DISTINCT tenant_id), min(tenant_id) FROM messages").await;
    for i in 0..50 {
        act_for(&app, &format!("site{i}")).await;
        assert_eq!(app.rows("EXECUTE j").await, [["10", "1", &format!("site{i}")]]);
        act_for(&app, &i.to_string()).await;
        assert_eq!(app.rows("EXECUTE m").await, [["10", "1", &i.to_string()]]);
    }
}

async fn path_33_a_pooled_session_across_tenants(db: Database) {
    orders(&db).await;
    // As a transaction pooler hands one backend round: statements prepared by one client are run by the next.
    let backend = db.connect("app").await;
    backend.run("SET plan_cache_mode = force_generic_plan; PREPARE q AS SELECT id FROM orders ORDER BY id").await;
    for (tenant, ids) in [(A, &OF_A[..]), (B, &OF_B[..]), (A, &OF_A[..])] {
        backend.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{tenant}'")).await;
        assert_eq!(backend.column("EXECUTE q").await, ids);
        backend.run("COMMIT").await;
        backend.refused("EXECUTE q").await.state("42501").hint_contains("use BEGIN");
    }
}

/// Notices of a function that tells what it is given.
async fn told(client: &Client, query: &str) -> Vec<String> {
    client.notices();
    client.run(query).await;
    let mut told = client.notices();
    told.sort();
    told
}

async fn path_38_a_leaky_function_sees_no_foreign_row(db: Database) {
    let owner = orders(&db).await;
    owner.run("ANALYZE orders").await;
    owner
        .run(
            "CREATE FUNCTION tells(x text) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql AS
               $$ BEGIN RAISE NOTICE '%', x; RETURN true; END $$;
             CREATE VIEW v AS SELECT * FROM orders; CREATE TABLE plain (item text); INSERT INTO plain SELECT 'item ' || i FROM generate_series(1, 5) i",
        )
        .await;
    for role in ["app", "owner"] {
        let client = acting(&db, role, B).await;
        for (number, query) in [
            "SELECT * FROM orders WHERE tells(item)",
            "SELECT * FROM orders WHERE tells(item) AND id > 0",
            "SELECT * FROM v WHERE tells(item)",
            "SELECT * FROM orders WHERE tells(item) OR id = 1",
            "SELECT * FROM (SELECT * FROM orders) o WHERE tells(o.item)",
            "SELECT * FROM plain JOIN orders USING (item) WHERE tells(orders.item)",
            "SELECT count(*) FILTER (WHERE tells(item)) FROM orders",
            "SELECT tells(item) FROM orders",
            "DELETE FROM orders WHERE tells(item) AND false IS NULL",
            "UPDATE orders SET item = item WHERE tells(item)",
        ]
        .into_iter()
        .enumerate()
        {
            let told = told(&client, query).await;
            let foreign: Vec<_> =
                told.iter().filter(|text| !text.ends_with("item 4") && !text.ends_with("item 5")).collect();
            assert!(foreign.is_empty(), "{role}: {query}: {foreign:?}");
            // The eighth would be no proof if the function had not been called.
            assert!(number == 8 || told.len() >= 2, "{role}: {query}: {told:?}");
        }
    }
}

async fn path_38_a_leaky_operator_and_cast_see_no_foreign_row(db: Database) {
    let owner = orders(&db).await;
    owner
        .run(
            "CREATE FUNCTION tells(text, text) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql AS
               $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$;
             CREATE OPERATOR public.<<< (LEFTARG = text, RIGHTARG = text, FUNCTION = tells, RESTRICT = eqsel)",
        )
        .await;
    let app = acting(&db, "app", A).await;
    let told = told(&app, "SELECT * FROM orders WHERE item OPERATOR(public.<<<) 'x'").await;
    assert_eq!(told, ["NOTICE: item 1", "NOTICE: item 2", "NOTICE: item 3"]);
}

async fn path_38_errors_tell_nothing_of_foreign_rows(db: Database) {
    orders(&db).await;
    db.admin("UPDATE orders SET item = CASE id WHEN 4 THEN 'not a number' ELSE id::text END; ANALYZE orders").unwrap();
    for role in ["app", "owner"] {
        let client = acting(&db, role, A).await;
        for query in [
            "SELECT id FROM orders WHERE item::int > 0 ORDER BY id",
            "SELECT id FROM orders WHERE 6 / (4 - id) > 0 ORDER BY id",
        ] {
            assert_eq!(client.column(query).await, OF_A, "{role}: {query}");
        }
    }
}

async fn path_48_an_inlined_function(db: Database) {
    let owner = orders(&db).await;
    owner
        .run(
            "CREATE FUNCTION inlined() RETURNS SETOF orders STABLE LANGUAGE sql AS 'SELECT * FROM orders';
             CREATE FUNCTION atomic() RETURNS SETOF orders STABLE LANGUAGE sql BEGIN ATOMIC SELECT * FROM orders; END",
        )
        .await;
    for function in ["inlined()", "atomic()"] {
        for (tenant, ids) in [(A, &OF_A[..]), (B, &OF_B[..])] {
            assert_eq!(seen_by(&db, tenant, function, "id").await, ids, "{function}");
        }
        let app = acting(&db, "app", A).await;
        let plan = app.column(&format!("EXPLAIN (COSTS OFF) SELECT * FROM {function} WHERE id = 4")).await.join("\n");
        assert!(!plan.contains("Function Scan"), "not inlined: {plan}");
        db.connect("app").await.refused(&format!("SELECT * FROM {function}")).await.state("42501");
    }
}

async fn joins_and_aggregates_see_one_tenant(db: Database) {
    let owner = orders(&db).await;
    owner
        .run(&format!(
            "CREATE TABLE lines (tenant_id uuid, order_id int, n int);
             INSERT INTO lines SELECT CASE WHEN i <= 3 THEN '{B}' ELSE '{A}' END::uuid, i, i FROM generate_series(1, 5) i;
             SELECT bulkhead.protect('lines')"
        ))
        .await;
    let app = acting(&db, "app", A).await;
    // Orders 1 to 3 are A's, and all lines of theirs are B's.
    assert_eq!(app.one("SELECT count(*) FROM orders JOIN lines ON order_id = id").await, "0");
    assert_eq!(app.one("SELECT count(n) FROM orders LEFT JOIN lines ON order_id = id").await, "0");
    assert_eq!(app.one("SELECT count(*) FROM orders FULL JOIN lines ON order_id = id").await, "5");
    assert_eq!(app.one("SELECT max(id) FROM orders").await, "3");
    assert_eq!(app.one("SELECT min(n) FROM lines").await, "4");
    assert_eq!(app.one("SELECT count(DISTINCT tenant_id) FROM orders").await, "1");
    assert_eq!(app.column("SELECT id FROM orders EXCEPT SELECT order_id FROM lines ORDER BY 1").await, OF_A);
}

/// Rows of 100 tenants, enough for workers.
async fn many(db: &Database) -> Client {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE many (tenant_id bigint, n int); INSERT INTO many SELECT i % 100, i FROM generate_series(1, 50000) i;
             SELECT bulkhead.protect('many')",
        )
        .await;
    owner.run("VACUUM ANALYZE many").await;
    owner
}

async fn a_parallel_scan_sees_one_tenant(db: Database) {
    many(&db).await;
    let app = acting(&db, "app", "7").await;
    app.run(
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
         SET max_parallel_workers_per_gather = 2; SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off",
    )
    .await;
    let query = "SELECT count(*), count(DISTINCT tenant_id), min(tenant_id) FROM many";
    let plan = app.column(&format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {query}")).await.join("\n");
    assert!(plan.contains("Workers Launched: 2") || plan.contains("Workers Launched: 1"), "{plan}");
    for leader in ["on", "off"] {
        app.run(&format!("SET parallel_leader_participation = {leader}")).await;
        assert_eq!(app.rows(query).await, [["500", "1", "7"]]);
    }
    act_for(&app, "").await;
    app.refused(query).await.state("42501");
}

async fn an_index_only_scan_sees_one_tenant(db: Database) {
    many(&db).await;
    let app = acting(&db, "app", "7").await;
    app.run("SET enable_seqscan = off; SET enable_bitmapscan = off").await;
    let query = "SELECT count(*), min(tenant_id) FROM many";
    let plan = app.column(&format!("EXPLAIN (COSTS OFF) {query}")).await.join("\n");
    assert!(plan.contains("Index Only Scan using many_tenant_id_idx"), "{plan}");
    assert_eq!(app.rows(query).await, [["500", "7"]]);
    assert_eq!(app.one("SELECT count(*) FROM many WHERE tenant_id = 8").await, "0");
}
