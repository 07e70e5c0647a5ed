//! Ways a tenant's rows get out, and that each is shut: the roles, the objects, the writes. The context's end is in leaks_context.rs.
//! The numbers are those of the project's list of leak paths.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{A, B, NOTHING, OF_A, OF_B, act_for, orders, seen};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        path_12_ids_that_are_nearly_the_tenants,
        path_16_row_security_off,
        path_18_a_policy_that_lets_everything_through,
        path_19_a_view_of_the_owner,
        path_19_a_security_definer_function_of_the_owner,
        path_26_writes_into_another_tenant,
        path_26_a_trigger_that_rewrites_the_tenant,
        path_30_a_row_without_a_tenant,
        path_31_copy,
        path_32_changes_to_rows_of_another_tenant,
        text_tenants_that_differ_in_case_or_blanks,
        bigint_tenants_that_are_spelt_otherwise,
    ]
}

/// Both plain roles, each with a session of its own.
pub async fn plain_roles(db: &Database) -> [Client; 2] {
    [db.connect("app").await, db.connect("owner").await]
}

pub async fn naked(client: &Client) {
    let refused = client.refused("SELECT * FROM orders").await;
    refused.state("42501").message("no tenant context for protected table public.orders");
}

async fn path_12_ids_that_are_nearly_the_tenants(db: Database) {
    orders(&db).await;
    for client in plain_roles(&db).await {
        for id in [
            format!("{A} "),
            format!(" {A}"),
            format!("{{{A}}}"),
            A.replace('-', ""),
            format!("urn:uuid:{A}"),
            format!("{A}' OR '1'='1").replace('\'', "''"),
            "%".to_owned(),
            "NULL".to_owned(),
        ] {
            act_for(&client, &id).await;
            client.refused("TABLE orders").await.state("42501").message_contains("protected table public.orders");
        }
        for id in ["a\nb", "\t", &"x".repeat(256), &"x".repeat(10_000_000)] {
            act_for(&client, A).await;
            client.refused(&format!("SET bulkhead.tenant_context = '{id}'")).await.state("22023");
            assert_eq!(seen(&client).await, OF_A, "the old value stays");
        }
        act_for(&client, &A.to_uppercase()).await;
        assert_eq!(seen(&client).await, OF_A);
        act_for(&client, "00000000-0000-0000-0000-000000000000").await;
        assert_eq!(seen(&client).await, NOTHING);
    }
}

async fn path_16_row_security_off(db: Database) {
    orders(&db).await;
    for client in plain_roles(&db).await {
        client.run("SET row_security = off").await;
        for tenant in [A, ""] {
            act_for(&client, tenant).await;
            for statement in
                ["TABLE orders", "UPDATE orders SET item = 'x'", "DELETE FROM orders", "COPY orders TO STDOUT"]
            {
                let refused = client.refused(statement).await.state("42501");
                // COPY is refused by the seal before core looks at its table.
                if tenant.is_empty() && statement.starts_with("COPY") {
                    refused.message("no tenant context for protected table public.orders");
                } else {
                    refused.message("query would be affected by row-level security policy for table \"orders\"");
                }
            }
        }
    }
}

async fn path_18_a_policy_that_lets_everything_through(db: Database) {
    let owner = orders(&db).await;
    owner.run("CREATE POLICY evil ON orders USING (true)").await;
    for client in plain_roles(&db).await {
        naked(&client).await;
        act_for(&client, B).await;
        assert_eq!(seen(&client).await, OF_B);
    }
}

async fn path_19_a_view_of_the_owner(db: Database) {
    let owner = orders(&db).await;
    owner
        .run(
            "CREATE VIEW v AS SELECT id, tenant_id FROM orders; CREATE VIEW w AS SELECT * FROM v;
             CREATE VIEW b WITH (security_barrier = true) AS SELECT id FROM orders",
        )
        .await;
    let [app, _] = plain_roles(&db).await;
    // Also for a role that may read nothing but the view.
    let reader = format!("reader_{}", db.name);
    db.admin(&format!("CREATE ROLE {reader} LOGIN; GRANT SELECT ON v, w, b TO {reader}")).unwrap();
    for client in [app, db.connect(&reader).await] {
        for view in ["v", "w", "b"] {
            for (tenant, ids) in [(A, &OF_A[..]), (B, &OF_B[..])] {
                act_for(&client, tenant).await;
                assert_eq!(client.column(&format!("SELECT id FROM {view} ORDER BY 1")).await, ids, "{view}");
            }
            act_for(&client, "").await;
            client.refused(&format!("TABLE {view}")).await.state("42501").message_contains("public.orders");
        }
    }
    db.admin(&format!("DROP OWNED BY {reader}; DROP ROLE {reader}")).unwrap();
}

