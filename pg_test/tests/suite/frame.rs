//! The frame itself: what every other test takes for granted.

use std::time::Duration;

use libtest_mimic::Trial;
use pg_test::{Client, Database, Expect, expect_error};

use crate::harness::{self, Nowhere, SessionPreload, Skip, WithoutPreload};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        the_extension_is_created,
        every_function_has_a_comment,
        every_argument_has_a_name,
        the_plain_roles_are_plain,
        app_uses_what_owner_makes,
        databases_are_isolated,
        each_kind_of_server_loads_the_library_its_way,
        the_superuser_comes_in_by_the_socket_only,
        an_error_is_checked_field_by_field,
        notices_are_heard,
        psql_and_pg_dump_are_the_servers_own,
        pg_cron_is_loaded,
        a_failing_test_shows_the_servers_log,
        a_test_that_hangs_fails
    ]
}

async fn the_extension_is_created(db: Database) {
    let app = db.connect("app").await;
    let schema = app.one("SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'bulkhead'").await;
    assert_eq!(schema, "bulkhead");
}

async fn every_function_has_a_comment(db: Database) {
    let app = db.connect("app").await;
    let silent = app
        .column(
            "SELECT p.oid::regprocedure FROM pg_proc p
              WHERE pronamespace = 'bulkhead'::regnamespace
                AND btrim(coalesce(obj_description(p.oid, 'pg_proc'), '')) = ''
              ORDER BY 1",
        )
        .await;
    assert!(silent.is_empty(), "no COMMENT ON {}", silent.join(", "));
}

async fn every_argument_has_a_name(db: Database) {
    let app = db.connect("app").await;
    // Trigger and event trigger functions have none; what a C function needs besides is counted.
    let nameless = app
        .column(
            "SELECT p.oid::regprocedure FROM pg_proc p
              WHERE pronamespace = 'bulkhead'::regnamespace
                AND pronargs > 0
                AND (cardinality(proargnames) IS NULL
                     OR cardinality(proargnames) < pronargs
                     OR '' = ANY (proargnames[1:pronargs]))
              ORDER BY 1",
        )
        .await;
    assert!(nameless.is_empty(), "arguments without names: {}", nameless.join(", "));
}

async fn the_plain_roles_are_plain(db: Database) {
    let app = db.connect("app").await;
    let roles = app
        .rows(
            "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolreplication FROM pg_roles
              WHERE rolname IN ('app', 'owner', 'svc') ORDER BY rolname",
        )
        .await;
    assert_eq!(roles, [["app", "f", "f", "f", "f"], ["owner", "f", "f", "f", "f"], ["svc", "f", "t", "f", "f"]]);
    let memberships = app.one("SELECT count(*) FROM pg_auth_members WHERE member = 'app'::regrole");
    assert_eq!(memberships.await, "0");
}

async fn app_uses_what_owner_makes(db: Database) {
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE thing (id serial, name text); CREATE SCHEMA more").await;
    for user in ["app", "svc"] {
        let client = db.connect(user).await;
        client.run("INSERT INTO thing (name) VALUES ('a')").await;
        client.run("UPDATE thing SET name = 'b'; DELETE FROM thing").await;
        client.refused("TRUNCATE thing").await.state("42501");
        client.refused("CREATE TABLE public.own (id int)").await.state("42501");
    }
}

async fn databases_are_isolated(db: Database) {
    let other = db.cluster.database("other").unwrap();
    assert_ne!(db.name, other.name);
    db.connect("owner").await.run("CREATE TABLE here (id int)").await;
    let there = other.connect("owner").await;
    there.refused("SELECT * FROM here").await.state("42P01");
    drop(there);
    other.drop().unwrap();
}

async fn each_kind_of_server_loads_the_library_its_way(db: Database) {
    let session = db_of::<SessionPreload>();
    let none = db_of::<WithoutPreload>();
    for (db, shared, session) in [(&db, true, false), (&session, false, true), (&none, false, false)] {
        let client = db.connect("postgres").await;
        let has = async |setting: &str| {
            client.one(&format!("SHOW {setting}")).await.split(',').any(|name| name == "bulkhead")
        };
        assert_eq!(has("shared_preload_libraries").await, shared);
        assert_eq!(has("session_preload_libraries").await, session);
    }
}

