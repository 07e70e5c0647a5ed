//! A statement without a tenant is refused, whatever its shape, and the error names the table.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{A, OF_A, act_for, acting, orders, seen};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        the_error_says_what_to_do,
        after_its_transaction_a_local_tenant_is_gone_and_the_hint_says_so,
        reads_are_refused,
        writes_are_refused,
        merge_is_refused,
        owners_statements_are_refused,
        queries_with_other_tables_are_refused,
        subqueries_are_refused,
        views_are_refused,
        functions_are_refused,
        prepared_statements_are_refused,
        triggers_and_defaults_are_refused,
        the_table_that_is_named_is_the_protected_one,
        nothing_runs_before_the_refusal,
        a_statement_that_would_find_nothing_is_refused,
    ]
}

/// Protected `orders`, and things over it that the owner made; `plain` is a table like any other.
pub async fn place(db: &Database) -> Client {
    let owner = orders(db).await;
    owner
        .run(
            "CREATE TABLE plain (id int, item text); INSERT INTO plain VALUES (1, 'x'), (2, 'y');
             CREATE TABLE log (id int);
             CREATE VIEW owners_view AS SELECT * FROM orders;
             CREATE VIEW view_of_view AS SELECT id FROM owners_view;
             CREATE VIEW callers_view WITH (security_invoker = true) AS SELECT * FROM orders;
             CREATE FUNCTION inlined() RETURNS SETOF orders STABLE LANGUAGE sql AS 'SELECT * FROM orders';
             CREATE FUNCTION atomic() RETURNS SETOF int STABLE LANGUAGE sql BEGIN ATOMIC SELECT id FROM orders; END;
             CREATE FUNCTION one_call() RETURNS bigint VOLATILE LANGUAGE sql AS 'SELECT count(*) FROM orders';
             CREATE FUNCTION procedural() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM orders); END';
             CREATE FUNCTION dynamic() RETURNS bigint LANGUAGE plpgsql AS
               'DECLARE n bigint; BEGIN EXECUTE ''SELECT count(*) FROM orders'' INTO n; RETURN n; END';
             CREATE FUNCTION looping() RETURNS void LANGUAGE plpgsql AS
               'DECLARE r record; BEGIN FOR r IN SELECT * FROM orders LOOP NULL; END LOOP; END';
             CREATE FUNCTION definer() RETURNS bigint SECURITY DEFINER LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM orders); END';
             CREATE FUNCTION definer_sql() RETURNS SETOF int SECURITY DEFINER STABLE LANGUAGE sql AS 'SELECT id FROM orders';
             CREATE FUNCTION frozen() RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM orders); END';
             CREATE FUNCTION writer() RETURNS void LANGUAGE plpgsql AS 'BEGIN UPDATE orders SET item = item; END'",
        )
        .await;
    owner
}

pub const MESSAGE: &str = "no tenant context for protected table public.orders";

/// Each statement, with # for orders, is refused to the role, and what is refused to `app` to every role; nothing of the table has changed afterwards.
async fn all_refused(db: &Database, role: &str, statements: &[&str]) {
    // What row level security refuses to a plain role, the seal refuses to those that it does not bind.
    let roles = if role == "app" { &["app", "svc", "postgres"][..] } else { &[role] };
    for role in roles {
        let client = db.connect(role).await;
        for statement in statements {
            let refused = client.refused(&statement.replace('#', "orders")).await;
            refused
                .state("42501")
                .message(MESSAGE)
                .detail("The current transaction acts for no tenant.")
                .hint_contains("SET LOCAL");
            client.run("ROLLBACK").await;
        }
    }
    let all = "SELECT md5(string_agg(o::text, ';' ORDER BY id)) FROM orders o";
    let now = db.admin(all).unwrap();
    assert_eq!(now, db.admin(&all.replace("orders o", &format!("({ROWS}) o"))).unwrap(), "{role} changed rows");
}

/// What the table holds from the beginning.
const ROWS: &str = "SELECT i AS id, CASE WHEN i <= 3 THEN 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' ELSE 'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' END::uuid,
                           'item ' || i FROM generate_series(1, 5) i";

async fn the_error_says_what_to_do(db: Database) {
    orders(&db).await;
    for role in ["app", "owner"] {
        db.connect(role)
            .await
            .refused("SELECT * FROM orders")
            .await
            .state("42501")
            .message(MESSAGE)
            .detail("The current transaction acts for no tenant.")
            .hint("Set the tenant first: BEGIN; SET LOCAL bulkhead.tenant_context = '...'; or SELECT bulkhead.set_tenant('...') inside the transaction.");
    }
}