async fn path_19_a_security_definer_function_of_the_owner(db: Database) {
    let owner = orders(&db).await;
    owner
        .run(
            "CREATE FUNCTION f() RETURNS SETOF int SECURITY DEFINER LANGUAGE plpgsql AS 'BEGIN RETURN QUERY SELECT id FROM orders ORDER BY 1; END';
             CREATE FUNCTION g() RETURNS SETOF int SECURITY DEFINER LANGUAGE sql AS 'SELECT id FROM orders ORDER BY 1';
             CREATE FUNCTION d() RETURNS SETOF int SECURITY DEFINER LANGUAGE sql AS 'DELETE FROM orders RETURNING id'",
        )
        .await;
    let [app, _] = plain_roles(&db).await;
    for function in ["f", "g"] {
        act_for(&app, A).await;
        assert_eq!(app.column(&format!("SELECT {function}()")).await, OF_A);
        act_for(&app, "").await;
        app.refused(&format!("SELECT {function}()")).await.state("42501").message_contains("public.orders");
    }
    act_for(&app, B).await;
    assert_eq!(app.column("SELECT d()").await.len(), 2);
    act_for(&app, A).await;
    assert_eq!(seen(&app).await, OF_A);
}

async fn path_26_writes_into_another_tenant(db: Database) {
    orders(&db).await;
    for client in plain_roles(&db).await {
        act_for(&client, A).await;
        for write in [
            format!("INSERT INTO orders VALUES (6, '{B}')"),
            format!("INSERT INTO orders SELECT 6, '{B}'"),
            format!("INSERT INTO orders VALUES (6, '{A}'), (7, '{B}')"),
            format!("INSERT INTO orders VALUES (1, '{A}') ON CONFLICT (id) DO UPDATE SET tenant_id = '{B}'"),
            format!("UPDATE orders SET tenant_id = '{B}'"),
            format!("UPDATE orders SET tenant_id = '{B}' WHERE id = 1 RETURNING id"),
            format!("WITH moved AS (UPDATE orders SET tenant_id = '{B}' RETURNING 1) SELECT count(*) FROM moved"),
        ] {
            client.refused(&write).await.state("42501").message_contains("violates row-level security policy");
        }
        // Another tenant's row stands in the way of the key, and shows nothing of itself.
        let key = client.refused(&format!("INSERT INTO orders VALUES (4, '{A}')")).await;
        key.state("23505").detail("");
        let update = format!("INSERT INTO orders VALUES (4, '{A}') ON CONFLICT (id) DO UPDATE SET item = 'x'");
        client.refused(&update).await.state("42501").message_contains("violates row-level security policy");
        assert_eq!(seen(&client).await, OF_A);
    }
    assert_eq!(db.admin("SELECT count(*) FROM orders WHERE item LIKE 'item%'").unwrap(), "5");
}

async fn path_26_a_trigger_that_rewrites_the_tenant(db: Database) {
    let owner = orders(&db).await;
    owner
        .run(&format!(
            "CREATE FUNCTION gives_away() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.tenant_id = ''{B}''; RETURN new; END';
             CREATE TRIGGER t BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION gives_away()"
        ))
        .await;
    for client in plain_roles(&db).await {
        act_for(&client, A).await;
        for write in ["INSERT INTO orders (id) VALUES (6)", "UPDATE orders SET item = 'x' WHERE id = 1"] {
            client.refused(write).await.state("42501").message_contains("violates row-level security policy");
        }
        assert_eq!(seen(&client).await, OF_A);
    }
}

