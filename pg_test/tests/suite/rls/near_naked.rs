//! What borders on a naked statement: a tenant that cannot be one, tables and roles that need none.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{A, NOTHING, OF_A, acting, seen};
use super::naked::{MESSAGE, place};
use crate::harness::WithoutPreload;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        an_id_of_another_type_is_refused,
        a_tenant_without_rows_is_not_refused,
        unprotected_tables_are_never_refused,
        whom_row_security_does_not_bind_is_refused_too,
        where_nothing_is_sealed_whom_row_security_does_not_bind_sees_all,
    ]
}

async fn an_id_of_another_type_is_refused(db: Database) {
    let owner = place(&db).await;
    owner
        .run("CREATE TABLE messages (workspace bigint, n int); SELECT bulkhead.protect('messages', 'workspace')")
        .await;
    for (tenant, table, key) in [
        ("h2o", "orders", "uuid"),
        ("42", "orders", "uuid"),
        ("{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "orders", "uuid"),
        (A, "messages", "bigint"),
        ("007", "messages", "bigint"),
        ("9223372036854775808", "messages", "bigint"),
    ] {
        let app = acting(&db, "app", tenant).await;
        for statement in
            [format!("TABLE {table}"), format!("DELETE FROM {table}"), format!("INSERT INTO {table} DEFAULT VALUES")]
        {
            app.refused(&statement)
                .await
                .state("42501")
                .message(&format!("the tenant context cannot be a tenant of protected table public.{table}"))
                .detail(&format!("The table's tenant column is of type {key}, and the context is no {key}."))
                .hint("Set the tenant to a value of the tenant column's type.");
        }
    }
}

async fn a_tenant_without_rows_is_not_refused(db: Database) {
    place(&db).await;
    let app = acting(&db, "app", "00000000-0000-0000-0000-000000000000").await;
    assert_eq!(app.one("SELECT count(*) FROM orders").await, "0");
    app.run("UPDATE orders SET item = 'x'; DELETE FROM orders").await;
}

async fn unprotected_tables_are_never_refused(db: Database) {
    let owner = place(&db).await;
    owner
        .run(
            "CREATE VIEW plain_view AS SELECT * FROM plain;
             CREATE TABLE own_rls (id int); INSERT INTO own_rls VALUES (1); ALTER TABLE own_rls ENABLE ROW LEVEL SECURITY;
             CREATE POLICY p ON own_rls USING (true)",
        )
        .await;
    for role in ["app", "owner", "svc", "postgres"] {
        for tenant in ["", A, "h2o"] {
            let client = acting(&db, role, tenant).await;
            for statement in [
                "SELECT * FROM plain",
                "SELECT * FROM plain_view",
                "SELECT * FROM own_rls",
                "INSERT INTO plain VALUES (3); DELETE FROM plain WHERE id = 3",
                "SELECT count(*) FROM pg_class JOIN pg_policy ON polrelid = pg_class.oid",
                "SELECT * FROM information_schema.tables",
                "SELECT * FROM bulkhead.protected_tables",
                "SELECT 'orders'::regclass, pg_relation_size('orders')",
                "SELECT * FROM bulkhead.status()",
            ] {
                client.run(statement).await;
            }
        }
    }
    owner.run("ALTER TABLE orders ADD more int; CREATE INDEX ON orders (more); ANALYZE orders; COMMENT ON TABLE orders IS 'x'").await;
}

async fn whom_row_security_does_not_bind_is_refused_too(db: Database) {
    place(&db).await;
    for role in ["svc", "postgres"] {
        let client = db.connect(role).await;
        let update = "UPDATE orders SET item = item RETURNING id";
        for statement in ["SELECT count(*) FROM orders", update, "SELECT * FROM owners_view"] {
            let refused = client.refused(statement).await;
            refused
                .state("42501")
                .message(MESSAGE)
                .hint_contains("For work on all tenants: BEGIN; SELECT bulkhead.begin_bypass('why')");
        }
        let client = acting(&db, role, A).await;
        assert_eq!(seen(&client).await, OF_A, "{role}");
        assert_eq!(client.column(update).await.len(), 3, "{role}");
        assert_eq!(client.one("SELECT count(*) FROM owners_view").await, "3", "{role}");
    }
}

async fn where_nothing_is_sealed_whom_row_security_does_not_bind_sees_all(db: WithoutPreload) {
    place(&db).await;
    for role in ["svc", "postgres"] {
        let client = db.connect(role).await;
        assert_eq!(client.one("SELECT count(*) FROM orders").await, "5", "{role}");
        assert_eq!(client.column("UPDATE orders SET item = item RETURNING id").await.len(), 5, "{role}");
        // A view of the owner's acts with the owner's rights, and those are bound.
        assert_eq!(client.column("SELECT id FROM owners_view").await, NOTHING, "{role}");
    }
}
