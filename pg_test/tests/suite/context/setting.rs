//! The setting bulkhead.tenant_context: what it accepts, who clears it, and where a value may come from.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{A, B, OF_A, OF_B, app, notes, open_mode, seen};
use crate::harness::WithoutPreload;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_bad_id_is_refused_and_the_old_one_stays,
        a_null_tenant_is_an_error,
        reset_and_discard_clear,
        a_local_tenant_ends_with_its_transaction,
        a_failed_transaction_leaves_none,
        savepoints_and_exceptions_bring_the_outer_tenant_back,
        a_functions_set_clause_holds_for_the_call,
        set_local_outside_a_block_warns_and_sets_nothing,
        roles_and_startup_options_give_a_session_tenant,
        bad_text_in_startup_options_is_refused,
        a_misspelt_setting_is_an_error,
        only_a_superuser_changes_the_modes,
        a_mode_is_one_of_three,
        a_placeholder_is_checked_when_the_library_loads
    ]
}

async fn a_bad_id_is_refused_and_the_old_one_stays(db: Database) {
    let app = db.connect("app").await;
    app.run("SET bulkhead.tenant_context = 'h2o'").await;
    for (id, message) in [
        ("E'a\\nb'".to_owned(), "invalid tenant id: a control character at byte 2".to_owned()),
        ("E'\\x7f'".to_owned(), "invalid tenant id: a control character at byte 1".to_owned()),
        ("U&'x\\0085'".to_owned(), "invalid tenant id: a control character at byte 2".to_owned()),
        (format!("'{}'", "x".repeat(256)), "invalid tenant id: 256 bytes, at most 255 are allowed".to_owned()),
        ("repeat('x', 10000000)".to_owned(), "invalid tenant id: 10000000 bytes, at most 255 are allowed".to_owned()),
    ] {
        let sql = format!("SELECT set_config('bulkhead.tenant_context', {id}, false)");
        app.refused(&sql).await.state("22023").message(&message);
        assert_eq!(app.one("SHOW bulkhead.tenant_context").await, "h2o");
    }
    app.refused("SELECT bulkhead.set_tenant(repeat('x', 256))").await.state("22023");
    assert_eq!(app.one("SELECT bulkhead.tenant_id_text()").await, "h2o");
}

async fn a_null_tenant_is_an_error(db: Database) {
    let app = db.connect("app").await;
    app.run("SET bulkhead.tenant_context = 'h2o'").await;
    for call in ["set_tenant(NULL)", "set_tenant('x', NULL)"] {
        app.refused(&format!("SELECT bulkhead.{call}"))
            .await
            .state("22023")
            .message("the tenant and is_local must not be NULL")
            .hint_contains("Pass '' to clear");
    }
    app.run("SELECT bulkhead.set_tenant('', false)").await;
    assert_eq!(app.one("SELECT bulkhead.tenant_id_text()").await, "NULL");
}

async fn reset_and_discard_clear(db: Database) {
    let app = app(&db).await;
    for clear in ["RESET bulkhead.tenant_context", "RESET ALL", "DISCARD ALL", "SET bulkhead.tenant_context = ''"] {
        app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
        assert_eq!(seen(&app).await, OF_A);
        app.run(clear).await;
        app.refused("SELECT FROM note").await.state("42501");
    }
}

async fn a_local_tenant_ends_with_its_transaction(db: Database) {
    let app = app(&db).await;
    for end in ["COMMIT", "ROLLBACK"] {
        app.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'")).await;
        assert_eq!(seen(&app).await, OF_A);
        app.run(end).await;
        assert_eq!(app.one("SHOW bulkhead.tenant_context").await, "");
        app.refused("SELECT FROM note")
            .await
            .state("42501")
            .message("no tenant context for protected table public.note")
            .hint_contains("A local context ends with its transaction: use BEGIN");
    }
    app.run(&format!("BEGIN; SELECT bulkhead.set_tenant('{B}'); COMMIT")).await;
    app.refused("SELECT FROM note").await.state("42501");
}

async fn a_failed_transaction_leaves_none(db: Database) {
    let app = app(&db).await;
    app.run(&format!("BEGIN; SET bulkhead.tenant_context = '{A}'")).await;
    app.refused("SELECT 1 / 0").await.state("22012");
    app.run("ROLLBACK").await;
    app.refused("SELECT FROM note").await.state("42501");
}

async fn savepoints_and_exceptions_bring_the_outer_tenant_back(db: Database) {
    open_mode(&db).await;
    let app = app(&db).await;
    app.run(&format!(
        "BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'; SAVEPOINT s; SET LOCAL bulkhead.tenant_context = '{B}'"
    ))
    .await;
    assert_eq!(seen(&app).await, OF_B);
    app.run("ROLLBACK TO s").await;
    assert_eq!(seen(&app).await, OF_A);
    app.run(&format!(
        "DO $$ BEGIN
           BEGIN PERFORM bulkhead.set_tenant('{B}'); PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END;
           ASSERT bulkhead.tenant_id() = '{A}';
         END $$"
    ))
    .await;
    assert_eq!(seen(&app).await, OF_A);
}