async fn after_its_transaction_a_local_tenant_is_gone_and_the_hint_says_so(db: Database) {
    orders(&db).await;
    let app = db.connect("app").await;
    app.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'")).await;
    assert_eq!(seen(&app).await, OF_A);
    app.run("COMMIT").await;
    let refused = app.refused("TABLE orders").await;
    refused.state("42501").message(MESSAGE).hint_contains("A local context ends with its transaction: use BEGIN.");
}

async fn reads_are_refused(db: Database) {
    place(&db).await;
    all_refused(
        &db,
        "app",
        &[
            "SELECT * FROM #",
            "SELECT FROM #",
            "TABLE #",
            "SELECT count(*) FROM #",
            "SELECT 1 FROM # LIMIT 0",
            "SELECT * FROM # AS other_name (a, b, c)",
            "SELECT * FROM ONLY #",
            "SELECT * FROM # TABLESAMPLE SYSTEM (100)",
            "SELECT * FROM # WHERE ctid = '(0,1)'",
            "SELECT * FROM # WHERE id = 1 FOR UPDATE",
            "SELECT * FROM # FOR KEY SHARE SKIP LOCKED",
            "SELECT tenant_id, count(*) FROM # GROUP BY ROLLUP (tenant_id)",
            "SELECT rank() OVER (ORDER BY id) FROM #",
            "SELECT DISTINCT tenant_id FROM # ORDER BY 1",
            "VALUES ((SELECT max(id) FROM #))",
            "COPY # TO STDOUT",
            "COPY # (id) TO STDOUT WITH (FORMAT csv)",
            "COPY (SELECT * FROM #) TO STDOUT",
            "EXPLAIN SELECT * FROM #",
            "EXPLAIN ANALYZE SELECT * FROM #",
            "BEGIN; DECLARE c CURSOR FOR SELECT * FROM #",
            "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT * FROM #",
            "SELECT query_to_xml('SELECT * FROM #', true, true, '')",
            "SELECT table_to_xml('#', true, true, '')",
        ],
    )
    .await;
}

async fn writes_are_refused(db: Database) {
    place(&db).await;
    for role in ["app", "owner"] {
        all_refused(
            &db,
            role,
            &[
                "INSERT INTO # VALUES (6, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'x')",
                "INSERT INTO # DEFAULT VALUES",
                "INSERT INTO # SELECT * FROM # WHERE false",
                "INSERT INTO # SELECT id + 10, gen_random_uuid(), item FROM plain",
                "INSERT INTO # VALUES (1) ON CONFLICT DO NOTHING",
                "INSERT INTO # VALUES (1) ON CONFLICT (id) DO UPDATE SET item = 'x' RETURNING *",
                "INSERT INTO log SELECT id FROM #",
                "UPDATE # SET item = 'x'",
                "UPDATE # SET item = 'x' WHERE false",
                "UPDATE # SET item = plain.item FROM plain WHERE plain.id = #.id",
                "UPDATE plain SET item = #.item FROM # WHERE plain.id = #.id",
                "DELETE FROM #",
                "DELETE FROM # USING plain WHERE plain.id = #.id RETURNING #.*",
                "DELETE FROM plain USING # WHERE plain.id = #.id",
                "DELETE FROM plain WHERE id IN (SELECT id FROM #)",
                "WITH gone AS (DELETE FROM # RETURNING *) INSERT INTO log SELECT id FROM gone",
                "WITH gone AS (DELETE FROM #) SELECT 1",
            ],
        )
        .await;
    }
    assert_eq!(db.admin("SELECT count(*) FROM plain").unwrap(), "2");
    assert_eq!(db.admin("SELECT count(*) FROM log").unwrap(), "0");
}

async fn merge_is_refused(db: Database) {
    if db.cluster.provision().postgres.major < 15 {
        return;
    }
    place(&db).await;
    all_refused(
        &db,
        "app",
        &[
            "MERGE INTO # o USING plain p ON o.id = p.id WHEN MATCHED THEN UPDATE SET item = 'x'",
            "MERGE INTO # o USING plain p ON o.id = p.id WHEN MATCHED THEN DELETE",
            "MERGE INTO # o USING plain p ON false WHEN NOT MATCHED THEN INSERT VALUES (p.id + 10)",
            "MERGE INTO plain p USING # o ON o.id = p.id WHEN MATCHED THEN UPDATE SET item = o.item",
            "MERGE INTO plain p USING # o ON o.id = p.id WHEN MATCHED THEN DO NOTHING",
        ],
    )
    .await;
}

