//! Ways a tenant's rows get out through plans made for one role and used for another: leak path 36.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{A, B, NOTHING, OF_B, act_for, orders};
use crate::harness::WithoutPreload;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        path_36_prepared_as_one_role_and_executed_as_another,
        path_36_where_nothing_is_sealed,
        path_36_under_subqueries_views_and_functions,
        path_36_a_function_planned_as_one_role_and_called_as_another,
    ]
}

/// A login role that may become `app`, `owner` and `svc`, and is none of them.
async fn chameleon(db: &Database) -> (Client, String) {
    let role = format!("any_{}", db.name);
    db.admin(&format!(
        "CREATE ROLE {role} LOGIN NOINHERIT IN ROLE app, owner, svc;
         GRANT EXECUTE ON FUNCTION bulkhead.begin_bypass(text) TO svc"
    ))
    .unwrap();
    (db.connect(&role).await, role)
}

/// Does something some times in a transaction with a bypass of the current role's.
async fn past_the_seal(client: &Client, times: usize, act: impl AsyncFn()) {
    client.run("BEGIN; SELECT bulkhead.begin_bypass('counting')").await;
    for _ in 0..times {
        act().await;
    }
    client.run("ROLLBACK").await;
}

async fn path_36_prepared_as_one_role_and_executed_as_another(db: Database) {
    orders(&db).await;
    let (client, role) = chameleon(&db).await;
    for mode in ["force_generic_plan", "auto"] {
        client.run(&format!("SET plan_cache_mode = {mode}; SET ROLE svc")).await;
        client.run("PREPARE q AS SELECT id FROM orders ORDER BY id; PREPARE d AS UPDATE orders SET item = item RETURNING id").await;
        past_the_seal(&client, 6, async || {
            assert_eq!(client.column("EXECUTE q").await.len(), 5, "svc sees all past the seal");
        })
        .await;
        for bound in ["svc", "app", "owner", "svc", "app"] {
            client.run(&format!("SET ROLE {bound}")).await;
            for statement in ["EXECUTE q", "EXECUTE d"] {
                client.refused(statement).await.state("42501").message_contains("public.orders");
            }
            act_for(&client, B).await;
            assert_eq!(client.column("EXECUTE q").await, OF_B, "{bound}");
            assert_eq!(client.column("EXECUTE d").await.len(), 2, "{bound}");
            act_for(&client, "").await;
            client.run("SET ROLE svc").await;
            past_the_seal(&client, 1, async || {
                assert_eq!(client.column("EXECUTE q").await.len(), 5, "svc sees all past the seal");
                // The bypass is svc's, and serves no other role.
                client.run("SET LOCAL ROLE app").await;
                client.refused("EXECUTE q").await.state("42501");
            })
            .await;
        }
        client.run("DEALLOCATE ALL").await;
    }
    drop(client);
    db.admin(&format!("DROP ROLE {role}")).unwrap();
}

async fn path_36_where_nothing_is_sealed(db: WithoutPreload) {
    orders(&db).await;
    let (client, role) = chameleon(&db).await;
    for mode in ["force_generic_plan", "auto"] {
        client.run(&format!("SET plan_cache_mode = {mode}; SET ROLE svc")).await;
        client.run("PREPARE q AS SELECT id FROM orders ORDER BY id; PREPARE d AS UPDATE orders SET item = item RETURNING id").await;
        for _ in 0..6 {
            assert_eq!(client.column("EXECUTE q").await.len(), 5, "svc sees all");
        }
        for bound in ["app", "owner", "app"] {
            client.run(&format!("SET ROLE {bound}")).await;
            for statement in ["EXECUTE q", "EXECUTE d"] {
                assert_eq!(client.column(statement).await, NOTHING, "{bound}");
            }
            act_for(&client, B).await;
            assert_eq!(client.column("EXECUTE q").await, OF_B, "{bound}");
            assert_eq!(client.column("EXECUTE d").await.len(), 2, "{bound}");
            act_for(&client, "").await;
            client.run("SET ROLE svc").await;
            assert_eq!(client.column("EXECUTE q").await.len(), 5, "svc sees all");
        }
        client.run("DEALLOCATE ALL").await;
    }
    drop(client);
    db.admin(&format!("DROP ROLE {role}")).unwrap();
}