async fn a_functions_set_clause_holds_for_the_call(db: Database) {
    open_mode(&db).await;
    let app = app(&db).await;
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE FUNCTION as_b() RETURNS bigint LANGUAGE plpgsql SET bulkhead.tenant_context = '{B}'
               AS $$ BEGIN RETURN (SELECT count(*) FROM note); END $$;
             CREATE FUNCTION failing_b() RETURNS void LANGUAGE plpgsql SET bulkhead.tenant_context = '{B}'
               AS $$ BEGIN PERFORM 1 / 0; END $$"
        ))
        .await;
    app.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'")).await;
    let row = app.rows("SELECT bulkhead.tenant_id(), as_b(), bulkhead.tenant_id()").await;
    assert_eq!(row, [[A, "3", A]]);
    app.run("SAVEPOINT s").await;
    app.refused("SELECT failing_b()").await.state("22012");
    app.run("ROLLBACK TO s").await;
    assert_eq!(seen(&app).await, OF_A);
}

async fn set_local_outside_a_block_warns_and_sets_nothing(db: Database) {
    let app = app(&db).await;
    for switch in [format!("SET LOCAL bulkhead.tenant_context = '{A}'"), format!("SELECT bulkhead.set_tenant('{A}')")] {
        app.notices();
        app.run(&switch).await;
        assert_eq!(app.notices(), ["WARNING: SET LOCAL can only be used in transaction blocks"], "{switch}");
        app.refused("SELECT FROM note").await.state("42501");
    }
    // Inside a block, and for the session, there is nothing to warn of.
    app.run(&format!("BEGIN; SELECT bulkhead.set_tenant('{A}'); COMMIT; SELECT bulkhead.set_tenant('{A}', false)"))
        .await;
    assert_eq!(app.notices(), [""; 0]);
    assert_eq!(seen(&app).await, OF_A);
}

async fn roles_and_startup_options_give_a_session_tenant(db: Database) {
    notes(&db).await;
    let admin = db.connect("postgres").await;
    admin.run(&format!("ALTER ROLE app IN DATABASE {} SET bulkhead.tenant_context = '{A}'", db.name)).await;
    let app = db.connect("app").await;
    assert_eq!(seen(&app).await, OF_A);
    let mut config = db.config("app");
    let with_option = Client::connect(config.options(format!("-c bulkhead.tenant_context={B}"))).await.unwrap();
    assert_eq!(seen(&with_option).await, OF_B);
    admin
        .refused(&format!("ALTER DATABASE {} SET bulkhead.tenant_context = E'a\\tb'", db.name))
        .await
        .state("22023")
        .message_contains("control character");
}

async fn bad_text_in_startup_options_is_refused(db: Database) {
    let mut config = db.config("app");
    let error = Client::connect(config.options("-c bulkhead.tenant_context=a\u{7}b")).await.err();
    let text = format!("{:?}", error.expect("a control character came through"));
    assert!(text.contains("invalid tenant id"), "{text}");
}

async fn a_misspelt_setting_is_an_error(db: Database) {
    let app = db.connect("app").await;
    app.refused("SET bulkhead.tenant_contxt = 'x'").await.message_contains("bulkhead.tenant_contxt");
}

async fn only_a_superuser_changes_the_modes(db: Database) {
    let app = db.connect("app").await;
    for setting in ["bulkhead.context_mode = 'open'", "bulkhead.missing_context = 'empty'"] {
        app.refused(&format!("SET {setting}")).await.state("42501").message_contains("permission denied");
        let sql = format!("ALTER ROLE app SET {setting}");
        app.refused(&sql).await.state("42501");
    }
    app.refused("SELECT set_config('bulkhead.context_mode', 'open', true)").await.state("42501");
}

async fn a_mode_is_one_of_three(db: Database) {
    let admin = db.connect("postgres").await;
    admin.refused("SET bulkhead.context_mode = 'closed'").await.state("22023");
    for mode in ["open", "locked", "signed"] {
        admin.run(&format!("SET bulkhead.context_mode = '{mode}'")).await;
        assert_eq!(admin.one("SHOW bulkhead.context_mode").await, mode);
    }
}

async fn a_placeholder_is_checked_when_the_library_loads(db: WithoutPreload) {
    let app = app(&db).await;
    app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
    assert_eq!(seen(&app).await, OF_A);
    let other = db.connect("app").await;
    other.run("SET bulkhead.tenant_context = E'a\\tb'").await;
    assert_eq!(other.one("SELECT bulkhead.tenant_id_text()").await, "NULL");
    let notices = other.notices();
    assert!(notices.iter().any(|notice| notice.contains("invalid tenant id")), "{notices:?}");
    // Once loaded, the setting is checked as everywhere.
    other.refused("SET bulkhead.tenant_context = E'a\\tb'").await.state("22023");
}
