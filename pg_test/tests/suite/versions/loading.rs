//! The same where nothing loads the library with the server: in sessions that load it at their start, and in those whose first call does.

use libtest_mimic::Trial;
use pg_test::Client;

use super::{as_shop, becomes, refused, world};
use crate::harness::{SessionPreload, WithoutPreload};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        sessions_that_load_it_refuse,
        whom_policies_bind_is_refused_from_the_first_statement,
        whom_nothing_binds_is_refused_once_it_is_loaded,
    ]
}

const ROLES: [&str; 4] = ["app", "svc", "owner", "postgres"];

const STATEMENTS: [&str; 8] = [
    "SELECT * FROM note",
    "SELECT (SELECT count(*) FROM note) FROM plain",
    "INSERT INTO note (body) VALUES ('two')",
    "UPDATE note SET body = 'two'",
    "DELETE FROM note",
    "WITH n AS (SELECT * FROM note) SELECT 1 FROM n",
    "COPY (SELECT * FROM note) TO STDOUT",
    "COPY note TO STDOUT",
];

async fn sessions_that_load_it_refuse(SessionPreload(db): SessionPreload) {
    world(&db).await;
    for role in ROLES {
        // Each as the first statement of its session, and then one after the other.
        for sql in STATEMENTS {
            refused(&db.connect(role).await, sql).await;
        }
        let client = as_shop(&db, role).await;
        for sql in STATEMENTS {
            refused(&client, sql).await;
        }
        calls_are_refused(&client).await;
    }
    becomes(&db, "0.1.0");
    let app = as_shop(&db, "app").await;
    assert_eq!(app.one("SELECT body FROM note").await, "one");
    becomes(&db, "next");
    refused(&app, "SELECT body FROM note").await;
    becomes(&db, "0.1.0");
}

async fn calls_are_refused(client: &Client) {
    for call in [
        "SELECT bulkhead.score('lead', '{}')",
        "SELECT * FROM bulkhead.order_verdicts('stock', 'o')",
        "SELECT * FROM bulkhead.idempotency_claim('k')",
        "SELECT * FROM bulkhead.rule_sets",
    ] {
        refused(client, call).await;
    }
    assert_eq!(client.one("SELECT bulkhead.tenant_id_text()").await, "shop-1");
}

/// Row level security calls the library, which is loaded thereby and refuses what it is loaded for. What it comes too late for is written as the
/// policies and the accessors say, which keep their meaning from version to version: as the tenant's own.
async fn whom_policies_bind_is_refused_from_the_first_statement(WithoutPreload(db): WithoutPreload) {
    world(&db).await;
    for role in ["app", "owner"] {
        for sql in STATEMENTS.into_iter().filter(|sql| !sql.starts_with("INSERT")) {
            refused(&as_shop(&db, role).await, sql).await;
            refused(&db.connect(role).await, sql).await;
        }
        let foreign = "INSERT INTO note (tenant_id, body) VALUES ('shop-2', 'two')";
        as_shop(&db, role).await.refused(foreign).await.state("42501");
        db.connect(role).await.refused("INSERT INTO note (body) VALUES ('two')").await.state("42501");
        let client = as_shop(&db, role).await;
        client.run("INSERT INTO note (body) VALUES ('two')").await;
        refused(&client, "INSERT INTO note (body) VALUES ('three')").await;
        calls_are_refused(&client).await;
    }
    for role in ROLES {
        calls_are_refused(&as_shop(&db, role).await).await;
    }
    becomes(&db, "0.1.0");
    assert_eq!(as_shop(&db, "app").await.column("SELECT body FROM note ORDER BY id").await, ["one", "two", "two"]);
}

/// Superusers and BYPASSRLS roles are bound by nothing on such a server, until a call has loaded the library.
async fn whom_nothing_binds_is_refused_once_it_is_loaded(WithoutPreload(db): WithoutPreload) {
    world(&db).await;
    for role in ["svc", "postgres"] {
        let client = as_shop(&db, role).await;
        assert_eq!(client.one("SELECT body FROM note").await, "one");
        client.run("SELECT bulkhead.tenant_id()").await;
        for sql in STATEMENTS.into_iter().filter(|sql| !sql.starts_with("COPY note")) {
            refused(&client, sql).await;
        }
        calls_are_refused(&client).await;
    }
}
