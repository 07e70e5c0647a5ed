//! Ways past protect() that worked once: each kept as it was found.

use std::time::Duration;

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{A, B, acting};
use crate::harness::WithoutPreload;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_child_made_with_its_schema_is_protected,
        a_child_made_behind_the_triggers_back_is_filtered,
        where_nothing_is_sealed_a_child_made_behind_the_triggers_back_is_refused_until_adopted,
        an_old_snapshot_protects_nothing,
        a_copied_database_keeps_its_borders_through_a_rename,
        a_trigger_inside_a_cascade_sees_no_other_tenant,
        where_nothing_is_sealed_a_trigger_inside_a_cascade_is_refused,
        protect_runs_nothing_of_the_owners_as_superuser,
        other_peoples_ddl_stays_cheap,
        a_table_that_is_dropped_meanwhile_is_named_as_gone,
    ]
}

/// `event`, partitioned by number, protected.
async fn event(db: &Database) -> pg_test::Client {
    let owner = db.connect("owner").await;
    owner
        .run("CREATE TABLE event (n int, tenant_id uuid) PARTITION BY RANGE (n); SELECT bulkhead.protect('event')")
        .await;
    owner
}

async fn a_child_made_with_its_schema_is_protected(db: Database) {
    let owner = event(&db).await;
    owner.run("CREATE SCHEMA s CREATE TABLE first PARTITION OF public.event FOR VALUES FROM (0) TO (9)").await;
    owner.run("GRANT USAGE ON SCHEMA s TO app; GRANT ALL ON s.first TO app").await;
    db.admin(&format!("INSERT INTO event VALUES (1, '{A}'), (2, '{B}')")).unwrap();
    let app = acting(&db, "app", A).await;
    assert_eq!(app.column("SELECT n FROM s.first").await, ["1"]);
    db.connect("app").await.refused("TABLE s.first").await.state("42501");
}

/// `late`, a partition of `event` that the event trigger did not see, with a row of A's and one of B's.
async fn late_child(db: &Database) -> pg_test::Client {
    let owner = event(db).await;
    db.admin("ALTER EVENT TRIGGER bulkhead_follow_ddl DISABLE").unwrap();
    owner.run("CREATE TABLE late PARTITION OF event FOR VALUES FROM (0) TO (9)").await;
    db.admin(&format!(
        "ALTER EVENT TRIGGER bulkhead_follow_ddl ENABLE ALWAYS; INSERT INTO late VALUES (1, '{A}'), (2, '{B}')"
    ))
    .unwrap();
    owner
}

async fn a_child_made_behind_the_triggers_back_is_filtered(db: Database) {
    let owner = late_child(&db).await;
    for adopted in [false, true] {
        for role in ["app", "owner", "svc", "postgres"] {
            let client = acting(&db, role, A).await;
            assert_eq!(client.column("SELECT n FROM event").await, ["1"], "{role} {adopted}");
            assert_eq!(client.column("SELECT n FROM late").await, ["1"], "{role} {adopted}");
            let naked = db.connect(role).await.refused("TABLE late").await;
            naked.state("42501").message("no tenant context for protected table public.late");
        }
        owner.run("SELECT bulkhead.protect('event')").await;
    }
}

async fn where_nothing_is_sealed_a_child_made_behind_the_triggers_back_is_refused_until_adopted(db: WithoutPreload) {
    let owner = late_child(&db).await;
    let app = acting(&db, "app", A).await;
    // Until then a session may have loaded nothing that could refuse.
    app.run("SELECT bulkhead.tenant_id()").await;
    app.refused("TABLE late")
        .await
        .state("55000")
        .message("public.late is below a protected table, but has no protection of its own");
    assert_eq!(app.column("SELECT n FROM event").await, ["1"]);
    owner.run("SELECT bulkhead.protect('event')").await;
    assert_eq!(app.column("SELECT n FROM late").await, ["1"]);
}

async fn an_old_snapshot_protects_nothing(db: Database) {
    let owner = event(&db).await;
    let other = db.connect("owner").await;
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        other.run(&format!("BEGIN ISOLATION LEVEL {level}; SELECT 1")).await;
        for call in ["protect('event')", "unprotect('event')", "share('event')"] {
            other.run("SAVEPOINT s").await;
            other.refused(&format!("SELECT bulkhead.{call}")).await.state("25001").hint_contains("READ COMMITTED");
            other.run("ROLLBACK TO s").await;
        }
        other.run("ROLLBACK").await;
    }
    // A parent that was protected after the snapshot: its new partition would be missed.
    owner.run("CREATE TABLE plain (n int, tenant_id uuid) PARTITION BY RANGE (n)").await;
    other.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await;
    owner.run("SELECT bulkhead.protect('plain')").await;
    other.refused("CREATE TABLE plain_1 PARTITION OF plain FOR VALUES FROM (0) TO (9)").await.state("25001");
    other.run("ROLLBACK").await;
}

