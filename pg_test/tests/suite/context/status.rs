//! status(): the answer to "why is this table empty?".

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{A, B, app, notes};
use crate::harness::{SessionPreload, WithoutPreload};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        it_says_what_is_in_force,
        it_says_where_the_tenant_came_from,
        it_says_when_a_role_is_exempt,
        it_says_when_another_tenant_is_hidden,
        it_names_the_load_level_of_a_session_preload,
        it_names_the_load_level_without_preload
    ]
}

/// `value: detail` of an item.
async fn item(client: &Client, item: &str) -> String {
    client.one(&format!("SELECT concat_ws(': ', value, detail) FROM bulkhead.status() WHERE item = '{item}'")).await
}

async fn it_says_what_is_in_force(db: Database) {
    let app = db.connect("app").await;
    let items = app.column("SELECT item FROM bulkhead.status()").await;
    assert_eq!(
        items,
        ["tenant", "source", "mode", "missing_context", "load_level", "row_security", "bypass", "version"]
    );
    assert!(item(&app, "tenant").await.starts_with("none: protected tables show no rows"));
    assert_eq!(item(&app, "load_level").await, "shared: shared_preload_libraries: in every process of the server");
    assert_eq!(item(&app, "missing_context").await, "error: a statement without a tenant is refused");
    assert_eq!(item(&app, "version").await, "0.1.0: the SQL objects and the library belong together");
    app.run("BEGIN; SET LOCAL bulkhead.tenant_context = '42'").await;
    assert_eq!(item(&app, "tenant").await, "42: fits tenant columns of type text and bigint");
    assert_eq!(
        item(&app, "mode").await,
        "locked: one tenant for each transaction; fixed: a tenant was set in this transaction"
    );
}

async fn it_says_where_the_tenant_came_from(db: Database) {
    let admin = db.connect("postgres").await;
    let app = db.connect("app").await;
    assert_eq!(item(&app, "source").await, "default: nothing has set it");
    app.run("BEGIN; SET LOCAL bulkhead.tenant_context = 'h2o'; COMMIT").await;
    assert_eq!(item(&app, "source").await, "default: a local context ended with its transaction: use BEGIN");
    app.run("SET bulkhead.tenant_context = 'h2o'").await;
    assert!(item(&app, "source").await.starts_with("session: SET"));
    app.run("RESET bulkhead.tenant_context").await;
    assert_eq!(item(&app, "source").await, "default: nothing has set it");
    admin.run(&format!("ALTER ROLE app IN DATABASE {} SET bulkhead.tenant_context = 'h2o'", db.name)).await;
    let fresh = db.connect("app").await;
    assert_eq!(item(&fresh, "source").await, "database user: ALTER ROLE ... SET or ALTER DATABASE ... SET");
    let mut config = db.config("app");
    let client = Client::connect(config.options("-c bulkhead.tenant_context=h2o")).await.unwrap();
    assert_eq!(item(&client, "source").await, "client: a start-up option of this connection");
}

async fn it_says_when_a_role_is_exempt(db: Database) {
    assert!(item(&db.connect("app").await, "row_security").await.starts_with("bound"));
    for role in ["svc", "postgres"] {
        assert!(item(&db.connect(role).await, "row_security").await.starts_with("exempt"), "{role}");
    }
}

async fn it_says_when_another_tenant_is_hidden(db: Database) {
    let app = app(&db).await;
    app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
    app.run(&format!(
        "BEGIN; SAVEPOINT s; SET LOCAL bulkhead.tenant_context = '{B}'; SELECT count(*) FROM note; ROLLBACK TO s"
    ))
    .await;
    assert_eq!(
        item(&app, "tenant").await,
        "none: this transaction has acted for another tenant than the setting holds now"
    );
}

async fn it_names_the_load_level_of_a_session_preload(db: SessionPreload) {
    let app = db.connect("app").await;
    assert_eq!(item(&app, "load_level").await, "session: session_preload_libraries: in ordinary sessions");
    assert_eq!(item(&app, "missing_context").await, "error: a statement without a tenant is refused");
}

async fn it_names_the_load_level_without_preload(db: WithoutPreload) {
    notes(&db).await;
    let app = db.connect("app").await;
    assert_eq!(app.one("SELECT count(*) FROM note").await, "0");
    assert!(item(&app, "load_level").await.starts_with("on first use: add bulkhead to shared_preload_libraries"));
    assert!(item(&app, "missing_context").await.starts_with("empty: the library is not preloaded"));
}
