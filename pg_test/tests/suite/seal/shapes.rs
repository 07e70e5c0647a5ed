//! Ways round the seal that others may try, each as every role.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{ALL, NOTHING, OF_A, ROLES, acting, acting_for, all_rows, orders, seen};
use super::{A, B};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        every_role_is_filtered,
        naked_statements_of_every_role_are_refused,
        writes_into_another_tenant_are_refused,
        other_tenants_rows_are_not_written,
        the_owner_cannot_take_the_policies_away,
        another_policy_opens_nothing,
        row_security_off_opens_nothing,
        becoming_another_role_opens_nothing,
        views_and_definers_are_filtered,
        triggers_and_rules_are_filtered,
        functions_that_run_queries_are_filtered,
        an_owner_disarms_nothing_without_a_bypass,
        event_triggers_and_large_plans_are_filtered
    ]
}

async fn every_role_is_filtered(db: Database) {
    orders(&db).await;
    for role in ROLES {
        let client = acting(&db, role).await;
        assert_eq!(seen(&client).await, OF_A, "{role}");
        client.run(&format!("SET bulkhead.tenant_context = '{B}'")).await;
        assert_eq!(seen(&client).await, ["4", "5"], "{role}");
        assert_eq!(client.one("SELECT count(*) FROM ONLY orders").await, "2", "{role}");
    }
}

async fn naked_statements_of_every_role_are_refused(db: Database) {
    orders(&db).await;
    for role in ROLES {
        let client = db.connect(role).await;
        for statement in [
            "SELECT * FROM orders",
            "SELECT count(*) FROM orders",
            "TABLE ONLY orders",
            "SELECT 1 WHERE EXISTS (SELECT FROM orders)",
            "SELECT (SELECT max(id) FROM orders)",
            "WITH o AS MATERIALIZED (SELECT * FROM orders) SELECT 1 FROM o",
            "SELECT * FROM orders FOR UPDATE",
            "INSERT INTO orders VALUES (9, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'x')",
            "INSERT INTO orders DEFAULT VALUES",
            "UPDATE orders SET item = 'x'",
            "DELETE FROM orders",
            "MERGE INTO orders o USING (SELECT 1 AS id) s ON o.id = s.id WHEN MATCHED THEN DELETE",
            "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM orders",
            "EXPLAIN ANALYZE SELECT * FROM orders",
            "DO $$ BEGIN PERFORM * FROM orders; END $$",
            "SELECT query_to_xml('SELECT * FROM orders', true, false, '')",
            "SELECT table_to_xml('orders', true, false, '')",
            "COPY orders TO STDOUT",
            "COPY (SELECT * FROM orders) TO STDOUT",
            "PREPARE p AS SELECT * FROM orders; EXECUTE p",
        ] {
            let refused = client.refused(statement).await;
            refused.state("42501").message_contains("public.orders").hint_contains("bulkhead.tenant_context");
            client.run("DEALLOCATE ALL").await;
        }
    }
}

async fn writes_into_another_tenant_are_refused(db: Database) {
    orders(&db).await;
    let before = all_rows(&db, "orders");
    for role in ROLES {
        let client = acting(&db, role).await;
        for statement in [
            format!("INSERT INTO orders VALUES (9, '{B}', 'x')"),
            format!("INSERT INTO orders SELECT 9, '{B}', 'x'"),
            format!("UPDATE orders SET tenant_id = '{B}'"),
            format!("INSERT INTO orders VALUES (1, '{A}', 'x') ON CONFLICT (id) DO UPDATE SET tenant_id = '{B}'"),
            // B's row is in the way.
            format!("INSERT INTO orders VALUES (4, '{A}', 'x') ON CONFLICT (id) DO UPDATE SET item = 'mine'"),
            format!(
                "MERGE INTO orders o USING (SELECT 1 AS id) s ON o.id = s.id WHEN MATCHED THEN UPDATE SET tenant_id = '{B}'"
            ),
            format!(
                "MERGE INTO orders o USING (SELECT 9 AS id) s ON o.id = s.id
                 WHEN NOT MATCHED THEN INSERT VALUES (9, '{B}', 'x')"
            ),
            format!("WITH w AS (INSERT INTO orders VALUES (9, '{B}', 'x') RETURNING id) SELECT * FROM w"),
        ] {
            client.refused(&statement).await.state("42501");
        }
        client.refused("INSERT INTO orders VALUES (9, NULL, 'x')").await.state("42501");
    }
    assert_eq!(all_rows(&db, "orders"), before);
}