async fn path_30_a_row_without_a_tenant(db: Database) {
    orders(&db).await;
    for client in plain_roles(&db).await {
        act_for(&client, A).await;
        for write in ["INSERT INTO orders VALUES (6, NULL)", "UPDATE orders SET tenant_id = NULL"] {
            let state = client.refused(write).await.sqlstate;
            assert!(["42501", "23502"].contains(&state.as_str()), "{write}: {state}");
        }
    }
    // Not even whom row security does not bind, with or without a tenant, nor past the seal.
    for role in ["svc", "postgres"] {
        let client = db.connect(role).await;
        client.refused("INSERT INTO orders VALUES (6, NULL)").await.state("42501");
        act_for(&client, A).await;
        client.refused("INSERT INTO orders VALUES (6, NULL)").await.state("42501");
        let client = db.past_the_seal(role).await;
        client.refused("INSERT INTO orders VALUES (6, NULL)").await.state("23502");
    }
    assert_eq!(db.admin("SELECT count(*) FROM orders WHERE tenant_id IS NULL").unwrap(), "0");
}

async fn path_31_copy(db: Database) {
    orders(&db).await;
    for client in plain_roles(&db).await {
        for tenant in [A, ""] {
            act_for(&client, tenant).await;
            let refused = client.refused("COPY orders FROM STDIN").await;
            refused.state("0A000").message("COPY FROM not supported with row-level security");
        }
        client.refused("COPY orders (id) TO STDOUT").await.state("42501").message_contains("public.orders");
        let script = format!("SET bulkhead.tenant_context = '{A}';\nCOPY orders (id) TO STDOUT;\n");
        let output = db.psql(client.user(), &script).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n2\n3\n");
    }
}

async fn path_32_changes_to_rows_of_another_tenant(db: Database) {
    orders(&db).await;
    for client in plain_roles(&db).await {
        act_for(&client, A).await;
        for write in [
            "UPDATE orders SET item = 'x' WHERE id IN (4, 5) RETURNING id".to_owned(),
            format!("UPDATE orders SET item = 'x' WHERE tenant_id = '{B}' RETURNING id"),
            format!("UPDATE orders SET tenant_id = '{A}' WHERE id = 4 RETURNING id"),
            "DELETE FROM orders WHERE id = 5 RETURNING id".to_owned(),
            "SELECT id FROM orders WHERE id = 4 FOR UPDATE".to_owned(),
        ] {
            assert_eq!(client.column(&write).await, NOTHING, "{write}");
        }
    }
    assert_eq!(db.admin("SELECT count(*) FROM orders WHERE item LIKE 'item%'").unwrap(), "5");
}

async fn text_tenants_that_differ_in_case_or_blanks(db: Database) {
    let owner = db.connect("owner").await;
    let names = ["h2o", "H2O", "h2o ", " h2o", "h2ö", "h2o\u{301}", "h2ó", "A0EEBC99"];
    owner.run("CREATE TABLE jobs (tenant_id text, n int); CREATE TABLE calls (tenant_id varchar(20), n int)").await;
    for (n, name) in names.iter().enumerate() {
        owner.run(&format!("INSERT INTO jobs VALUES ('{name}', {n}); INSERT INTO calls VALUES ('{name}', {n})")).await;
    }
    owner.run("SELECT bulkhead.protect('jobs'), bulkhead.protect('calls')").await;
    for client in plain_roles(&db).await {
        for (n, name) in names.iter().enumerate() {
            act_for(&client, name).await;
            for table in ["jobs", "calls"] {
                assert_eq!(client.column(&format!("SELECT n FROM {table}")).await, [n.to_string()], "{name:?} {table}");
            }
        }
    }
}

async fn bigint_tenants_that_are_spelt_otherwise(db: Database) {
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE t (tenant_id bigint, n int); INSERT INTO t VALUES (7, 1), (70, 2); SELECT bulkhead.protect('t')").await;
    for client in plain_roles(&db).await {
        act_for(&client, "7").await;
        assert_eq!(client.column("SELECT n FROM t").await, ["1"]);
        for id in ["07", "+7", " 7", "7 ", "7.0", "7e0", "0x7", "７"] {
            act_for(&client, id).await;
            let refused = client.refused("TABLE t").await;
            refused.state("42501").message("the tenant context cannot be a tenant of protected table public.t");
        }
    }
}
