//! What the seal must not get in the way of: foreign keys, the owner's migrations, maintenance, replication, dumps.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{OF_A, ROLES, acting, all_rows, orders, seen};
use super::{A, B};
use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        foreign_keys_work_for_every_role_and_tenant,
        a_new_foreign_key_checks_all_rows,
        functions_inside_alter_table_stay_filtered,
        a_query_dressed_as_the_check_of_a_foreign_key_is_filtered,
        partitions_come_and_go_with_foreign_keys,
        migrations_and_maintenance_work_without_a_tenant,
        pg_dump_works_with_a_bypass_and_says_so_without,
        logical_replication_carries_all_rows => 240
    ]
}

/// `shelf` and its children by every kind of action: not composite, so that a row can refer across tenants.
async fn shelves(db: &Database) -> Client {
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE TABLE shelf (id int PRIMARY KEY, tenant_id uuid);
             CREATE TABLE cascaded (id int PRIMARY KEY, tenant_id uuid, shelf int REFERENCES shelf ON DELETE CASCADE ON UPDATE CASCADE);
             CREATE TABLE nulled (id int PRIMARY KEY, tenant_id uuid, shelf int REFERENCES shelf ON DELETE SET NULL);
             CREATE TABLE deferred (id int PRIMARY KEY, tenant_id uuid, shelf int REFERENCES shelf DEFERRABLE INITIALLY DEFERRED);
             INSERT INTO shelf SELECT i, CASE WHEN i <= 5 THEN '{A}' ELSE '{B}' END::uuid FROM generate_series(1, 10) i;
             INSERT INTO cascaded SELECT i, CASE WHEN i <= 5 THEN '{A}' ELSE '{B}' END::uuid, i FROM generate_series(1, 10) i;
             INSERT INTO nulled SELECT * FROM cascaded;
             SELECT bulkhead.protect(t) FROM unnest('{{shelf,cascaded,nulled,deferred}}'::regclass[]) t"
        ))
        .await;
    owner
}

async fn foreign_keys_work_for_every_role_and_tenant(db: Database) {
    shelves(&db).await;
    for (number, role) in ROLES.iter().enumerate() {
        let client = acting(&db, role).await;
        let id = 100 + number;
        // The parent may be another tenant's row: the check must see every row.
        client.run(&format!("INSERT INTO cascaded VALUES ({id}, '{A}', 7)")).await;
        client
            .run("BEGIN; UPDATE cascaded SET shelf = 8 WHERE shelf = 1; DELETE FROM shelf WHERE id = 2; ROLLBACK")
            .await;
        client.refused(&format!("INSERT INTO cascaded VALUES (999, '{A}', 77)")).await.state("23503");
        client
            .run(&format!(
                "BEGIN; INSERT INTO deferred VALUES ({id}, '{A}', {id}); INSERT INTO shelf VALUES ({id}, '{A}'); COMMIT"
            ))
            .await;
        client.refused(&format!("BEGIN; INSERT INTO deferred VALUES (999, '{A}', 999); COMMIT")).await.state("23503");
        client.refused(&format!("DELETE FROM shelf WHERE id = {id}; SELECT 1")).await.state("23503");
        let mine = number + 1;
        client.run(&format!("DELETE FROM shelf WHERE id = {mine}")).await;
        let left = format!("SELECT count(*) FROM cascaded WHERE shelf = {mine}");
        assert_eq!(db.admin(&left).unwrap().trim(), "0", "{role}");
        assert_eq!(
            db.admin(&format!("SELECT shelf IS NULL FROM nulled WHERE id = {mine}")).unwrap().trim(),
            "t",
            "{role}"
        );
    }
    // A child of another tenant follows its parent.
    db.admin("DELETE FROM nulled WHERE id = 5").unwrap();
    db.admin(&format!("INSERT INTO cascaded VALUES (500, '{B}', 5)")).unwrap();
    acting(&db, "owner").await.run("UPDATE shelf SET id = 50 WHERE id = 5").await;
    assert_eq!(db.admin("SELECT shelf FROM cascaded WHERE id = 500").unwrap().trim(), "50");
    acting(&db, "app").await.run("DELETE FROM shelf WHERE id = 50").await;
    assert_eq!(db.admin("SELECT count(*) FROM cascaded WHERE id IN (5, 500)").unwrap().trim(), "0");
}