async fn path_36_under_subqueries_views_and_functions(db: Database) {
    let owner = orders(&db).await;
    owner
        .run(
            "CREATE VIEW callers WITH (security_invoker = true) AS SELECT * FROM orders; GRANT SELECT ON callers TO svc, app;
             CREATE FUNCTION inlined() RETURNS SETOF orders STABLE LANGUAGE sql AS 'SELECT * FROM orders'",
        )
        .await;
    let (client, role) = chameleon(&db).await;
    client.run("SET plan_cache_mode = force_generic_plan").await;
    for query in [
        "SELECT (SELECT count(*) FROM orders)",
        "SELECT count(*) FROM (SELECT * FROM orders OFFSET 0) s",
        "WITH o AS (SELECT * FROM orders) SELECT count(*) FROM o",
        "WITH o AS MATERIALIZED (SELECT * FROM orders) SELECT count(*) FROM o",
        "SELECT count(*) FROM generate_series(1, 9) g WHERE g IN (SELECT id FROM orders)",
        "SELECT count(*) FROM generate_series(1, 9) g WHERE EXISTS (SELECT FROM orders WHERE id = g)",
        "SELECT count(*) FROM generate_series(1, 9) g, LATERAL (SELECT id FROM orders WHERE id = g) l",
        "SELECT count(*) FROM callers",
        "SELECT count(*) FROM inlined()",
        "SELECT sum(n) FROM (SELECT count(*) AS n FROM orders UNION ALL SELECT 0) u",
    ] {
        client.run(&format!("SET ROLE svc; PREPARE q AS {query}")).await;
        let all = async || assert_eq!(client.one("EXECUTE q").await, "5", "{query}");
        past_the_seal(&client, 2, all).await;
        client.refused("EXECUTE q").await.state("42501");
        client.run("SET ROLE app").await;
        client.refused("EXECUTE q").await.state("42501");
        act_for(&client, A).await;
        assert_eq!(client.one("EXECUTE q").await, "3", "{query}");
        client.run("SET ROLE svc").await;
        assert_eq!(client.one("EXECUTE q").await, "3", "{query}");
        act_for(&client, "").await;
        past_the_seal(&client, 1, all).await;
        client.run("DEALLOCATE q").await;
    }
    drop(client);
    db.admin(&format!("DROP ROLE {role}")).unwrap();
}

async fn path_36_a_function_planned_as_one_role_and_called_as_another(db: Database) {
    let owner = orders(&db).await;
    owner
        .run(
            "CREATE FUNCTION counting() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM orders); END';
             CREATE FUNCTION counting_sql() RETURNS bigint VOLATILE LANGUAGE sql AS 'SELECT count(*) FROM orders'",
        )
        .await;
    let (client, role) = chameleon(&db).await;
    for function in ["counting", "counting_sql"] {
        let call = format!("SELECT {function}()");
        client.run("SET ROLE svc").await;
        let all = async || assert_eq!(client.one(&call).await, "5");
        past_the_seal(&client, 7, all).await;
        client.refused(&call).await.state("42501");
        client.run("SET ROLE app").await;
        client.refused(&call).await.state("42501");
        act_for(&client, A).await;
        assert_eq!(client.one(&call).await, "3");
        client.run("SET ROLE svc").await;
        assert_eq!(client.one(&call).await, "3");
        act_for(&client, "").await;
        past_the_seal(&client, 1, all).await;
    }
    drop(client);
    db.admin(&format!("DROP ROLE {role}")).unwrap();
}