async fn a_copied_database_keeps_its_borders_through_a_rename(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(&format!("CREATE TABLE t (n int, tenant_id uuid); INSERT INTO t VALUES (1, '{A}'), (2, '{B}'); SELECT bulkhead.protect('t')"))
        .await;
    drop(owner);
    let copy = format!("{}_copy", db.name);
    let sql = format!("CREATE DATABASE {copy} TEMPLATE {}", db.name);
    // The template's last session may still be on its way out.
    let mut made = db.cluster.admin("postgres", &sql);
    for _ in 0..50 {
        if made.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        made = db.cluster.admin("postgres", &sql);
    }
    made.unwrap();
    let there = Database { cluster: db.cluster.clone(), name: copy };
    there.connect("owner").await.run("ALTER TABLE t RENAME COLUMN tenant_id TO org_id").await;
    let app = there.connect("app").await;
    app.refused("TABLE t").await.state("42501");
    app.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'")).await;
    assert_eq!(app.column("SELECT n FROM t").await, ["1"]);
    app.refused(&format!("SET LOCAL bulkhead.tenant_context = '{B}'")).await.state("42501");
    app.run("ROLLBACK").await;
    let column = "SELECT tenant_column FROM bulkhead.protected_tables";
    assert_eq!(app.one(column).await, "org_id");
    drop(app);
    there.drop().unwrap();
}

/// `orders` and `items` that are deleted with them; a trigger of `items` counts what comes back into `stock`, that of B too if it can.
async fn cascade(db: &Database) -> pg_test::Client {
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE TABLE stock (sku text, n int, tenant_id uuid); INSERT INTO stock VALUES ('s', 0, '{A}'), ('s', 0, '{B}');
             CREATE TABLE orders (id int PRIMARY KEY, tenant_id uuid); INSERT INTO orders VALUES (1, '{A}'), (2, '{A}'), (3, '{A}');
             CREATE TABLE items (order_id int REFERENCES orders ON DELETE CASCADE, tenant_id uuid);
             INSERT INTO items VALUES (1, '{A}'), (2, '{A}'), (3, '{A}');
             SELECT bulkhead.protect('stock'), bulkhead.protect('orders'), bulkhead.protect('items');
             CREATE FUNCTION back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END;
               UPDATE stock SET n = n + 1; RETURN OLD; END $$;
             CREATE TRIGGER back BEFORE DELETE ON items FOR EACH ROW EXECUTE FUNCTION back()"
        ))
        .await;
    owner
}

const AFTER: &str =
    "DROP TRIGGER back ON items; CREATE TRIGGER back AFTER DELETE ON items FOR EACH ROW EXECUTE FUNCTION back()";
const STOCK: &str = "SELECT string_agg(n::text, ' ' ORDER BY tenant_id) FROM stock";

async fn a_trigger_inside_a_cascade_sees_no_other_tenant(db: Database) {
    let owner = cascade(&db).await;
    for (id, role) in [("1", "app"), ("2", "svc")] {
        let client = acting(&db, role, A).await;
        client.run(&format!("DELETE FROM orders WHERE id = {id}")).await;
        assert_eq!(db.admin(STOCK).unwrap(), format!("{id} 0"), "{role}");
    }
    owner.run(AFTER).await;
    let app = acting(&db, "app", A).await;
    app.run("DELETE FROM orders WHERE id = 3").await;
    assert_eq!(db.admin(STOCK).unwrap(), "3 0");
    assert_eq!(app.one("SELECT count(*) FROM items").await, "0");
}

async fn where_nothing_is_sealed_a_trigger_inside_a_cascade_is_refused(db: WithoutPreload) {
    let owner = cascade(&db).await;
    let app = acting(&db, "app", A).await;
    app.refused("DELETE FROM orders WHERE id = 1")
        .await
        .state("42501")
        .message("a trigger inside a foreign key action cannot use protected table public.stock")
        .hint_contains("AFTER trigger");
    owner.run(AFTER).await;
    app.run("DELETE FROM orders WHERE id = 1").await;
    assert_eq!(db.admin(STOCK).unwrap(), "1 0");
    assert_eq!(app.column("SELECT order_id FROM items ORDER BY 1").await, ["2", "3"]);
}