async fn a_new_foreign_key_checks_all_rows(db: Database) {
    shelves(&db).await;
    let orphan = format!("INSERT INTO orphans VALUES (1, '{B}', 77)");
    db.admin(&format!("SET ROLE owner; CREATE TABLE orphans (id int, tenant_id uuid, shelf int); {orphan}")).unwrap();
    let owner = db.connect("owner").await;
    owner.run("SELECT bulkhead.protect('orphans')").await;
    let add = "ALTER TABLE orphans ADD CONSTRAINT fk FOREIGN KEY (shelf) REFERENCES shelf";
    for role in ["owner", "postgres"] {
        for client in [acting(&db, role).await, db.connect(role).await] {
            client.refused(add).await.state("23503").message_contains("fk");
            client.run(&format!("{add} NOT VALID")).await;
            client.refused("ALTER TABLE orphans VALIDATE CONSTRAINT fk").await.state("23503");
            client.refused("DO $$ BEGIN ALTER TABLE orphans VALIDATE CONSTRAINT fk; END $$").await.state("23503");
            client.run("ALTER TABLE orphans DROP CONSTRAINT fk").await;
        }
    }
    db.admin("UPDATE orphans SET shelf = 8").unwrap();
    for role in ["owner", "postgres"] {
        for client in [acting(&db, role).await, db.connect(role).await] {
            client.run(&format!("{add}; ALTER TABLE orphans DROP CONSTRAINT fk")).await;
            client.run(&format!("{add} NOT VALID; ALTER TABLE orphans VALIDATE CONSTRAINT fk; ALTER TABLE orphans DROP CONSTRAINT fk")).await;
        }
    }
}

async fn functions_inside_alter_table_stay_filtered(db: Database) {
    orders(&db).await;
    db.admin(
        "SET ROLE owner; CREATE TABLE counted (n int); INSERT INTO counted VALUES (1);
         CREATE FUNCTION tell(n bigint) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE WARNING ''% rows'', n; RETURN true; END';
         CREATE FUNCTION by_plpgsql() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN tell((SELECT count(*) FROM orders)); END';
         CREATE FUNCTION by_sql() RETURNS boolean LANGUAGE sql AS 'SELECT tell(count(*)) FROM orders';
         CREATE FUNCTION by_disguise() RETURNS boolean LANGUAGE sql AS
           'SELECT tell(count(*)) FROM orders fk LEFT JOIN orders pk USING (id)';
         CREATE FUNCTION by_disguise_too() RETURNS boolean LANGUAGE plpgsql AS
           'DECLARE n bigint; BEGIN SELECT count(*) INTO n FROM ONLY orders fk LEFT OUTER JOIN ONLY orders pk ON fk.id = pk.id;
            RETURN tell(n); END';
         CREATE FUNCTION by_builtin() RETURNS boolean LANGUAGE sql AS
           'SELECT tell(length(query_to_xml(''SELECT fk.id FROM orders fk JOIN orders pk USING (id)'', true, false, '''')::text)
             - length(replace(query_to_xml(''SELECT fk.id FROM orders fk JOIN orders pk USING (id)'', true, false, '''')::text, ''<id>'', ''id>'')))'",
    )
    .unwrap();
    for role in ["owner", "postgres"] {
        for function in ["by_plpgsql", "by_sql", "by_disguise", "by_disguise_too", "by_builtin"] {
            for statement in [
                format!("ALTER TABLE counted ADD CONSTRAINT c CHECK ({function}())"),
                format!("ALTER TABLE counted ADD d boolean DEFAULT {function}()"),
                format!("ALTER TABLE counted ALTER n TYPE bigint USING {function}()::int"),
            ] {
                let client = acting(&db, role).await;
                client.run(&format!("BEGIN; {statement}; ROLLBACK")).await;
                let heard = client.notices();
                assert!(heard.contains(&"WARNING: 3 rows".to_string()), "{role}: {statement}: {heard:?}");
                assert!(heard.iter().all(|notice| !notice.contains("5 rows")), "{role}: {statement}: {heard:?}");
                db.connect(role).await.refused(&statement).await.state("42501").message_contains("orders");
            }
        }
    }
}

