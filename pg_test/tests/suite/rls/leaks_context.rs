//! Ways a tenant's rows get out, and that each is shut: the context's end and its change.
//! The numbers are those of the project's list of leak paths.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{A, B, OF_A, OF_B, act_for, orders, seen};
use super::leaks::{naked, plain_roles};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        path_1_a_tenant_that_was_never_set,
        path_2_a_tenant_that_ended_with_its_transaction,
        path_3_a_tenant_that_was_reset,
        path_4_a_rollback_to_a_savepoint,
        path_4_a_caught_exception,
        path_5_a_transaction_that_failed,
        path_6_set_local_outside_a_transaction,
        path_11_set_config_revoked,
    ]
}

async fn path_1_a_tenant_that_was_never_set(db: Database) {
    orders(&db).await;
    for client in plain_roles(&db).await {
        naked(&client).await;
        client.run("BEGIN").await;
        naked(&client).await;
        client.run("ROLLBACK").await;
    }
}

async fn path_2_a_tenant_that_ended_with_its_transaction(db: Database) {
    orders(&db).await;
    for client in plain_roles(&db).await {
        for end in ["COMMIT", "ROLLBACK"] {
            client.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'")).await;
            assert_eq!(seen(&client).await, OF_A);
            client.run(end).await;
            naked(&client).await;
        }
        // One simple query of several statements is a transaction too.
        let ids = client
            .column(&format!("SET LOCAL bulkhead.tenant_context = '{B}'; SELECT id FROM orders ORDER BY id"))
            .await;
        assert_eq!(ids, OF_B);
        naked(&client).await;
    }
}

async fn path_3_a_tenant_that_was_reset(db: Database) {
    orders(&db).await;
    for client in plain_roles(&db).await {
        for reset in [
            "RESET bulkhead.tenant_context",
            "SET bulkhead.tenant_context TO DEFAULT",
            "RESET ALL",
            "DISCARD ALL",
            "SET SESSION AUTHORIZATION DEFAULT; RESET ALL",
            "SELECT bulkhead.set_tenant('', false)",
        ] {
            act_for(&client, A).await;
            assert_eq!(seen(&client).await, OF_A, "{reset}");
            client.run(reset).await;
            naked(&client).await;
        }
    }
}

async fn path_4_a_rollback_to_a_savepoint(db: Database) {
    orders(&db).await;
    for client in plain_roles(&db).await {
        client.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'; SAVEPOINT s")).await;
        client.refused(&format!("SET LOCAL bulkhead.tenant_context = '{B}'")).await.state("42501");
        client.run("ROLLBACK TO s").await;
        assert_eq!(seen(&client).await, OF_A);
        client.run("SAVEPOINT t; SET LOCAL bulkhead.tenant_context = ''").await;
        naked(&client).await;
        client.run("ROLLBACK TO t").await;
        assert_eq!(seen(&client).await, OF_A);
        client.run("COMMIT").await;
        naked(&client).await;
        // A tenant that was set inside the savepoint goes with it.
        client.run(&format!("BEGIN; SAVEPOINT s; SET LOCAL bulkhead.tenant_context = '{A}'; ROLLBACK TO s")).await;
        naked(&client).await;
        client.run("ROLLBACK").await;
    }
    db.admin(&format!("ALTER DATABASE {} SET bulkhead.context_mode = 'open'", db.name)).unwrap();
    for client in plain_roles(&db).await {
        client.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'; SAVEPOINT s; SET LOCAL bulkhead.tenant_context = '{B}'")).await;
        assert_eq!(seen(&client).await, OF_B);
        client.run("ROLLBACK TO s").await;
        assert_eq!(seen(&client).await, OF_A);
        client.run("ROLLBACK").await;
    }
}

async fn path_4_a_caught_exception(db: Database) {
    let owner = orders(&db).await;
    db.admin(&format!("ALTER DATABASE {} SET bulkhead.context_mode = 'open'", db.name)).unwrap();
    owner
        .run(&format!(
            "CREATE FUNCTION tries() RETURNS text LANGUAGE plpgsql AS $$
               DECLARE inside text;
               BEGIN
                 BEGIN
                   PERFORM bulkhead.set_tenant('{B}');
                   SELECT string_agg(id::text, ',' ORDER BY id) INTO inside FROM orders;
                   RAISE division_by_zero;
                 EXCEPTION WHEN division_by_zero THEN NULL;
                 END;
                 RETURN inside || ';' || (SELECT string_agg(id::text, ',' ORDER BY id) FROM orders);
               END $$"
        ))
        .await;
    for client in plain_roles(&db).await {
        act_for(&client, A).await;
        assert_eq!(client.one("SELECT tries()").await, "4,5;1,2,3");
        assert_eq!(seen(&client).await, OF_A);
    }
}

async fn path_5_a_transaction_that_failed(db: Database) {
    orders(&db).await;
    for client in plain_roles(&db).await {
        client.run(&format!("BEGIN; SET bulkhead.tenant_context = '{A}'")).await;
        client.refused("SELECT 1/0").await.state("22012");
        client.run("ROLLBACK").await;
        naked(&client).await;
        let failed = client.refused(&format!("SET bulkhead.tenant_context = '{A}'; SELECT 1/0")).await;
        failed.state("22012");
        naked(&client).await;
    }
}

async fn path_6_set_local_outside_a_transaction(db: Database) {
    orders(&db).await;
    for client in plain_roles(&db).await {
        client.run(&format!("SET LOCAL bulkhead.tenant_context = '{A}'")).await;
        assert_eq!(client.notices(), ["WARNING: SET LOCAL can only be used in transaction blocks"]);
        naked(&client).await;
        client.run(&format!("SELECT bulkhead.set_tenant('{A}')")).await;
        assert_eq!(client.notices(), ["WARNING: SET LOCAL can only be used in transaction blocks"]);
        naked(&client).await;
    }
}

/// SET needs no right to set_config(): whoever revokes that has closed nothing, and the lock is in the setting itself.
async fn path_11_set_config_revoked(db: Database) {
    orders(&db).await;
    db.admin("REVOKE EXECUTE ON FUNCTION set_config(text, text, boolean) FROM PUBLIC").unwrap();
    let by_function = format!("SELECT set_config('bulkhead.tenant_context', '{B}', true)");
    for role in ["app", "owner", "svc", "postgres"] {
        let client = db.connect(role).await;
        if role != "postgres" {
            client.refused(&by_function).await.state("42501").message_contains("permission denied for function");
        }
        for switch in [
            format!("SET LOCAL bulkhead.tenant_context = '{B}'"),
            format!("SET bulkhead.tenant_context = '{B}'"),
            format!("SELECT bulkhead.set_tenant('{B}')"),
        ] {
            client.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'")).await;
            assert_eq!(seen(&client).await, OF_A, "{role}");
            let refused = client.refused(&switch).await;
            refused.state("42501").message("the tenant of this transaction cannot be changed");
            client.run("ROLLBACK").await;
            naked(&client).await;
        }
        client.run(&format!("BEGIN; SELECT bulkhead.set_tenant('{A}')")).await;
        assert_eq!(seen(&client).await, OF_A, "{role}");
        client.run("ROLLBACK").await;
    }
}
