//! What is counted, by whom, and what is not.

use std::time::Duration;

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{A, B, NO_ROWS, bare_orders, counted, orders};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        every_kind_of_statement_counts,
        copy_counts,
        truncate_counts,
        truncate_that_waits_counts_once,
        a_statement_counts_by_role_application_and_text,
        superusers_and_bypassrls_roles_count,
        a_statement_with_a_tenant_does_not_count,
        a_tenant_that_the_column_cannot_hold_counts,
        a_bypass_does_not_count,
        foreign_keys_do_not_count,
        what_fails_or_is_rolled_back_counts,
        a_plan_cached_before_counts,
        partitions_count_under_their_own_names,
        inheritance_children_count,
        nothing_else_changes,
        sessions_count_together,
        no_constant_is_shown,
        the_query_id_is_shown_where_it_is_computed,
    ]
}

async fn every_kind_of_statement_counts(db: Database) {
    let owner = orders(&db).await;
    owner
        .run(
            "CREATE VIEW seen AS SELECT id FROM orders; GRANT SELECT ON seen TO app;
              CREATE FUNCTION total() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
              AS 'BEGIN RETURN (SELECT count(*) FROM orders); END'",
        )
        .await;
    let app = db.connect("app").await;
    let statements = [
        "DELETE FROM orders WHERE item IS NULL",
        "DO $?",
        "EXPLAIN SELECT id FROM orders",
        "INSERT INTO orders SELECT id FROM seen LIMIT NULL ON CONFLICT DO NOTHING",
        "SELECT FROM seen",
        "SELECT id FROM orders FOR UPDATE",
        "SELECT item FROM orders UNION ALL SELECT item FROM orders",
        "SELECT total()",
        "UPDATE orders SET item = item",
        "WITH o AS (SELECT item FROM orders) TABLE o",
    ];
    for statement in statements {
        app.run(&statement.replace("$?", "$$ BEGIN PERFORM FROM orders; END $$")).await;
    }
    // One that names the table twice counts once.
    let expected: Vec<[&str; 2]> = statements.iter().map(|statement| [*statement, "1"]).collect();
    assert_eq!(counted(&owner).await, expected);

    // A cursor counts when it is opened.
    app.run("BEGIN; DECLARE c CURSOR FOR TABLE orders").await;
    app.run("FETCH c").await;
    app.run("COMMIT").await;
    let cursor = counted(&owner).await.into_iter().filter(|row| row[0].contains("CURSOR") || row[0].contains("FETCH"));
    assert_eq!(cursor.collect::<Vec<_>>(), [["BEGIN; DECLARE c CURSOR FOR TABLE orders", "1"]]);
}

async fn copy_counts(db: Database) {
    let owner = orders(&db).await;
    let script = "COPY orders TO STDOUT;\nCOPY orders (id, item) FROM STDIN;\n6\tsix\n\\.\n";
    let output = db.psql("app", script).unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 5);
    assert_eq!(counted(&owner).await, [["COPY orders (id, item) FROM STDIN", "1"], ["COPY orders TO STDOUT", "1"]]);
    assert_eq!(owner.one("SELECT item FROM orders WHERE id = 6").await, "six");
}

async fn truncate_counts(db: Database) {
    let owner = orders(&db).await;
    owner.run("TRUNCATE orders").await;
    assert_eq!(counted(&owner).await, [["TRUNCATE orders", "1"]]);
}

/// The server asks about a table again when it has heard of any change while it waited for the lock.
async fn truncate_that_waits_counts_once(db: Database) {
    let owner = orders(&db).await;
    let reader = db.connect("app").await;
    reader.run("BEGIN; LOCK TABLE orders IN ACCESS SHARE MODE").await;
    let truncating = tokio::spawn(async move {
        owner.run("TRUNCATE orders").await;
        owner
    });
    let waits = "SELECT count(*) FROM pg_stat_activity
                  WHERE wait_event_type = 'Lock' AND query = 'TRUNCATE orders' AND datname = current_database()";
    while db.admin(waits).unwrap() == "0" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    db.admin("CREATE TABLE made_meanwhile (id int)").unwrap();
    reader.run("COMMIT").await;
    let owner = truncating.await.unwrap();
    let truncates = counted(&owner).await.into_iter().filter(|row| row[0].contains("TRUNCATE"));
    assert_eq!(truncates.collect::<Vec<_>>(), [["TRUNCATE orders", "1"]]);
}