/// ALTER TABLE of anybody's own table runs a query of theirs where the server's own check would run.
async fn a_query_dressed_as_the_check_of_a_foreign_key_is_filtered(db: Database) {
    let rows = |columns: &str| format!("(1, '{A}', {columns}), (2, '{B}', {columns}), (3, '{B}', {columns})");
    db.admin(&format!(
        "SET ROLE owner; CREATE TABLE pk (a int PRIMARY KEY, b int, tenant_id uuid, UNIQUE (a, b));
         CREATE TABLE optional (id int, tenant_id uuid, a int REFERENCES pk); INSERT INTO optional VALUES {};
         CREATE TABLE partly (id int, tenant_id uuid, a int, b int, FOREIGN KEY (a, b) REFERENCES pk (a, b)); INSERT INTO partly VALUES {};
         CREATE TABLE unchecked (id int, tenant_id uuid, a int); INSERT INTO unchecked VALUES {};
         ALTER TABLE unchecked ADD FOREIGN KEY (a) REFERENCES pk NOT VALID;
         GRANT ALL ON pk, optional, partly, unchecked TO app, svc;
         SELECT bulkhead.protect(t) FROM unnest('{{pk,optional,partly,unchecked}}'::regclass[]) t",
        rows("NULL"),
        rows("1, NULL"),
        rows("77")
    ))
    .unwrap();
    let one = "pk.a OPERATOR(pg_catalog.=) fk.a";
    let both = format!("{one} AND pk.b OPERATOR(pg_catalog.=) fk.b");
    for (table, columns, on, orphans) in [
        ("optional", "fk.id, fk.a", one, "pk.a IS NULL"),
        ("optional", "fk.a", one, "pk.a IS NULL"),
        ("optional", "fk.a", one, "pk.a IS NULL AND (fk.a IS NULL)"),
        ("partly", "fk.a, fk.b", both.as_str(), "pk.a IS NULL AND (fk.a IS NOT NULL)"),
        ("partly", "fk.a, fk.b", both.as_str(), "pk.a IS NULL AND (fk.a IS NOT NULL OR fk.b IS NOT NULL)"),
        ("unchecked", "fk.a", one, "pk.a IS NULL AND (fk.a IS NOT NULL)"),
    ] {
        let from = format!("FROM ONLY public.{table} fk LEFT OUTER JOIN ONLY public.pk pk ON ({on})");
        let forged = format!("SELECT {columns} {from} WHERE {orphans}");
        let xml = format!("query_to_xml('{forged}', true, true, '')");
        for role in ROLES {
            let client = acting(&db, role).await;
            client.run("CREATE TEMP TABLE mine (x text); INSERT INTO mine VALUES ('')").await;
            for alter in [format!("ADD y text DEFAULT {xml}::text"), format!("ALTER x TYPE xml USING {xml}")] {
                client.run(&format!("ALTER TABLE mine {alter}")).await;
                let column = if alter.starts_with("ADD") { "y" } else { "x" };
                let count = format!(
                    "SELECT (length({column}::text) - length(replace({column}::text, '<row ', ''))) / 5 FROM mine"
                );
                assert_eq!(client.one(&count).await, "1", "{role}: {alter}");
            }
            let client = db.connect(role).await;
            client.run("CREATE TEMP TABLE mine (x text); INSERT INTO mine VALUES ('')").await;
            client.refused(&format!("ALTER TABLE mine ADD y text DEFAULT {xml}::text")).await.state("42501");
        }
    }
}

async fn partitions_come_and_go_with_foreign_keys(db: Database) {
    shelves(&db).await;
    db.admin(&format!(
        "SET ROLE owner; CREATE TABLE log (id int, tenant_id uuid, shelf int REFERENCES shelf, PRIMARY KEY (id)) PARTITION BY RANGE (id);
         CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (10); CREATE TABLE log_rest PARTITION OF log DEFAULT;
         CREATE TABLE entry (id int, tenant_id uuid, log int REFERENCES log);
         INSERT INTO log VALUES (1, '{A}', 8), (2, '{B}', 1), (20, '{B}', 7); INSERT INTO entry VALUES (1, '{B}', 2)"
    ))
    .unwrap();
    let owner = db.connect("owner").await;
    owner.run("SELECT bulkhead.protect('log'); SELECT bulkhead.protect('entry')").await;
    for role in ["owner", "postgres"] {
        for client in [acting(&db, role).await, db.connect(role).await] {
            // An entry of B's refers to a row in it.
            client.refused("ALTER TABLE log DETACH PARTITION log_1").await.state("23503");
            client.run("ALTER TABLE log DETACH PARTITION log_rest").await;
            client.run("ALTER TABLE log ATTACH PARTITION log_rest DEFAULT").await;
        }
    }
    assert_eq!(all_rows(&db, "log").lines().count(), 3);
}