async fn owners_statements_are_refused(db: Database) {
    place(&db).await;
    all_refused(
        &db,
        "owner",
        &[
            "CREATE TABLE copy AS SELECT * FROM #",
            "SELECT * INTO copy FROM #",
            "CREATE MATERIALIZED VIEW copy AS SELECT * FROM #",
        ],
    )
    .await;
    let owner = db.connect("owner").await;
    owner.run("CREATE MATERIALIZED VIEW later AS SELECT * FROM orders WITH NO DATA").await;
    owner.refused("REFRESH MATERIALIZED VIEW later").await.state("42501").message(MESSAGE);
}

async fn queries_with_other_tables_are_refused(db: Database) {
    place(&db).await;
    all_refused(
        &db,
        "app",
        &[
            "SELECT * FROM plain JOIN # USING (id)",
            "SELECT * FROM plain LEFT JOIN # USING (id)",
            "SELECT plain.* FROM plain LEFT JOIN # ON #.id = plain.id",
            "SELECT * FROM plain, #",
            "SELECT * FROM plain NATURAL FULL JOIN #",
            "SELECT * FROM plain, LATERAL (SELECT * FROM # WHERE #.id = plain.id) l",
            "SELECT id FROM plain UNION ALL SELECT id FROM #",
            "SELECT id FROM plain EXCEPT SELECT id FROM #",
            "SELECT a.id FROM # a JOIN # b USING (id)",
        ],
    )
    .await;
}

async fn subqueries_are_refused(db: Database) {
    place(&db).await;
    all_refused(
        &db,
        "app",
        &[
            "WITH o AS (SELECT * FROM #) SELECT * FROM o",
            "WITH o AS MATERIALIZED (SELECT * FROM #) SELECT * FROM o, o AS p",
            "WITH RECURSIVE r(id) AS (SELECT id FROM # UNION SELECT id + 1 FROM r WHERE id < 3) SELECT * FROM r",
            "SELECT * FROM (SELECT id FROM # OFFSET 0) s",
            "SELECT * FROM plain WHERE id IN (SELECT id FROM #)",
            "SELECT * FROM plain WHERE id NOT IN (SELECT id FROM #)",
            "SELECT * FROM plain WHERE EXISTS (SELECT FROM # WHERE #.id = plain.id)",
            "SELECT * FROM plain WHERE id = ANY (ARRAY(SELECT id FROM #))",
            "SELECT (SELECT item FROM # WHERE #.id = plain.id) FROM plain",
            "SELECT CASE WHEN plain.id = 1 THEN (SELECT max(id) FROM #) END FROM plain",
            "SELECT * FROM plain ORDER BY (SELECT max(id) FROM #)",
            "SELECT * FROM plain LIMIT (SELECT count(*) FROM #)",
            "SELECT 1 HAVING (SELECT count(*) FROM #) > 0",
        ],
    )
    .await;
}

async fn views_are_refused(db: Database) {
    place(&db).await;
    all_refused(
        &db,
        "app",
        &[
            "SELECT * FROM owners_view",
            "SELECT count(*) FROM view_of_view",
            "SELECT * FROM callers_view",
            "UPDATE owners_view SET item = 'x'",
            "INSERT INTO callers_view VALUES (6)",
            "DELETE FROM callers_view",
            "COPY (SELECT * FROM owners_view) TO STDOUT",
            "SELECT * FROM plain WHERE id IN (SELECT id FROM owners_view)",
        ],
    )
    .await;
}

async fn functions_are_refused(db: Database) {
    place(&db).await;
    for role in ["app", "owner"] {
        all_refused(
            &db,
            role,
            &[
                "SELECT * FROM inlined()",
                "SELECT count(*) FROM inlined() WHERE id = 1",
                "SELECT inlined()",
                "SELECT * FROM atomic()",
                "SELECT one_call()",
                "SELECT procedural()",
                "SELECT dynamic()",
                "SELECT looping()",
                "SELECT definer()",
                "SELECT * FROM definer_sql()",
                "SELECT frozen()",
                "SELECT writer()",
                "SELECT * FROM plain WHERE id > one_call()",
                "DO $$ BEGIN PERFORM * FROM orders; END $$",
                "DO $$ BEGIN EXECUTE 'DELETE FROM orders'; END $$",
            ],
        )
        .await;
    }
}

