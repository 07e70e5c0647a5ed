//! What would move rows out of reach of the seal: TRUNCATE, copies of the table, parents that are not protected, COPY.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{OF_A, ROLES, acting, all_rows, orders};
use super::{A, B};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        truncate_needs_a_bypass,
        copies_of_the_table_hold_the_tenants_rows,
        a_parent_that_is_not_protected_is_refused,
        below_such_a_parent_nothing_is_read,
        copy_to_gives_the_tenants_rows,
        copy_from_takes_the_tenants_rows,
        copy_from_refuses_what_it_cannot_check,
        naked_copy_is_refused,
        copy_knows_hostile_names
    ]
}

/// psql's answer to a script as one of the roles, under the tenant when there is one.
fn psql(db: &Database, role: &str, tenant: &str, script: &str) -> (String, String) {
    let script = format!("SET bulkhead.tenant_context = '{tenant}';\n{script}");
    let output = db.psql(role, &script).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

async fn truncate_needs_a_bypass(db: Database) {
    let owner = orders(&db).await;
    owner.run("CREATE TABLE other (id int PRIMARY KEY); ALTER TABLE orders ADD FOREIGN KEY (id) REFERENCES other NOT VALID").await;
    owner
        .run(
            "CREATE TABLE parts (id int, tenant_id uuid) PARTITION BY RANGE (id);
         CREATE TABLE part PARTITION OF parts DEFAULT; SELECT bulkhead.protect('parts')",
        )
        .await;
    for role in ["owner", "postgres"] {
        for client in [db.connect(role).await, acting(&db, role).await] {
            for statement in [
                "TRUNCATE orders",
                "TRUNCATE ONLY orders",
                "TRUNCATE other CASCADE",
                "TRUNCATE other, orders",
                "TRUNCATE parts",
                "TRUNCATE part",
                "DO $$ BEGIN TRUNCATE orders; END $$",
            ] {
                client.refused(statement).await.state("55000").hint_contains("begin_bypass");
            }
        }
    }
    assert_eq!(all_rows(&db, "orders").lines().count(), 5);
    db.admin("TRUNCATE orders").unwrap();
    assert_eq!(all_rows(&db, "orders"), "");
}

async fn copies_of_the_table_hold_the_tenants_rows(db: Database) {
    orders(&db).await;
    for role in ["owner", "postgres"] {
        let client = acting(&db, role).await;
        for (create, table, drop) in [
            ("CREATE TABLE x AS SELECT id FROM orders", "x", "TABLE"),
            ("SELECT id INTO x FROM orders", "x", "TABLE"),
            ("CREATE TEMP TABLE x AS TABLE orders", "x", "TABLE"),
            (
                "CREATE MATERIALIZED VIEW x AS SELECT id FROM orders; REFRESH MATERIALIZED VIEW x",
                "x",
                "MATERIALIZED VIEW",
            ),
            (
                "CREATE MATERIALIZED VIEW x AS SELECT id FROM orders WITH NO DATA; REFRESH MATERIALIZED VIEW x",
                "x",
                "MATERIALIZED VIEW",
            ),
            ("PREPARE p AS SELECT id FROM orders; CREATE TABLE x AS EXECUTE p; DEALLOCATE p", "x", "TABLE"),
        ] {
            client.run(create).await;
            assert_eq!(client.column(&format!("SELECT id FROM {table} ORDER BY 1")).await, OF_A, "{role}: {create}");
            client.run(&format!("DROP {drop} {table}")).await;
        }
        let naked = db.connect(role).await;
        naked.run("CREATE MATERIALIZED VIEW mv AS SELECT id FROM orders WITH NO DATA").await;
        for statement in [
            "CREATE TABLE x AS SELECT id FROM orders",
            "SELECT id INTO x FROM orders",
            "CREATE MATERIALIZED VIEW x AS SELECT id FROM orders",
            "REFRESH MATERIALIZED VIEW mv",
            "INSERT INTO orders SELECT * FROM orders",
        ] {
            naked.refused(statement).await.state("42501").message_contains("orders");
        }
        naked.run("DROP MATERIALIZED VIEW mv").await;
    }
}

async fn a_parent_that_is_not_protected_is_refused(db: Database) {
    let owner = orders(&db).await;
    owner
        .run(
            "CREATE TABLE loose (id int NOT NULL, tenant_id uuid, item text);
         CREATE TABLE wide (id int NOT NULL, tenant_id uuid NOT NULL, item text) PARTITION BY RANGE (id)",
        )
        .await;
    for role in ["owner", "postgres"] {
        for client in [db.connect(role).await, acting(&db, role).await] {
            for statement in [
                "ALTER TABLE orders INHERIT loose",
                "ALTER TABLE wide ATTACH PARTITION orders FOR VALUES FROM (1) TO (100)",
                "ALTER TABLE wide ATTACH PARTITION orders DEFAULT",
            ] {
                client.refused(statement).await.state("55000");
            }
        }
    }
}

async fn below_such_a_parent_nothing_is_read(db: Database) {
    let owner = orders(&db).await;
    owner
        .run("CREATE TABLE loose (id int NOT NULL, tenant_id uuid, item text); CREATE TABLE top (id int NOT NULL)")
        .await;
    db.admin("ALTER EVENT TRIGGER bulkhead_follow DISABLE".replace("bulkhead_follow", &event_trigger(&db)).as_str())
        .unwrap();
    let trigger = event_trigger(&db);
    db.admin(&format!(
        "ALTER TABLE orders INHERIT loose; ALTER TABLE loose INHERIT top; ALTER EVENT TRIGGER {trigger} ENABLE;
         GRANT ALL ON loose, top TO PUBLIC; CREATE VIEW over AS SELECT * FROM top; GRANT ALL ON over TO PUBLIC"
    ))
    .unwrap();
    for role in ROLES {
        for client in [db.connect(role).await, acting(&db, role).await] {
            for statement in [
                "SELECT * FROM loose",
                "SELECT * FROM top",
                "SELECT * FROM over",
                "UPDATE loose SET item = 'x'",
                "DELETE FROM top",
                "SELECT count(*) FROM top",
                "COPY (SELECT * FROM loose) TO STDOUT",
            ] {
                client.refused(statement).await.state("42501").message_contains("is a parent of a protected table");
            }
            client.run("SELECT * FROM ONLY loose").await;
        }
    }
    assert_eq!(all_rows(&db, "orders").lines().filter(|row| row.contains("item")).count(), 5);
}

/// The event trigger that watches for new children.
fn event_trigger(db: &Database) -> String {
    db.admin("SELECT quote_ident(evtname) FROM pg_event_trigger WHERE evtevent = 'ddl_command_end' LIMIT 1")
        .unwrap()
        .trim()
        .into()
}

async fn copy_to_gives_the_tenants_rows(db: Database) {
    let owner = orders(&db).await;
    owner
        .run(
            "ALTER TABLE orders ADD twice int GENERATED ALWAYS AS (id * 2) STORED, ADD \"odd \"\"name\" int DEFAULT 7;
         ALTER TABLE orders ADD gone int; ALTER TABLE orders DROP gone",
        )
        .await;
    let file = format!("/tmp/{}.copy", db.name);
    for role in ROLES {
        for (options, expected) in [
            ("COPY orders TO STDOUT;", "1\ta0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\titem 1\t7"),
            ("COPY orders (item, id, twice) TO STDOUT;", "item 3\t3\t6"),
            ("COPY orders (\"odd \"\"name\", id) TO STDOUT (FORMAT csv, HEADER);", "\"odd \"\"name\",id\n7,1"),
            ("COPY ONLY_ORDERS TO STDOUT;", "item 2"),
            ("COPY public.orders TO STDOUT (FORMAT csv, FORCE_QUOTE (item));", "\"item 3\""),
            ("\\copy orders to stdout", "item 3"),
        ] {
            let script = options.replace("ONLY_ORDERS", "(SELECT * FROM ONLY orders)");
            let (out, err) = psql(&db, role, A, &script);
            assert!(err.is_empty(), "{role}: {script}: {err}");
            assert!(out.contains(expected), "{role}: {script}: {out}");
            let rows = out.lines().filter(|line| line.contains(['1', '2', '3'])).count();
            assert_eq!(rows, 3, "{role}: {script}: {out}");
            assert!(!out.contains("item 4") && !out.contains(B), "{role}: {script}: {out}");
        }
        let (out, _) = psql(&db, role, A, "COPY orders (item) TO STDOUT (FORMAT binary);");
        assert!(out.contains("item 3") && !out.contains("item 4"), "{role}: {out:?}");
    }
    let (_, err) = psql(&db, "postgres", A, &format!("COPY orders TO PROGRAM 'cat > {file}';"));
    assert_eq!(err, "");
    let copied = db.cluster.admin(&db.name, &format!("SELECT pg_read_file('{file}')")).unwrap();
    assert!(copied.contains("item 3") && !copied.contains("item 4"), "{copied}");
    db.cluster.admin(&db.name, &format!("COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; rm {file}'")).unwrap();
}

async fn copy_from_takes_the_tenants_rows(db: Database) {
    let owner = orders(&db).await;
    owner.run(
        "CREATE TABLE parts (id int, tenant_id text, n int) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (10); CREATE TABLE high PARTITION OF parts DEFAULT;
         CREATE TABLE numbers (id int, tenant_id bigint); SELECT bulkhead.protect('parts'); SELECT bulkhead.protect('numbers')",
    ).await;
    for role in ["svc", "postgres"] {
        for (script, rows) in [
            (format!("COPY orders FROM STDIN;\n10\t{A}\tmine\n11\t{A}\tmine\n\\.\n"), 2),
            ("COPY orders (id, item) FROM STDIN;\n10\tmine\n\\.\n".to_string(), 1),
            (
                format!(
                    "COPY orders FROM STDIN (FORMAT csv, HEADER) WHERE id > 10;\nid,t,i\n10,{A},mine\n11,{A},mine\n\\.\n"
                ),
                1,
            ),
            (format!("COPY orders FROM STDIN WHERE id > 5 OR true;\n10\t{A}\tmine\n\\.\n"), 1),
        ] {
            let (_, err) = psql(&db, role, A, &script);
            assert_eq!(err, "", "{role}: {script}");
            let removed = db.admin("DELETE FROM orders WHERE item = 'mine' RETURNING id").unwrap();
            assert_eq!(removed.lines().count(), rows, "{role}: {script}");
        }
        for script in [
            format!("COPY orders FROM STDIN;\n10\t{A}\tmine\n11\t{B}\ttheirs\n\\.\n"),
            format!("COPY orders FROM STDIN WHERE id > 0 OR true;\n11\t{B}\ttheirs\n\\.\n"),
            "COPY orders FROM STDIN;\n11\t\\N\ttheirs\n\\.\n".to_string(),
            format!("COPY parts FROM STDIN;\n1\t{A}\t1\n20\t{B}\t1\n\\.\n"),
            format!("COPY low FROM STDIN;\n1\t{B}\t1\n\\.\n"),
            "COPY numbers FROM STDIN;\n1\t7\n\\.\n".to_string(),
        ] {
            let (_, err) = psql(&db, role, A, &script);
            assert!(
                err.contains("belongs to another tenant") || err.contains("cannot be a tenant"),
                "{role}: {script}: {err}"
            );
        }
        let (_, err) = psql(
            &db,
            role,
            A,
            &format!("COPY parts FROM STDIN;\n1\t{A}\t1\n20\t{A}\t1\n\\.\nCOPY high (id) FROM STDIN;\n30\n\\.\n"),
        );
        assert_eq!(err, "", "{role}");
        assert_eq!(db.admin("DELETE FROM parts RETURNING id").unwrap().lines().count(), 3);
        let (_, err) = psql(&db, role, "7", "COPY numbers FROM STDIN;\n1\t7\n2\t8\n\\.\n");
        assert!(err.contains("another tenant"), "{err}");
        let (_, err) = psql(&db, role, "7", "COPY numbers FROM STDIN;\n1\t7\n\\.\n");
        assert_eq!(err, "", "{role}");
    }
    for role in ["app", "owner"] {
        let (_, err) = psql(&db, role, A, &format!("COPY orders FROM STDIN;\n10\t{A}\tmine\n\\.\n"));
        assert!(err.contains("COPY FROM not supported with row-level security"), "{role}: {err}");
    }
    assert_eq!(all_rows(&db, "orders").lines().count(), 5);
}

async fn copy_from_refuses_what_it_cannot_check(db: Database) {
    let owner = orders(&db).await;
    owner.run(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TABLE parts (id int, tenant_id uuid) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF parts DEFAULT;
         SELECT bulkhead.protect('parts');
         CREATE TRIGGER touch BEFORE INSERT ON part FOR EACH ROW EXECUTE FUNCTION touch();
         CREATE TRIGGER touch BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION touch()",
    ).await;
    for role in ["svc", "postgres"] {
        for table in ["orders", "parts", "part"] {
            let (_, err) = psql(&db, role, A, &format!("COPY {table} (id, tenant_id) FROM STDIN;\n10\t{A}\n\\.\n"));
            assert!(err.contains("BEFORE INSERT trigger"), "{role} {table}: {err}");
        }
    }
}

async fn naked_copy_is_refused(db: Database) {
    orders(&db).await;
    for role in ["svc", "postgres"] {
        for script in [
            "COPY orders TO STDOUT;".to_string(),
            "COPY orders (id) TO STDOUT;".to_string(),
            "COPY (TABLE orders) TO STDOUT;".to_string(),
            "COPY (DELETE FROM orders RETURNING *) TO STDOUT;".to_string(),
            format!("COPY orders FROM STDIN;\n10\t{A}\tx\n\\.\n"),
            "COPY orders (id) FROM STDIN;\n10\n\\.\n".to_string(),
            "COPY orders FROM PROGRAM 'true';".to_string(),
            "COPY orders TO PROGRAM 'cat';".to_string(),
        ] {
            let (out, err) = psql(&db, role, "", &script);
            assert!(err.contains("orders") || err.contains("pg_execute_server_program"), "{role}: {script}: {err}");
            assert!(!out.contains("item"), "{role}: {script}: {out}");
        }
    }
    assert_eq!(all_rows(&db, "orders").lines().count(), 5);
}

async fn copy_knows_hostile_names(db: Database) {
    let owner: Client = db.connect("owner").await;
    owner.run(&format!(
        "CREATE TABLE \"a\"\"; DROP TABLE x; --\" (\"tenant\"\" id\" uuid, \"select\" int, \"\u{e9}\" text);
         INSERT INTO \"a\"\"; DROP TABLE x; --\" VALUES ('{A}', 1, 'mine'), ('{B}', 2, 'theirs');
         SELECT bulkhead.protect('\"a\"\"; DROP TABLE x; --\"', 'tenant\" id');
         CREATE SCHEMA hostile; CREATE FUNCTION hostile.copied_row_uuid(uuid) RETURNS boolean LANGUAGE sql AS 'SELECT true'"
    ))
    .await;
    for role in ["svc", "postgres"] {
        let (out, err) = psql(&db, role, A, "COPY \"a\"\"; DROP TABLE x; --\" TO STDOUT;");
        assert!(out.contains("mine") && !out.contains("theirs"), "{role}: {out} {err}");
        let script = format!(
            "SET search_path = hostile, public;\nCOPY \"a\"\"; DROP TABLE x; --\" FROM STDIN;\n{B}\t3\tx\n\\.\n"
        );
        let (_, err) = psql(&db, role, A, &script);
        assert!(err.contains("another tenant"), "{role}: {err}");
    }
}