async fn migrations_and_maintenance_work_without_a_tenant(db: Database) {
    let owner = orders(&db).await;
    db.admin(&format!("INSERT INTO orders SELECT i, '{B}', 'item ' || i FROM generate_series(100, 3000) i")).unwrap();
    let before = all_rows(&db, "orders");
    for client in [&owner, &acting(&db, "owner").await, &db.connect("postgres").await] {
        client.run("SET min_parallel_table_scan_size = 0; SET max_parallel_maintenance_workers = 2; SET maintenance_work_mem = '256MB'").await;
        for statement in [
            "CREATE INDEX by_item ON orders (item)",
            "CREATE INDEX CONCURRENTLY by_length ON orders (length(item)) WHERE id > 3",
            "REINDEX TABLE orders",
            "CLUSTER orders USING by_item",
            "VACUUM FULL orders",
            "VACUUM ANALYZE orders",
            "ALTER TABLE orders ADD extra int NOT NULL DEFAULT 5, ADD stamp double precision DEFAULT random()",
            "ALTER TABLE orders ALTER id TYPE bigint, ALTER item TYPE varchar USING upper(item)",
            "ALTER TABLE orders ALTER id TYPE int, ALTER item TYPE text USING lower(item)",
            "ALTER TABLE orders ADD CONSTRAINT positive CHECK (id > 0), ALTER item SET NOT NULL",
            "ALTER TABLE orders ADD CONSTRAINT once UNIQUE (tenant_id, id)",
            "ALTER TABLE orders DROP CONSTRAINT once, DROP CONSTRAINT positive, DROP extra, DROP stamp",
            "DROP INDEX by_item, by_length",
        ] {
            client.run(statement).await;
        }
        assert_eq!(db.admin("SELECT reltuples FROM pg_class WHERE oid = 'orders'::regclass").unwrap().trim(), "2906");
        assert_eq!(all_rows(&db, "orders"), before);
    }
    assert_eq!(seen(&acting(&db, "svc").await).await, OF_A);
}

async fn pg_dump_works_with_a_bypass_and_says_so_without(db: Database) {
    orders(&db).await;
    db.admin("GRANT EXECUTE ON FUNCTION bulkhead.begin_bypass(text) TO svc; GRANT USAGE ON SCHEMA bulkhead TO svc")
        .unwrap();
    let dump = |role: &str, options: &str| {
        let output =
            db.client_program("pg_dump", role).args(["-t", "orders"]).env("PGOPTIONS", options).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    for role in ["svc", "postgres"] {
        let (ok, _, err) = dump(role, "");
        assert!(!ok && err.contains("orders"), "{role}: {err}");
        assert!(err.contains("begin_bypass") || err.contains("bulkhead.bypass"), "{role} is told of the bypass: {err}");
        let (ok, out, err) = dump(role, &format!("-c bulkhead.bypass=backup-{role}"));
        assert!(ok, "{role}: {err}");
        assert!(out.contains("item 1\n") && out.contains("item 5\n"), "{role}: {out}");
        assert!(db.log().contains(&format!("backup-{role}")), "{role}");
    }
}

async fn logical_replication_carries_all_rows(_: Nowhere) {
    let cluster = pg_test::cluster::Cluster::builder().setting("wal_level", "logical").start().unwrap();
    let from = cluster.database("publisher").unwrap();
    let to = cluster.empty_database("subscriber").unwrap();
    let owner = orders(&from).await;
    owner.run("CREATE TABLE filtered (id int PRIMARY KEY, tenant_id uuid, n int)").await;
    from.admin(&format!("INSERT INTO filtered SELECT i, '{B}', i FROM generate_series(1, 5) i")).unwrap();
    owner.run("SELECT bulkhead.protect('filtered')").await;
    from.admin("CREATE PUBLICATION p FOR TABLE orders, TABLE filtered WHERE (id > 2)").unwrap();
    from.connect("postgres").await.run("SELECT pg_create_logical_replication_slot('s', 'pgoutput')").await;
    to.admin("CREATE TABLE orders (id int PRIMARY KEY, tenant_id uuid, item text); CREATE TABLE filtered (id int PRIMARY KEY, tenant_id uuid, n int)").unwrap();
    let connection =
        format!("host={} port={} user=postgres dbname={}", cluster.socket_dir().display(), cluster.port(), from.name);
    to.admin(&format!(
        "CREATE SUBSCRIPTION s CONNECTION '{connection}' PUBLICATION p WITH (create_slot = false, slot_name = 's')"
    ))
    .unwrap();
    reaches(&to, "SELECT count(*) FROM orders", "5").await;
    reaches(&to, "SELECT count(*) FROM filtered", "3").await;
    from.admin(&format!("INSERT INTO orders VALUES (6, '{B}', 'six'); UPDATE orders SET item = 'changed' WHERE id = 4; DELETE FROM orders WHERE id = 1")).unwrap();
    acting(&from, "app")
        .await
        .run("INSERT INTO orders (id, item) VALUES (7, 'seven'); UPDATE orders SET item = 'mine'")
        .await;
    reaches(
        &to,
        "SELECT string_agg(id || item, ',' ORDER BY id) FROM orders",
        "2mine,3mine,4changed,5item 5,6six,7mine",
    )
    .await;
    from.admin("TRUNCATE orders").unwrap();
    reaches(&to, "SELECT count(*) FROM orders", "0").await;
    to.admin("ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s").unwrap();
}

async fn reaches(db: &Database, query: &str, expected: &str) {
    let start = Instant::now();
    loop {
        let got = db.admin(query).unwrap();
        if got.trim() == expected {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{query} stays {got}\n{}", db.cluster.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