async fn a_statement_counts_by_role_application_and_text(db: Database) {
    let owner = orders(&db).await;
    let app = db.connect("app").await;
    app.run("SET application_name = 'worker'").await;
    for id in 1..=3 {
        app.run(&format!("SELECT  item FROM orders\n WHERE id = {id} -- again")).await;
    }
    app.run("SET application_name = 'web'").await;
    app.run("SELECT item FROM orders WHERE id = 1").await;
    db.connect("svc").await.run("SELECT item FROM orders WHERE id = 1").await;
    let rows = owner
        .rows(
            "SELECT relation, role, application_name, query, count, last_seen > now() - interval '10 minutes', queryid
               FROM bulkhead.naked_statements ORDER BY role, application_name",
        )
        .await;
    let query = "SELECT item FROM orders WHERE id = $?";
    assert_eq!(
        rows,
        [
            ["orders", "app", "web", query, "1", "t", "NULL"],
            ["orders", "app", "worker", query, "3", "t", "NULL"],
            ["orders", "svc", "bulkhead test", query, "1", "t", "NULL"]
        ]
    );
}

async fn superusers_and_bypassrls_roles_count(db: Database) {
    let owner = orders(&db).await;
    for role in ["postgres", "svc", "owner", "app"] {
        db.connect(role).await.run("TABLE orders").await;
    }
    let roles = owner.column("SELECT role FROM bulkhead.naked_statements WHERE count = 1 ORDER BY 1").await;
    assert_eq!(roles, ["app", "owner", "postgres", "svc"]);
}

async fn a_statement_with_a_tenant_does_not_count(db: Database) {
    let owner = orders(&db).await;
    for role in ["postgres", "svc", "owner", "app"] {
        let client = db.connect(role).await;
        client.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
        client.run("SELECT FROM orders; UPDATE orders SET item = item; DELETE FROM orders WHERE id > 9").await;
        client.run(&format!("INSERT INTO orders VALUES (9, '{B}'); DELETE FROM orders WHERE id = 9")).await;
    }
    assert_eq!(counted(&owner).await, NO_ROWS);
    // The same sessions without it: the test can fail.
    let app = db.connect("app").await;
    app.run("SELECT FROM orders").await;
    assert_eq!(counted(&owner).await, [["SELECT FROM orders", "1"]]);
}

async fn a_tenant_that_the_column_cannot_hold_counts(db: Database) {
    let owner = orders(&db).await;
    let app = db.connect("app").await;
    app.run("SET bulkhead.tenant_context = 'h2o'").await;
    app.run("TABLE orders").await;
    assert_eq!(counted(&owner).await, [["TABLE orders", "1"]]);
}

async fn a_bypass_does_not_count(db: Database) {
    let owner = orders(&db).await;
    // There is a seal to bypass only where something is protected.
    let svc = db.past_the_seal("svc").await;
    svc.run("TABLE orders").await;
    assert_eq!(counted(&owner).await, NO_ROWS);
}

async fn foreign_keys_do_not_count(db: Database) {
    let owner = orders(&db).await;
    owner.run("CREATE TABLE lines (order_id int REFERENCES orders ON DELETE CASCADE)").await;
    let app = db.connect("app").await;
    app.run("INSERT INTO lines VALUES (1)").await;
    assert_eq!(counted(&owner).await, NO_ROWS);
    owner.run("SELECT bulkhead.observe('lines', 'order_id')").await;
    app.run("DELETE FROM orders WHERE id = 1").await;
    assert_eq!(app.one("SELECT (SELECT count(*) FROM lines) = 0").await, "t");
    let relations = owner.column("SELECT relation FROM bulkhead.naked_statements WHERE query LIKE 'DELETE%'").await;
    assert_eq!(relations, ["orders"], "the cascade is the foreign key's own");
}