async fn other_tenants_rows_are_not_written(db: Database) {
    orders(&db).await;
    for role in ROLES {
        let client = acting(&db, role).await;
        for statement in [
            "UPDATE orders SET item = 'x' WHERE id > 3 RETURNING id".to_string(),
            "DELETE FROM orders WHERE id > 3 RETURNING id".to_string(),
            format!("UPDATE orders SET item = 'x' WHERE tenant_id = '{B}' RETURNING id"),
            "DELETE FROM ONLY orders o USING generate_series(4, 5) i WHERE o.id = i RETURNING id".to_string(),
            "SELECT id FROM orders WHERE id > 3 FOR UPDATE".to_string(),
            "WITH d AS (DELETE FROM orders WHERE id > 3 RETURNING id) SELECT * FROM d".to_string(),
        ] {
            assert_eq!(client.column(&statement).await, NOTHING, "{role}: {statement}");
        }
        client.run("BEGIN; UPDATE orders SET item = 'mine'; DELETE FROM orders; ROLLBACK").await;
        client.run("INSERT INTO orders VALUES (4, DEFAULT, 'x') ON CONFLICT DO NOTHING").await;
    }
    assert_eq!(db.admin("SELECT count(*) FROM orders WHERE id > 3 AND item LIKE 'item %'").unwrap().trim(), "2");
}

async fn the_owner_cannot_take_the_policies_away(db: Database) {
    let owner = orders(&db).await;
    let drop_policies = db
        .admin("SELECT string_agg(format('DROP POLICY %I ON orders', polname), ';') FROM pg_policy WHERE polrelid = 'orders'::regclass")
        .unwrap();
    for step in [
        "ALTER TABLE orders NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE orders DISABLE ROW LEVEL SECURITY",
        drop_policies.trim(),
    ] {
        owner.run(step).await;
        for role in ROLES {
            assert_eq!(seen(&acting(&db, role).await).await, OF_A, "{role} after {step}");
            let naked = db.connect(role).await;
            naked.refused("SELECT * FROM orders").await.state("42501").message_contains("orders");
            let insert = format!("INSERT INTO orders VALUES (9, '{B}', 'x')");
            acting(&db, role).await.refused(&insert).await.state("42501");
        }
    }
}

async fn another_policy_opens_nothing(db: Database) {
    let owner = orders(&db).await;
    owner.run("CREATE POLICY evil ON orders USING (true) WITH CHECK (true)").await;
    for role in ROLES {
        let client = acting(&db, role).await;
        assert_eq!(seen(&client).await, OF_A, "{role}");
        client.refused(&format!("INSERT INTO orders VALUES (9, '{B}', 'x')")).await.state("42501");
    }
}

async fn row_security_off_opens_nothing(db: Database) {
    orders(&db).await;
    for role in ROLES {
        let client = acting(&db, role).await;
        client.run("SET row_security = off").await;
        match role {
            "app" | "owner" => drop(client.refused("SELECT * FROM orders").await.state("42501")),
            _ => assert_eq!(seen(&client).await, OF_A, "{role}"),
        }
    }
}

async fn becoming_another_role_opens_nothing(db: Database) {
    orders(&db).await;
    let admin = acting(&db, "postgres").await;
    for role in ["svc", "owner", "app", "pg_read_all_data", "pg_write_all_data"] {
        admin.run(&format!("GRANT SELECT ON orders TO {role}; SET ROLE {role}")).await;
        assert_eq!(seen(&admin).await, OF_A, "{role}");
        admin.run("RESET ROLE").await;
    }
    admin.run("SET SESSION AUTHORIZATION svc").await;
    assert_eq!(seen(&admin).await, OF_A);
    admin.run("RESET bulkhead.tenant_context").await;
    admin.refused("SELECT * FROM orders").await.state("42501");
}

