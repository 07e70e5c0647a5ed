//! Signed mode: nothing but a token sets a tenant, from whatever side it comes.

use libtest_mimic::Trial;
use pg_test::{Client, Database};
use serde_json::json;

use super::fixture::{A, B, Issuer, OF_A, OF_B, SET, jwks, notes, now, seen, set, setting, signed, status};
use crate::harness::{SessionPreload, WithoutPreload};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        no_statement_sets_a_bare_id,
        no_catalog_and_no_startup_option_sets_a_bare_id,
        a_definer_function_sets_no_bare_id,
        a_token_of_a_role_or_startup_option_counts,
        one_transaction_one_tenant,
        injected_sql_reads_nobody_else,
        a_stacked_commit_reads_nobody_else,
        the_mode_follows_a_change,
        a_placeholder_is_never_trusted,
        with_a_session_preload,
        no_catalog_and_no_view_learns_the_token
    ]
}

async fn no_statement_sets_a_bare_id(db: Database) {
    let issuer = signed(&db).await;
    let app = db.connect("app").await;
    for attempt in [
        format!("SET {SET} = '{B}'"),
        format!("SET LOCAL {SET} = '{B}'"),
        format!("SET SESSION {SET} TO '{B}'"),
        format!("SELECT set_config('{SET}', '{B}', false)"),
        format!("SELECT bulkhead.set_tenant('{B}', false)"),
        format!("SELECT bulkhead.set_tenant('{B}')"),
        format!("SET {SET} = E'a\\tb'"),
        format!("SET {SET} = '{}'", "x".repeat(300)),
        format!("DO $$ BEGIN PERFORM set_config('{SET}', '{B}', false); END $$"),
        format!("UPDATE pg_settings SET setting = '{B}' WHERE name = '{SET}'"),
    ] {
        set(&app, &issuer.token(A)).await;
        app.refused(&attempt).await.state("28000").message("invalid tenant token: not a JWT").detail_contains("signed");
        assert_eq!(app.one("SELECT bulkhead.tenant_id_text()").await, "NULL", "{attempt}");
        app.refused("SELECT FROM note").await.state("42501");
    }
    for clear in [format!("SET {SET} = ''"), format!("RESET {SET}"), "DISCARD ALL".into(), "RESET ALL".into()] {
        set(&app, &issuer.token(A)).await;
        assert_eq!(seen(&app).await, OF_A);
        app.run(&clear).await;
        app.refused("SELECT FROM note").await.state("42501").detail("The current transaction acts for no tenant.");
    }
}

async fn no_catalog_and_no_startup_option_sets_a_bare_id(db: Database) {
    signed(&db).await;
    let admin = db.connect("postgres").await;
    let mut config = db.config("app");
    let by_option = Client::connect(config.options(format!("-c {SET}={B}"))).await.unwrap();
    admin.run(&format!("ALTER ROLE app IN DATABASE {} SET {SET} = '{B}'", db.name)).await;
    let by_role = db.connect("app").await;
    admin
        .run(&format!("ALTER ROLE app IN DATABASE {0} RESET ALL; ALTER DATABASE {0} SET {SET} = '{B}'", db.name))
        .await;
    let by_database = db.connect("app").await;
    for app in [&by_option, &by_role, &by_database] {
        app.refused("SELECT FROM note").await.state("42501").detail_contains("not signed").hint("Set a signed token.");
        assert_eq!(app.one("SELECT bulkhead.tenant_id_text()").await, "NULL");
        assert_eq!(app.one(&format!("SHOW {SET}")).await, "");
        assert!(status(app, "tenant").await.contains("the id is not signed"));
        // RESET gives it again, and it still does not count.
        app.run(&format!("RESET {SET}")).await;
        app.refused("SELECT FROM note").await.state("42501");
    }
    let owner = db.connect("owner").await;
    let function = format!(
        "CREATE FUNCTION as_b() RETURNS bigint LANGUAGE plpgsql SET {SET} = '{B}' AS $$ BEGIN RETURN (SELECT count(*) FROM note); END $$"
    );
    owner.refused(&function).await.state("28000");
    owner.run("SET check_function_bodies = off").await;
    owner.run(&function).await;
    by_role.refused("SELECT as_b()").await.state("28000");
}

async fn a_definer_function_sets_no_bare_id(db: Database) {
    let issuer = signed(&db).await;
    let admin = db.connect("postgres").await;
    admin
        .run(&format!(
            "CREATE FUNCTION become(t text) RETURNS text SECURITY DEFINER LANGUAGE sql AS $$ SELECT set_config('{SET}', t, false) $$;
             GRANT EXECUTE ON FUNCTION become TO PUBLIC"
        ))
        .await;
    for role in ["app", "owner", "svc", "postgres"] {
        let client = db.connect(role).await;
        client.refused(&format!("SELECT become('{B}')")).await.state("28000");
        assert_eq!(client.one("SELECT bulkhead.tenant_id_text()").await, "NULL", "{role}");
        assert_eq!(client.one(&format!("SELECT become('{}')", issuer.token(A))).await, A, "{role}");
    }
}