/// Counted all the same: the board is not part of any transaction.
async fn what_fails_or_is_rolled_back_counts(db: Database) {
    let owner = orders(&db).await;
    let app = db.connect("app").await;
    app.run("BEGIN").await;
    app.run("DELETE FROM orders").await;
    app.run("ROLLBACK").await;
    app.refused("SELECT 1 / (id - 1) FROM orders").await.state("22012");
    app.run("BEGIN; SAVEPOINT s").await;
    app.run("SELECT item FROM orders").await;
    app.run("ROLLBACK TO s; COMMIT").await;
    let expected =
        [["DELETE FROM orders", "1"], ["SELECT $? / (id - $?) FROM orders", "1"], ["SELECT item FROM orders", "1"]];
    assert_eq!(counted(&owner).await, expected);
    assert_eq!(owner.one("SELECT count(*) FROM orders").await, "5");
}

async fn a_plan_cached_before_counts(db: Database) {
    let owner = bare_orders(&db).await;
    let app = db.connect("app").await;
    app.run("PREPARE p AS SELECT item FROM orders WHERE id = $1; SET plan_cache_mode = force_generic_plan").await;
    app.run("CREATE FUNCTION pg_temp.f() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM orders); END'")
        .await;
    for _ in 0..7 {
        app.run("EXECUTE p (1)").await;
        app.run("SELECT pg_temp.f()").await;
    }
    assert_eq!(counted(&owner).await, NO_ROWS);
    owner.run("SELECT bulkhead.observe('orders')").await;
    app.run("EXECUTE p (1)").await;
    app.run("EXECUTE p (2)").await;
    app.run("SELECT pg_temp.f()").await;
    assert_eq!(counted(&owner).await, [["EXECUTE p ($?)", "2"], ["SELECT pg_temp.f()", "1"]]);
}

async fn partitions_count_under_their_own_names(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE calls (id int, tenant_id uuid) PARTITION BY RANGE (id);
              CREATE TABLE old PARTITION OF calls FOR VALUES FROM (0) TO (100);
              SELECT bulkhead.observe('calls');
              CREATE TABLE new PARTITION OF calls FOR VALUES FROM (100) TO (200)",
        )
        .await;
    let app = db.connect("app").await;
    for table in ["calls", "old", "new"] {
        app.run(&format!("SELECT id FROM {table}")).await;
    }
    let rows = owner.rows("SELECT relation, query, count FROM bulkhead.naked_statements ORDER BY relation::text").await;
    assert_eq!(
        rows,
        [
            ["calls", "SELECT id FROM calls", "1"],
            ["new", "SELECT id FROM new", "1"],
            ["old", "SELECT id FROM old", "1"]
        ]
    );
}

async fn inheritance_children_count(db: Database) {
    let owner = orders(&db).await;
    // The tenant column has another number there.
    owner.run("CREATE TABLE more (extra int, tenant_id uuid, id int, item text)").await;
    owner.run("ALTER TABLE more ALTER COLUMN id SET NOT NULL; ALTER TABLE more INHERIT orders").await;
    let app = db.connect("app").await;
    app.run("SELECT extra FROM more").await;
    app.run("SELECT id FROM orders").await;
    let rows = owner.rows("SELECT relation, count FROM bulkhead.naked_statements ORDER BY relation::text").await;
    assert_eq!(rows, [["more", "1"], ["orders", "1"]]);
}

/// Everything in the catalogs about the table.
async fn picture(client: &Client) -> Vec<String> {
    client
        .column(
            "SELECT to_jsonb(c)::text FROM pg_class c WHERE oid = 'orders'::regclass
             UNION ALL SELECT to_jsonb(a)::text FROM pg_attribute a WHERE attrelid = 'orders'::regclass
             UNION ALL SELECT to_jsonb(p)::text FROM pg_policy p
             UNION ALL SELECT to_jsonb(i)::text FROM pg_index i WHERE indrelid = 'orders'::regclass
             UNION ALL SELECT to_jsonb(t)::text FROM pg_trigger t WHERE tgrelid = 'orders'::regclass
             ORDER BY 1",
        )
        .await
}