async fn views_and_definers_are_filtered(db: Database) {
    orders(&db).await;
    db.admin(
        "CREATE VIEW supers AS SELECT * FROM orders; GRANT ALL ON supers TO PUBLIC;
         CREATE VIEW above AS SELECT * FROM supers; GRANT ALL ON above TO PUBLIC;
         CREATE VIEW barrier WITH (security_barrier) AS SELECT * FROM above; GRANT ALL ON barrier TO PUBLIC;
         CREATE FUNCTION plpgsql_definer() RETURNS SETOF int LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS
           'BEGIN RETURN QUERY SELECT id FROM orders; END';
         CREATE FUNCTION sql_definer() RETURNS SETOF int LANGUAGE sql SECURITY DEFINER STABLE AS 'SELECT id FROM public.orders';
         CREATE FUNCTION atomic_definer() RETURNS SETOF int LANGUAGE sql SECURITY DEFINER BEGIN ATOMIC SELECT id FROM orders; END;
         CREATE FUNCTION inner_one() RETURNS SETOF orders LANGUAGE sql STABLE AS 'SELECT * FROM public.orders';
         CREATE FUNCTION outer_one() RETURNS SETOF orders LANGUAGE sql STABLE AS 'SELECT * FROM public.inner_one()';
         CREATE FUNCTION with_default(n int DEFAULT 100) RETURNS SETOF orders LANGUAGE sql STABLE AS
           'SELECT * FROM public.orders WHERE id < n AND EXISTS (SELECT FROM public.inner_one() i WHERE i.id = orders.id)';
         CREATE FUNCTION scalar() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM public.orders';
         CREATE FUNCTION immutable_one() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT count(*) FROM public.orders';",
    )
    .unwrap();
    for role in ROLES {
        let client = acting(&db, role).await;
        for source in [
            "(SELECT id FROM supers)",
            "(SELECT id FROM above)",
            "(SELECT id FROM barrier)",
            "plpgsql_definer()",
            "sql_definer()",
            "atomic_definer()",
            "(SELECT id FROM inner_one())",
            "(SELECT id FROM outer_one())",
            "(SELECT id FROM with_default())",
            "(SELECT id FROM with_default(n => 50))",
            "(SELECT f.id FROM generate_series(1, 1) g, LATERAL with_default(g + 50) f)",
            "(SELECT (inner_one()).id)",
            "ROWS FROM (sql_definer())",
            "(SELECT f FROM ROWS FROM (sql_definer(), generate_series(1, 3)) AS r(f, g))",
            "(SELECT id FROM inner_one() WITH ORDINALITY)",
        ] {
            let got = client.column(&format!("SELECT * FROM {source} AS s(id) ORDER BY 1")).await;
            assert_eq!(got, OF_A, "{role}: {source}");
        }
        assert_eq!(client.rows("SELECT scalar(), immutable_one()").await, [["3", "3"]], "{role}");
        client.run("BEGIN; UPDATE above SET item = 'x'; DELETE FROM supers WHERE id > 3; ROLLBACK").await;
        client.refused(&format!("INSERT INTO above VALUES (9, '{B}', 'x')")).await.state("42501");
        let naked = db.connect(role).await;
        for call in
            ["SELECT * FROM barrier", "SELECT plpgsql_definer()", "SELECT * FROM inner_one()", "SELECT scalar()"]
        {
            naked.refused(call).await.state("42501");
        }
    }
}

async fn triggers_and_rules_are_filtered(db: Database) {
    orders(&db).await;
    db.admin(
        "CREATE TABLE poke (n int); GRANT ALL ON poke TO PUBLIC; CREATE TABLE heard (n bigint); GRANT ALL ON heard TO PUBLIC;
         CREATE FUNCTION listen() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS
           'BEGIN INSERT INTO heard SELECT count(*) FROM orders; RETURN NEW; END';
         CREATE TRIGGER before BEFORE INSERT ON poke FOR EACH ROW EXECUTE FUNCTION listen();
         CREATE TRIGGER late AFTER INSERT ON poke FOR EACH STATEMENT EXECUTE FUNCTION listen();
         CREATE RULE also AS ON UPDATE TO poke DO ALSO INSERT INTO heard SELECT count(*) FROM orders;
         CREATE RULE instead AS ON DELETE TO poke DO INSTEAD UPDATE orders SET item = 'poked';",
    )
    .unwrap();
    for role in ROLES {
        let client = acting(&db, role).await;
        client.run("DELETE FROM heard; INSERT INTO poke VALUES (1); UPDATE poke SET n = 2").await;
        assert_eq!(client.column("SELECT DISTINCT n FROM heard").await, ["3"], "{role}");
        client.run("DELETE FROM poke").await;
    }
    assert_eq!(db.admin("SELECT id FROM orders WHERE item = 'poked' ORDER BY 1").unwrap(), "1\n2\n3");
    // A BEFORE trigger that rewrites the tenant.
    db.admin(&format!(
        "CREATE FUNCTION steal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.tenant_id := '{B}'; RETURN NEW; END $$;
         CREATE TRIGGER steal BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION steal()"
    ))
    .unwrap();
    for role in ROLES {
        let client = acting(&db, role).await;
        client.refused("INSERT INTO orders VALUES (9, DEFAULT, 'x')").await.state("42501");
        client.refused("UPDATE orders SET item = 'x'").await.state("42501");
    }
}