async fn a_token_of_a_role_or_startup_option_counts(db: Database) {
    let issuer = signed(&db).await;
    let admin = db.connect("postgres").await;
    let mut config = db.config("app");
    let app = Client::connect(config.options(format!("-c {SET}={}", issuer.token(A)))).await.unwrap();
    assert_eq!(seen(&app).await, OF_A);
    assert_eq!(app.one(&format!("SHOW {SET}")).await, A);
    assert!(status(&app, "token").await.starts_with("from a token: kid k1; subject user-1; expires 3"));
    let role = format!("ALTER ROLE app IN DATABASE {} SET {SET} =", db.name);
    admin.run(&format!("{role} '{}'", issuer.token(B))).await;
    let by_role = db.connect("app").await;
    assert_eq!(seen(&by_role).await, OF_B);
    // Replaced by a statement of its own, not by an expression.
    by_role.refused(&format!("SELECT count(set_config('{SET}', '{}', false))", issuer.token(A))).await.state("42501");
    set(&by_role, &issuer.token(A)).await;
    assert_eq!(seen(&by_role).await, OF_A);
    by_role.run(&format!("RESET {SET}")).await;
    assert_eq!(seen(&by_role).await, OF_B);
    // One that does not verify: the session begins, without a tenant, and says why.
    for (token, why) in [
        (Issuer::es("k1").token(B), "bad signature"),
        (issuer.sign(&json!({"tenant_id": B, "exp": now() - 5})), "expired"),
        ("eyJ.a.b".to_owned(), "not a JWT (header is not base64url without padding)"),
    ] {
        admin.run(&format!("{role} '{token}'")).await;
        let app = db.connect("app").await;
        let hint = app.refused("SELECT FROM note").await.state("42501").detail_contains(why).hint.clone();
        assert_eq!(status(&app, "token").await, format!("does not count: {why}: {hint}"));
        assert!(status(&app, "tenant").await.contains("the token does not count"));
    }
    admin.refused(&format!("{role} 'eyJ.{}'", "x".repeat(16_384))).await.state("28000").message_contains("too large");
}

async fn one_transaction_one_tenant(db: Database) {
    let issuer = signed(&db).await;
    let app = db.connect("app").await;
    app.run(&format!("BEGIN; SET LOCAL {SET} = '{}'", issuer.token(A))).await;
    // Another token of the same tenant is no switch.
    let again = issuer.sign(&json!({"tenant_id": A, "exp": now() + 60, "sub": "user-2"}));
    app.run(&format!("SET LOCAL {SET} = '{again}'; SAVEPOINT s")).await;
    assert_eq!(app.one("SELECT bulkhead.user_id()").await, "user-2");
    assert_eq!(seen(&app).await, OF_A);
    let of_b = issuer.token(B);
    for attack in [format!("SET LOCAL {SET} = '{of_b}'"), format!("SELECT bulkhead.set_tenant('{of_b}')")] {
        app.refused(&attack).await.state("42501").message("the tenant of this transaction cannot be changed");
        // A token that verifies and may not be used now is no failed token.
        app.run("ROLLBACK TO s").await;
        assert_eq!(seen(&app).await, OF_A);
    }
    app.run(&format!("COMMIT; BEGIN; SET LOCAL {SET} = '{of_b}'")).await;
    assert_eq!(seen(&app).await, OF_B);
}

/// The shapes of the context's attacks, with a good token of B in the attacker's hand, and with B's bare id.
async fn injected_sql_reads_nobody_else(db: Database) {
    let issuer = signed(&db).await;
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE FUNCTION volatile_switch(t text) RETURNS boolean LANGUAGE plpgsql AS
               $$ BEGIN PERFORM set_config('bulkhead.tenant_context', '', false);
                        PERFORM set_config('bulkhead.tenant_context', t, false); RETURN true; END $$;
             CREATE FUNCTION planned_switch(t text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
               $$ BEGIN PERFORM set_config('bulkhead.tenant_context', NULL, false);
                        PERFORM set_config('bulkhead.tenant_context', t, false); RETURN true; END $$",
        )
        .await;
    let app = db.connect("app").await;
    for stolen in [issuer.token(B), B.to_owned()] {
        for attack in [
            format!(
                "SELECT id::text FROM note UNION ALL SELECT set_config('{SET}', '{stolen}', true) UNION ALL SELECT id::text FROM note"
            ),
            format!(
                "SELECT set_config('{SET}', '{stolen}', false), query_to_xml('SELECT * FROM note', true, false, '')"
            ),
            format!("SELECT * FROM note WHERE volatile_switch('{stolen}')"),
            format!("SELECT * FROM note WHERE planned_switch('{stolen}')"),
            format!("EXPLAIN SELECT * FROM note WHERE planned_switch('{stolen}')"),
            format!("WITH s AS MATERIALIZED (SELECT bulkhead.set_tenant('{stolen}')) SELECT note.* FROM s, note"),
            format!(
                "DO $$ BEGIN COMMIT; PERFORM volatile_switch('{stolen}'); RAISE NOTICE '%', (SELECT max(body) FROM note); END $$"
            ),
        ] {
            set(&app, &issuer.token(A)).await;
            assert_eq!(seen(&app).await, OF_A);
            let error = app.simple_query(&attack).await.err();
            let state = error.as_ref().and_then(|error| error.code()).map(|code| code.code().to_owned());
            assert!(matches!(state.as_deref(), Some("42501" | "28000")), "{attack}: {error:?}");
            assert_eq!(app.notices(), [""; 0], "{attack}");
            app.run(&format!("RESET {SET}")).await;
        }
    }
}