async fn prepared_statements_are_refused(db: Database) {
    place(&db).await;
    let app = acting(&db, "app", A).await;
    app.run("SET plan_cache_mode = force_generic_plan").await;
    app.run(
        "PREPARE q AS SELECT id FROM orders ORDER BY id; PREPARE w(int) AS UPDATE orders SET item = item WHERE id = $1",
    )
    .await;
    let typed = app.prepare("SELECT id FROM orders WHERE id > $1").await.unwrap();
    for _ in 0..7 {
        assert_eq!(app.column("EXECUTE q").await, OF_A);
        app.run("EXECUTE w(1)").await;
        assert_eq!(app.query(&typed, &[&0]).await.unwrap().len(), 3);
    }
    for reset in ["RESET bulkhead.tenant_context", "SET bulkhead.tenant_context = ''", "RESET ALL"] {
        act_for(&app, A).await;
        assert_eq!(app.column("EXECUTE q").await, OF_A);
        app.run(reset).await;
        for statement in ["EXECUTE q", "EXECUTE w(1)", "EXPLAIN EXECUTE q"] {
            app.refused(statement).await.state("42501").message(MESSAGE);
        }
        let error = app.query(&typed, &[&0]).await.unwrap_err();
        assert_eq!(error.as_db_error().unwrap().message(), MESSAGE, "{reset}");
    }
}

async fn triggers_and_defaults_are_refused(db: Database) {
    place(&db)
        .await
        .run(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM count(*) FROM orders; RETURN new; END';
             CREATE TABLE watched (id int); CREATE TRIGGER t BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION note();
             CREATE TABLE counted (id int, n bigint DEFAULT one_call());
             CREATE TABLE checked (id int CHECK (one_call() >= 0));
             CREATE TABLE ruled (id int); CREATE RULE r AS ON INSERT TO ruled DO ALSO DELETE FROM orders",
        )
        .await;
    let statements =
        ["watched", "counted", "checked", "ruled"].map(|table| format!("INSERT INTO {table} (id) VALUES (1)"));
    all_refused(&db, "app", &statements.each_ref().map(String::as_str)).await;
}

async fn the_table_that_is_named_is_the_protected_one(db: Database) {
    let owner = place(&db).await;
    owner
        .run(
            "CREATE SCHEMA \"Shop 2\"; GRANT USAGE ON SCHEMA \"Shop 2\" TO app;
             CREATE TABLE \"Shop 2\".\"Jobs\" (id int, tenant_id text); GRANT SELECT ON \"Shop 2\".\"Jobs\" TO app;
             SELECT bulkhead.protect('\"Shop 2\".\"Jobs\"')",
        )
        .await;
    let app = db.connect("app").await;
    let refused = app.refused("SELECT * FROM plain JOIN \"Shop 2\".\"Jobs\" USING (id)").await;
    refused.message("no tenant context for protected table \"Shop 2\".\"Jobs\"");
    let refused = app.refused("SELECT * FROM plain p JOIN orders USING (id)").await;
    refused.message(MESSAGE);
}

async fn nothing_runs_before_the_refusal(db: Database) {
    let owner = place(&db).await;
    owner
        .run(
            "CREATE SEQUENCE calls; CREATE FUNCTION call(int) RETURNS int COST 0.0001 LANGUAGE plpgsql AS
               $$ BEGIN RAISE NOTICE 'called'; RETURN nextval('calls'); END $$",
        )
        .await;
    let app = db.connect("app").await;
    for statement in [
        "SELECT call(1) FROM plain, orders",
        "SELECT * FROM plain WHERE call(id) > 0 AND id IN (SELECT id FROM orders)",
        "INSERT INTO orders SELECT call(1)",
        "WITH c AS MATERIALIZED (SELECT call(1)) SELECT * FROM c, orders",
    ] {
        app.refused(statement).await.state("42501").message(MESSAGE);
    }
    assert_eq!(app.notices(), [""; 0]);
    assert_eq!(owner.one("SELECT is_called FROM calls").await, "f");
}

async fn a_statement_that_would_find_nothing_is_refused(db: Database) {
    let owner = place(&db).await;
    owner.run(&format!("SET bulkhead.tenant_context = '{A}'; DELETE FROM orders")).await;
    let app = db.connect("app").await;
    for statement in
        ["SELECT * FROM orders WHERE false", "SELECT * FROM orders WHERE id = -1", "DELETE FROM orders WHERE NULL"]
    {
        app.refused(statement).await.state("42501").message(MESSAGE);
    }
}