async fn protect_runs_nothing_of_the_owners_as_superuser(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE ran (as_role text, super boolean);
             CREATE TABLE vt (tenant_id text);
             CREATE FUNCTION evil() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
               INSERT INTO public.ran SELECT current_user, rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user; RETURN 'z'; END $$",
        )
        .await;
    // The name comes to mean a view while protect() waits for the lock.
    owner.run("BEGIN; ALTER TABLE vt RENAME TO vt_old; CREATE VIEW vt AS SELECT public.evil() AS tenant_id").await;
    let admin = db.connect("postgres").await;
    let relation = owner.one("SELECT 'vt_old'::regclass::oid").await;
    let protect = format!("SELECT bulkhead.protect({relation}::oid)");
    let waiting = tokio::spawn(async move { admin.try_run(&protect).await.map_err(|error| format!("{error:?}")) });
    tokio::time::sleep(Duration::from_millis(500)).await;
    owner
        .run("COMMIT; BEGIN; ALTER TABLE vt_old RENAME TO vt_older; CREATE VIEW vt_old AS SELECT public.evil() AS tenant_id; COMMIT")
        .await;
    let _ = waiting.await.unwrap();
    let admin = db.connect("postgres").await;
    assert_eq!(admin.column("SELECT as_role FROM ran WHERE super").await, [""; 0]);
    let views = "SELECT count(*) FROM pg_class WHERE relkind = 'v' AND relrowsecurity";
    assert_eq!(admin.one(views).await, "0");
}

async fn other_peoples_ddl_stays_cheap(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "DO $$ BEGIN FOR i IN 1..150 LOOP EXECUTE format('CREATE TABLE t%s (tenant_id uuid)', i);
               PERFORM bulkhead.protect(format('t%s', i)::regclass); END LOOP; END $$",
        )
        .await;
    // Nothing of what the event trigger looks up grows with the registry: no scan of it for a table that is none of ours.
    let scans = "SELECT seq_scan + idx_scan FROM pg_stat_user_tables WHERE relname = 'protection'";
    // A session hands its counts in when it ends.
    drop(owner);
    let admin = db.connect("postgres").await;
    let settled = async || {
        let mut last = String::new();
        loop {
            tokio::time::sleep(Duration::from_millis(400)).await;
            let now = admin.one(scans).await;
            if now == last {
                return now;
            }
            last = now;
        }
    };
    let mut counted = vec![settled().await.parse::<i64>().unwrap()];
    assert!(counted[0] > 100, "only {counted:?} scans were counted for 150 calls of protect()");
    for tables in [1, 50] {
        let other = db.connect("owner").await;
        other
            .run(&format!(
                "DO $$ BEGIN FOR i IN 1..{tables} LOOP EXECUTE format('CREATE TEMP TABLE x%s (a int)', i); END LOOP; END $$"
            ))
            .await;
        drop(other);
        counted.push(settled().await.parse::<i64>().unwrap());
    }
    // A new session reads the registry, and again when it has made its temporary schemas; its tables cost no reading.
    let (one, fifty) = (counted[1] - counted[0], counted[2] - counted[1]);
    assert!(one <= 5 && fifty <= one + 1, "{one} scans of the registry for 1 temporary table, {fifty} for 50");
}

/// The call has looked the table up, and waits for the one who drops it.
async fn a_table_that_is_dropped_meanwhile_is_named_as_gone(db: Database) {
    let owner = db.connect("owner").await;
    for call in
        ["protect('gone')", "share('gone')", "observe('gone', 'tenant_id')", "register_inventory('gone', 'id', 'n')"]
    {
        let admin = db.connect("postgres").await;
        owner.run("CREATE TABLE gone (id int PRIMARY KEY, tenant_id uuid, n int CHECK (n >= 0))").await;
        let oid = owner.one("SELECT 'gone'::regclass::oid").await;
        owner.run("BEGIN; DROP TABLE gone").await;
        let pid = admin.one("SELECT pg_backend_pid()").await;
        let ask = format!("SELECT bulkhead.{call}");
        let waiting = tokio::spawn(async move { admin.refused(&ask).await });
        let waits = format!("SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pid}");
        while db.admin(&waits).unwrap() != "Lock" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        owner.run("COMMIT").await;
        waiting.await.unwrap().state("22023").message(&format!("there is no relation with oid {oid}"));
    }
}
