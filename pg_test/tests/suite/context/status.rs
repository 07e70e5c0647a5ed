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
        it_says_who_is_past_the_seal,
        it_says_when_the_seal_is_off,
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
    // Naked statements are counted for the server, which other tests share.
    let items = app.column("SELECT item FROM bulkhead.status() WHERE item <> 'naked_statements'").await;
    assert_eq!(
        items,
        ["tenant", "source", "mode", "missing_context", "load_level", "seal", "row_security", "bypass", "version"]
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
        let client = db.connect(role).await;
        let sealed = "exempt: this role is superuser or BYPASSRLS: policies do not bind it, the seal does";
        assert_eq!(item(&client, "row_security").await, sealed, "{role}");
        let past = "exempt: this role is superuser or BYPASSRLS, and past the seal: it sees every tenant's rows";
        assert_eq!(item(&db.past_the_seal(role).await, "row_security").await, past, "{role}");
    }
}

async fn it_says_who_is_past_the_seal(db: Database) {
    let app = db.connect("app").await;
    assert_eq!(item(&app, "seal").await, "on: protected tables are filtered for every role, superusers too");
    let no = "none: this role may not lift the seal: that needs EXECUTE on bulkhead.begin_bypass(text)";
    assert_eq!(item(&app, "bypass").await, no);
    let mut config = db.config("app");
    let asked = Client::connect(config.options("-c bulkhead.bypass=why")).await.unwrap();
    let other = "none: one is set, but it acts only for the role that set it, and with EXECUTE on begin_bypass()";
    assert_eq!(item(&asked, "bypass").await, other);

    db.admin("GRANT EXECUTE ON FUNCTION bulkhead.begin_bypass(text) TO app").unwrap();
    let whole = "why: the seal is lifted for this role in the whole session: a start-up option";
    assert_eq!(item(&asked, "bypass").await, whole);
    let may = "none: this role may lift the seal for a transaction: SELECT bulkhead.begin_bypass('why')";
    assert_eq!(item(&app, "bypass").await, may);
    app.run("BEGIN; SELECT bulkhead.begin_bypass('invoices of the month')").await;
    let until = "invoices of the month: the seal is lifted for this role until the transaction ends";
    assert_eq!(item(&app, "bypass").await, until);
    app.run("COMMIT").await;
    assert_eq!(item(&app, "bypass").await, may);

    let admin = db.connect("postgres").await;
    admin.run("BEGIN; SELECT bulkhead.begin_bypass('x'); SET LOCAL ROLE svc").await;
    assert_eq!(item(&admin, "bypass").await, other);
    admin.run("RESET ROLE").await;
    assert!(item(&admin, "bypass").await.starts_with("x: the seal is lifted"));
    // To ask is not to lift: what is recorded is the bypass that was begun, and nothing else.
    admin.run("COMMIT").await;
    let recorded =
        db.admin("SELECT string_agg(reason, ',' ORDER BY at) FROM bulkhead.bypass_log WHERE reason <> 'test'");
    assert_eq!(recorded.unwrap(), "invoices of the month,x");
}

async fn it_says_when_the_seal_is_off(db: WithoutPreload) {
    let admin = db.connect("postgres").await;
    let off = "off: the library is not preloaded, so superusers and BYPASSRLS roles are not filtered";
    assert_eq!(item(&admin, "seal").await, off);
    assert_eq!(item(&admin, "bypass").await, "none: the seal is off, so there is nothing to bypass");
    let all = "exempt: this role is superuser or BYPASSRLS: it sees every tenant's rows";
    assert_eq!(item(&admin, "row_security").await, all);
    let place = <SessionPreload as crate::harness::Place>::make("seal").unwrap();
    let sealed = item(&place.connect("app").await, "seal").await;
    assert_eq!(
        sealed,
        "on: protected tables are filtered for every role, but not in processes without session_preload_libraries"
    );
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