/// What locked mode does not stop: whole statements. Here they help nobody without a token.
async fn a_stacked_commit_reads_nobody_else(db: Database) {
    let issuer = signed(&db).await;
    let app = db.connect("app").await;
    app.run(&format!("BEGIN; SET LOCAL {SET} = '{}'", issuer.token(A))).await;
    app.refused(&format!("SELECT 1; COMMIT; SET {SET} = '{B}'; SELECT * FROM note")).await.state("28000");
    app.refused("SELECT FROM note").await.state("42501");
    let open = format!("COMMIT; SET bulkhead.context_mode = 'open'; SET {SET} = '{B}'");
    app.refused(&open).await.state("42501").message_contains("permission denied");
}

async fn the_mode_follows_a_change(db: Database) {
    notes(&db).await;
    let admin = db.connect("postgres").await;
    admin.run(&format!("SET {SET} = '{A}'")).await;
    for (mode, tenant) in [("signed", "NULL"), ("locked", A), ("signed", "NULL"), ("open", A)] {
        admin.run(&format!("SET bulkhead.context_mode = '{mode}'")).await;
        assert_eq!(admin.one("SELECT bulkhead.tenant_id_text()").await, tenant, "{mode}");
    }
    // In the same query, too.
    let both = "SELECT bulkhead.tenant_id_text(), set_config('bulkhead.context_mode', 'signed', false), bulkhead.tenant_id_text()";
    assert_eq!(admin.rows(both).await, [[A, "signed", "NULL"]]);
}

async fn a_placeholder_is_never_trusted(db: WithoutPreload) {
    let issuer = signed(&db).await;
    let app = db.connect("app").await;
    app.run(&format!("SET {SET} = '{B}'")).await;
    assert_eq!(app.one("SELECT bulkhead.tenant_id_text()").await, "NULL");
    assert_eq!(app.one("SELECT count(*) FROM note").await, "0");
    let app = db.connect("app").await;
    set(&app, &issuer.token(A)).await;
    assert_eq!(seen(&app).await, OF_A);
    let app = db.connect("app").await;
    set(&app, &Issuer::es("k1").token(B)).await;
    assert_eq!(seen(&app).await, [""; 0]);
    assert!(app.notices().iter().any(|notice| notice.contains("invalid tenant token: bad signature")));
}

async fn with_a_session_preload(db: SessionPreload) {
    let issuer = signed(&db).await;
    let app = db.connect("app").await;
    app.refused(&format!("SET {SET} = '{B}'")).await.state("28000");
    set(&app, &issuer.token(A)).await;
    assert_eq!(seen(&app).await, OF_A);
    // Keys of a role's settings come after start-up options, and still count for them.
    let mut config = db.config("app");
    let token = issuer.token(B);
    let by_option = Client::connect(config.options(format!("-c {SET}={token}"))).await.unwrap();
    assert_eq!(seen(&by_option).await, OF_B);
    setting(&db, "bulkhead.jwks", &jwks(&[])).await;
    let without = Client::connect(config.options(format!("-c {SET}={token}"))).await.unwrap();
    without.refused("SELECT FROM note").await.state("42501").detail_contains("bulkhead.jwks holds no key");
}

/// What SQL in the session can read of its own token: nothing that would be good elsewhere.
async fn no_catalog_and_no_view_learns_the_token(db: Database) {
    let issuer = signed(&db).await;
    let owner = db.connect("owner").await;
    owner.run("SET check_function_bodies = off").await;
    owner.execute("SELECT bulkhead.set_tenant($1, false)", &[&issuer.token(A)]).await.unwrap();
    owner
        .run(&format!(
            "CREATE FUNCTION copied() RETURNS int LANGUAGE sql SET {SET} FROM CURRENT AS 'SELECT 1'; CREATE TEMP TABLE found AS
             SELECT proconfig::text AS text FROM pg_proc WHERE proname = 'copied'
             UNION ALL SELECT s::text FROM pg_settings s UNION ALL SELECT current_setting('{SET}')
             UNION ALL SELECT s::text FROM bulkhead.status() s UNION ALL SELECT bulkhead.claims()::text"
        ))
        .await;
    assert_eq!(owner.one("SELECT count(*) FROM found WHERE text LIKE '%eyJ%'").await, "0");
    assert_eq!(owner.one(&format!("SELECT count(*) FROM found WHERE text LIKE '%{A}%'")).await, "5");
    // And the copy sets no tenant.
    owner.refused("SELECT copied()").await.state("28000");
}