async fn functions_that_run_queries_are_filtered(db: Database) {
    orders(&db).await;
    for role in ROLES {
        let client = acting(&db, role).await;
        for call in [
            "query_to_xml('SELECT id FROM orders', true, false, '')",
            "table_to_xml('orders', true, false, '')",
            "schema_to_xml('public', true, false, '')",
            "cursor_to_xml('c', 100, true, false, '')",
        ] {
            client.run("BEGIN; DECLARE c CURSOR FOR SELECT * FROM orders").await;
            let xml = client.one(&format!("SELECT {call}")).await;
            client.run("COMMIT").await;
            assert!(xml.contains("<id>3</id>") && !xml.contains("<id>4</id>"), "{role}: {call}: {xml}");
        }
        let rewritten = "SELECT ts_stat('SELECT to_tsvector(''simple'', item) FROM orders')";
        let words = client.column(rewritten).await.join(" ");
        assert!(words.contains("(3,1,1)") && !words.contains("(4,"), "{role}: {words}");
        client.run("DO $$ BEGIN ASSERT (SELECT count(*) FROM orders) = 3; EXECUTE 'DELETE FROM orders WHERE id > 3'; END $$").await;
    }
    assert_eq!(seen(&db.past_the_seal("postgres").await).await, ALL);
}

async fn an_owner_disarms_nothing_without_a_bypass(db: Database) {
    orders(&db).await;
    for role in ["owner", "postgres"] {
        let client = acting(&db, role).await;
        for call in ["unprotect('orders')", "share('orders')", "protect('orders', 'item')", "unprotect_all()"] {
            let refused = client.refused(&format!("SELECT bulkhead.{call}")).await;
            refused.state("55000").hint_contains("begin_bypass");
        }
        client.run("SELECT bulkhead.protect('orders')").await;
    }
    acting(&db, "svc").await.refused("SELECT bulkhead.unprotect('orders')").await.state("42501");
    assert_eq!(seen(&acting(&db, "postgres").await).await, OF_A);
}

async fn event_triggers_and_large_plans_are_filtered(db: Database) {
    orders(&db).await;
    db.admin(
        "CREATE TABLE heard (n bigint);
         CREATE FUNCTION listen() RETURNS event_trigger LANGUAGE plpgsql AS
           'BEGIN INSERT INTO public.heard SELECT count(*) FROM public.orders; END';
         CREATE EVENT TRIGGER listen ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION listen()",
    )
    .unwrap();
    let admin = acting(&db, "postgres").await;
    admin.run("CREATE TABLE another (id int)").await;
    assert_eq!(admin.column("SELECT n FROM heard").await, ["3"]);
    let union = vec!["SELECT id FROM orders"; 300].join(" UNION ALL ");
    let joins: String = (0..40).map(|n| format!(" LEFT JOIN orders o{n} USING (id)")).collect();
    for role in ROLES {
        let client = acting_for(&db, role, A).await;
        assert_eq!(client.column(&format!("SELECT DISTINCT id FROM ({union}) u ORDER BY 1")).await, OF_A, "{role}");
        assert_eq!(client.column(&format!("SELECT id FROM orders{joins} ORDER BY 1")).await, OF_A, "{role}");
        let nested = (0..60)
            .fold("SELECT id FROM orders".to_string(), |inner, n| format!("SELECT id FROM ({inner}) q{n} OFFSET 0"));
        assert_eq!(client.column(&format!("SELECT id FROM ({nested}) q ORDER BY 1")).await, OF_A, "{role}");
    }
}