/// A database of another kind of server than the test's own.
fn db_of<P: harness::Place>() -> Database {
    let place = P::make("frame").unwrap();
    place.database().unwrap()
}

async fn the_superuser_comes_in_by_the_socket_only(db: Database) {
    let by_port = |user: &str| {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(db.cluster.port()).user(user).dbname(&db.name);
        config
    };
    let app = Client::connect(&by_port("app")).await.unwrap();
    assert_eq!(app.one("SELECT inet_server_addr()").await, "127.0.0.1");
    assert!(Client::connect(&by_port("postgres")).await.is_err());
}

async fn an_error_is_checked_field_by_field(db: Database) {
    let app = db.connect("app").await;
    let raise = "DO $$ BEGIN RAISE 'no %', 'cheese' USING ERRCODE = '55000',
                 DETAIL = 'the shop is shut', HINT = 'try the baker'; END $$";
    let refused = app.refused(raise).await;
    refused.clone().state("55000").message("no cheese").detail("the shop is shut").hint_contains("baker");
    expect_error(
        app.batch_execute(raise).await,
        Expect { sqlstate: Some("55000"), hint: Some("try the baker"), ..Expect::default() },
    );
    for wrong in [
        std::panic::catch_unwind(|| drop(refused.clone().state("55P03"))),
        std::panic::catch_unwind(|| drop(refused.clone().message("no chees"))),
        std::panic::catch_unwind(|| drop(refused.clone().detail_contains("open"))),
        std::panic::catch_unwind(|| drop(refused.clone().hint(""))),
    ] {
        let panic = wrong.expect_err("a mismatch panics");
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(text.contains("frame.rs:"), "the caller's line: {text}");
        assert!(text.contains("HINT:  try the baker"), "the whole error: {text}");
    }
}

async fn notices_are_heard(db: Database) {
    let app = db.connect("app").await;
    app.run("DO $$ BEGIN RAISE WARNING 'mind the gap'; END $$").await;
    assert_eq!(app.notices(), ["WARNING: mind the gap"]);
    assert!(app.notices().is_empty());
}

async fn psql_and_pg_dump_are_the_servers_own(db: Database) {
    let output = db.psql("app", "SELECT current_user;\nSELECT 1/0;\n").unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains(" app\n"));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "ERROR:  division by zero\n");
    db.connect("owner").await.run("CREATE TABLE dumped (id int)").await;
    let dump = db.client_program("pg_dump", "postgres").output().unwrap();
    assert!(String::from_utf8_lossy(&dump.stdout).contains("CREATE TABLE public.dumped"));
}

/// The error that says that this machine has no pg_cron.
pub fn need_pg_cron(db: &Database) -> Result<(), Skip> {
    match db.cluster.provision().pg_cron {
        true => Ok(()),
        false => Err(Skip("pg_cron is not installed".into())),
    }
}

async fn pg_cron_is_loaded(db: Database) -> Result<(), Skip> {
    need_pg_cron(&db)?;
    // It lives in one database of the cluster, so this one is not the test's own.
    db.cluster.admin("postgres", "CREATE EXTENSION IF NOT EXISTS pg_cron").unwrap();
    let launchers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_cron launcher'";
    let postgres = db.connect("postgres").await;
    assert_eq!(postgres.one(launchers).await, "1");
    Ok(())
}

async fn a_failing_test_shows_the_servers_log(_: Nowhere) {
    let body = |db: Database| async move {
        db.connect("app").await.run("SELECT 'needle' / 0").await;
    };
    let failed = harness::execute("frame::inner", Duration::from_secs(60), body).err().unwrap();
    let text = failed.message().unwrap_or_default().to_string();
    assert!(text.contains("ERROR:  22P02"), "the error: {text}");
    assert!(text.contains("STATEMENT:  SELECT 'needle' / 0"), "the log: {text}");
}

async fn a_test_that_hangs_fails(_: Nowhere) {
    let body = |_: Nowhere| async { std::thread::sleep(Duration::from_secs(5)) };
    let failed = harness::execute("frame::inner", Duration::from_millis(100), body).err().unwrap();
    assert!(failed.message().unwrap_or_default().contains("not done after"));
}