async fn nothing_else_changes(db: Database) {
    let owner = bare_orders(&db).await;
    let before = picture(&owner).await;
    owner.run("SELECT bulkhead.observe('orders')").await;
    assert_eq!(picture(&owner).await, before);
    let rows = "SELECT count(*), count(DISTINCT tenant_id) FROM orders";
    for role in ["postgres", "svc", "owner", "app"] {
        let client = db.connect(role).await;
        assert_eq!(client.rows(rows).await, [["5", "2"]], "{role} without a tenant");
        client.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
        assert_eq!(client.rows(rows).await, [["5", "2"]], "{role} with a tenant");
        client.run(&format!("UPDATE orders SET tenant_id = '{B}' WHERE id = 1")).await;
        client.run(&format!("UPDATE orders SET tenant_id = '{A}' WHERE id = 1")).await;
    }
    assert_eq!(owner.column("SELECT relation FROM bulkhead.protected_tables").await, [""; 0]);
}

async fn sessions_count_together(db: Database) {
    let owner = orders(&db).await;
    let mut running = Vec::new();
    for session in 0..8 {
        let app = db.connect("app").await;
        running.push(tokio::spawn(async move {
            for id in 0..50 {
                app.run(&format!("SELECT item FROM orders WHERE id = {id}")).await;
                app.run(&format!("SELECT item AS of_{session} FROM orders WHERE id = {id}")).await;
            }
        }));
    }
    for session in running {
        session.await.unwrap();
    }
    let rows = counted(&owner).await;
    assert_eq!(rows.len(), 9, "{rows:?}");
    assert_eq!(rows.iter().filter(|row| row[1] == "50").count(), 8, "{rows:?}");
    assert!(rows.contains(&vec!["SELECT item FROM orders WHERE id = $?".into(), "400".into()]), "{rows:?}");
}

async fn no_constant_is_shown(db: Database) {
    let owner = orders(&db).await;
    let app = db.connect("app").await;
    let statements = [
        "SELECT FROM orders WHERE item = 'secret'",
        "SELECT FROM orders WHERE item = 'it''s secret'",
        r"SELECT FROM orders WHERE item = E'it\'s secret'",
        r"SELECT FROM orders WHERE item LIKE'a\\' OR item = 'secret'",
        "SELECT FROM orders WHERE item = $$secret$$ OR item = $x$secret $$ secret$x$",
        "SELECT FROM orders WHERE item = U&'secret'",
        "SELECT FROM orders WHERE item = ('se'\n'cret') /* secret */ -- secret",
        "SELECT FROM orders WHERE id IN (987654, -987654, 987654e0, 9.87654)",
        "SELECT FROM orders WHERE id=987654 AND id>987654",
    ];
    for statement in statements {
        app.run(statement).await;
    }
    app.run("SET standard_conforming_strings = off; SET escape_string_warning = off; SET backslash_quote = on").await;
    app.run(r"SELECT id FROM orders WHERE item = 'it\'s secret'").await;
    let rows = counted(&owner).await;
    assert!(rows.len() >= 9, "{rows:#?}");
    for row in rows {
        assert!(!row[0].contains("cret") && !row[0].contains("87654"), "{row:?}");
    }
}

async fn the_query_id_is_shown_where_it_is_computed(db: Database) {
    let owner = orders(&db).await;
    let superuser = db.connect("postgres").await;
    superuser.run("SET compute_query_id = on").await;
    superuser.run("SELECT item FROM orders").await;
    let same = "SELECT queryid IS NOT NULL FROM bulkhead.naked_statements";
    assert_eq!(owner.column(same).await, ["t"]);
    db.connect("app").await.run("SELECT item FROM orders").await;
    assert_eq!(owner.column(&format!("{same} WHERE role = 'app'")).await, ["f"]);
}
