//! The bypass: reasoned, privileged, recorded, and gone with its transaction.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{ALL, OF_A, ROLES, acting, orders, seen};
use super::{A, B};
use crate::harness::Skip;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        it_lasts_until_its_transaction_ends,
        it_needs_a_reason_and_the_privilege,
        outside_a_block_and_beyond_the_session_it_is_refused,
        savepoints_give_and_take_it,
        a_start_up_option_needs_the_privilege,
        nothing_is_left_behind_on_a_pooled_connection,
        no_deputy_can_be_lent_one,
        it_ends_with_a_function_that_says_so,
        another_role_does_not_inherit_it,
        it_lifts_the_seal_and_never_row_level_security,
        the_seal_can_be_switched_off_and_on
    ]
}

/// Rows of both tenants; owner and svc may bypass.
pub(super) async fn world(db: &Database) {
    orders(db).await;
    db.admin("GRANT EXECUTE ON FUNCTION bulkhead.begin_bypass(text) TO owner, svc").unwrap();
}

pub(super) async fn is_naked(client: &Client) {
    client.refused("SELECT * FROM orders").await.state("42501").message_contains("orders");
}

async fn it_lasts_until_its_transaction_ends(db: Database) {
    world(&db).await;
    for role in ["svc", "postgres"] {
        let client = db.connect(role).await;
        for begin in [
            "SELECT bulkhead.begin_bypass('count')",
            "SET LOCAL bulkhead.bypass = 'count'",
            "SET bulkhead.bypass = 'count'",
            "SELECT set_config('bulkhead.bypass', 'count', false)",
        ] {
            for end in ["COMMIT", "ROLLBACK", "COMMIT AND CHAIN; SELECT 1; ROLLBACK"] {
                client.run(&format!("BEGIN; {begin}")).await;
                assert_eq!(seen(&client).await, ALL, "{role}: {begin}");
                assert_eq!(client.one("SHOW bulkhead.bypass").await, "count");
                client.run(end).await;
                assert_eq!(client.one("SHOW bulkhead.bypass").await, "", "{begin} {end}");
                is_naked(&client).await;
            }
            client.run(&format!("BEGIN; {begin}; RESET bulkhead.bypass")).await;
            is_naked(&client).await;
            client.run("ROLLBACK").await;
            client.run(&format!("BEGIN; {begin}; RESET ALL")).await;
            is_naked(&client).await;
            client.run("ROLLBACK").await;
        }
        // A statement of its own is a transaction of its own.
        client.run("SELECT bulkhead.begin_bypass('once')").await;
        is_naked(&client).await;
        let chained =
            client.refused("BEGIN; SELECT bulkhead.begin_bypass('x'); COMMIT AND CHAIN; SELECT * FROM orders");
        chained.await.state("42501");
        client.run("ROLLBACK").await;
    }
}

async fn it_needs_a_reason_and_the_privilege(db: Database) {
    world(&db).await;
    let svc = db.connect("svc").await;
    for reason in ["''", "NULL", "'   '", "repeat('x', 1001)", "E'two\\nlines'"] {
        svc.refused(&format!("SELECT bulkhead.begin_bypass({reason})")).await.state("22023");
    }
    let app = db.connect("app").await;
    app.refused("SELECT bulkhead.begin_bypass('please')").await.state("42501");
    for set in [
        "SET LOCAL bulkhead.bypass = 'x'",
        "SET bulkhead.bypass = 'x'",
        "SELECT set_config('bulkhead.bypass', 'x', true)",
    ] {
        app.refused(&format!("BEGIN; {set}")).await.state("42501");
        app.run("ROLLBACK").await;
    }
    is_naked(&app).await;
    // What is taken away in the middle is gone.
    svc.run("BEGIN; SELECT bulkhead.begin_bypass('x')").await;
    assert_eq!(seen(&svc).await, ALL);
    db.admin("REVOKE EXECUTE ON FUNCTION bulkhead.begin_bypass(text) FROM svc").unwrap();
    is_naked(&svc).await;
}

async fn outside_a_block_and_beyond_the_session_it_is_refused(db: Database) {
    world(&db).await;
    let admin = db.connect("postgres").await;
    admin.refused("SET bulkhead.bypass = 'x'").await.state("55000").hint_contains("BEGIN");
    admin.refused("SELECT set_config('bulkhead.bypass', 'x', false)").await.state("55000");
    for statement in [
        "ALTER ROLE svc SET bulkhead.bypass = 'x'".to_string(),
        format!("ALTER DATABASE {} SET bulkhead.bypass = 'x'", db.name),
        "ALTER ROLE ALL SET bulkhead.bypass = 'x'".to_string(),
        "ALTER SYSTEM SET bulkhead.bypass = 'x'".to_string(),
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET bulkhead.bypass = 'x' AS 'SELECT 1'".to_string(),
    ] {
        let error = admin.simple_query(&statement).await.expect_err(&statement);
        let code = error.as_db_error().map(|error| error.code().code().to_string());
        assert!(["22023", "55000", "55P02"].contains(&code.as_deref().unwrap_or_default()), "{statement}: {code:?}");
    }
    is_naked(&admin).await;
}

async fn savepoints_give_and_take_it(db: Database) {
    world(&db).await;
    let svc = db.connect("svc").await;
    svc.run("BEGIN; SAVEPOINT s; SELECT bulkhead.begin_bypass('x')").await;
    assert_eq!(seen(&svc).await, ALL);
    svc.run("ROLLBACK TO s").await;
    is_naked(&svc).await;
    svc.run("ROLLBACK; BEGIN; SELECT bulkhead.begin_bypass('x'); SAVEPOINT s; RESET bulkhead.bypass; ROLLBACK TO s")
        .await;
    assert_eq!(seen(&svc).await, ALL);
    svc.run("RELEASE s; SAVEPOINT t; SELECT bulkhead.begin_bypass('y'); RELEASE t").await;
    assert_eq!(seen(&svc).await, ALL);
    svc.run("COMMIT").await;
    is_naked(&svc).await;
    svc.refused(
        "DO $$ BEGIN BEGIN PERFORM bulkhead.begin_bypass('x'); RAISE 'no'; EXCEPTION WHEN raise_exception THEN NULL; END;
         PERFORM * FROM orders; END $$",
    )
    .await
    .state("42501");
}

async fn a_start_up_option_needs_the_privilege(db: Database) {
    world(&db).await;
    let connect = async |role: &str| {
        let mut config = db.config(role);
        config.options("-c bulkhead.bypass=backup");
        Client::connect(&config).await
    };
    for role in ["svc", "postgres"] {
        let client = connect(role).await.unwrap();
        for _ in 0..2 {
            assert_eq!(seen(&client).await, ALL, "{role}");
        }
        client.run("BEGIN; SELECT 1; ROLLBACK").await;
        client.run("DISCARD ALL").await;
        assert_eq!(seen(&client).await, ALL, "{role}");
    }
    if let Ok(app) = connect("app").await {
        is_naked(&app).await;
        app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
        assert_eq!(seen(&app).await, OF_A);
    }
    let client = connect("postgres").await.unwrap();
    client.run("SET ROLE svc").await;
    is_naked(&client).await;
}

async fn nothing_is_left_behind_on_a_pooled_connection(db: Database) -> Result<(), Skip> {
    world(&db).await;
    let pooler = crate::pooled::pooler(&db, 1)?;
    let one = pooler.connect("svc", &db).await;
    let other = pooler.connect("svc", &db).await;
    for begin in ["SELECT bulkhead.begin_bypass('x')", "SET bulkhead.bypass = 'x'"] {
        one.run(&format!("BEGIN; {begin}")).await;
        let pid = one.one("SELECT pg_backend_pid()").await;
        assert_eq!(seen(&one).await, ALL);
        one.run("COMMIT").await;
        assert_eq!(other.one("SELECT pg_backend_pid()").await, pid, "the same server connection");
        is_naked(&other).await;
    }
    other.refused("SET bulkhead.bypass = 'x'").await.state("55000");
    Ok(())
}

async fn no_deputy_can_be_lent_one(db: Database) {
    world(&db).await;
    db.admin(
        "CREATE FUNCTION count_as_super() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS
           'BEGIN RETURN (SELECT count(*) FROM orders); END';
         CREATE FUNCTION read_as_super() RETURNS SETOF int LANGUAGE sql SECURITY DEFINER AS 'SELECT id FROM public.orders'",
    )
    .unwrap();
    db.admin(
        "CREATE FUNCTION bypass_as_super() RETURNS void LANGUAGE sql SECURITY DEFINER AS
              $$ SELECT bulkhead.begin_bypass('lent') $$",
    )
    .unwrap();
    for call in ["SELECT count_as_super()", "SELECT * FROM read_as_super()"] {
        let svc = db.connect("svc").await;
        svc.run("BEGIN; SELECT bulkhead.begin_bypass('mine')").await;
        svc.refused(call).await.state("42501");
        svc.run("ROLLBACK; BEGIN; SELECT bypass_as_super()").await;
        is_naked(&svc).await;
        svc.run("ROLLBACK; BEGIN").await;
        // It was set by the function's owner, so it acts inside the owner's functions alone: an owner who wants that can do it.
        let app = acting(&db, "app").await;
        app.run("BEGIN").await;
        app.refused("SELECT set_config('bulkhead.bypass', 'x', true), count_as_super()").await.state("42501");
        app.run("ROLLBACK; BEGIN").await;
        assert_eq!(seen(&app).await, OF_A);
    }
}

/// As docs/seal.md advises for what others may call.
async fn it_ends_with_a_function_that_says_so(db: Database) {
    world(&db).await;
    db.admin(
        "CREATE FUNCTION deputy() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM public.orders';
         CREATE FUNCTION report() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET bulkhead.bypass = '' AS $$
           BEGIN PERFORM bulkhead.begin_bypass('report'); RETURN (SELECT count(*) FROM public.orders); END $$",
    )
    .unwrap();
    let client = acting(&db, "app").await;
    assert_eq!(client.rows("SELECT report(), deputy()").await, [["5", "3"]]);
    client.run("BEGIN").await;
    assert_eq!(client.column("SELECT report(); SELECT deputy()").await, ["5", "3"]);
}

async fn another_role_does_not_inherit_it(db: Database) {
    world(&db).await;
    let admin = db.connect("postgres").await;
    for role in ROLES[..3].iter() {
        admin.run(&format!("BEGIN; SELECT bulkhead.begin_bypass('x'); SET LOCAL ROLE {role}")).await;
        is_naked(&admin).await;
        admin.run("ROLLBACK").await;
    }
    admin.run("BEGIN; SELECT bulkhead.begin_bypass('x'); SET LOCAL ROLE svc; RESET ROLE").await;
    assert_eq!(seen(&admin).await, ALL);
    admin.run("SET LOCAL SESSION AUTHORIZATION svc").await;
    is_naked(&admin).await;
}

async fn it_lifts_the_seal_and_never_row_level_security(db: Database) {
    world(&db).await;
    let owner = acting(&db, "owner").await;
    owner.run("BEGIN; SELECT bulkhead.begin_bypass('x')").await;
    assert_eq!(seen(&owner).await, OF_A);
    owner.refused(&format!("INSERT INTO orders VALUES (9, '{B}', 'x')")).await.state("42501");
    let svc = db.connect("svc").await;
    svc.run("BEGIN; SELECT bulkhead.begin_bypass('x')").await;
    svc.run(&format!(
        "INSERT INTO orders VALUES (9, '{B}', 'x'); UPDATE orders SET item = 'all'; DELETE FROM orders WHERE id = 9"
    ))
    .await;
    assert_eq!(svc.one("SELECT count(*) FROM orders WHERE item = 'all'").await, "5");
    svc.run("ROLLBACK").await;
}

/// Reload-time, so on a cluster of its own.
async fn the_seal_can_be_switched_off_and_on(_: crate::harness::Nowhere) {
    let cluster = pg_test::cluster::Cluster::builder().start().unwrap();
    let db = cluster.database("switch").unwrap();
    orders(&db).await;
    let client = acting(&db, "postgres").await;
    client.run("PREPARE p AS SELECT count(*) FROM orders; SET plan_cache_mode = force_generic_plan").await;
    let turn = async |to: &str| {
        cluster.admin(&db.name, &format!("ALTER SYSTEM SET bulkhead.seal = {to}")).unwrap();
        cluster.admin(&db.name, "SELECT pg_reload_conf()").unwrap();
        for _ in 0..100 {
            if client.one("SHOW bulkhead.seal").await == to {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("bulkhead.seal does not become {to}");
    };
    for _ in 0..2 {
        assert_eq!(client.one("EXECUTE p").await, "3");
        turn("off").await;
        assert_eq!(client.one("EXECUTE p").await, "5");
        assert_eq!(client.one("SELECT sealed FROM bulkhead.protected_tables").await, "f");
        assert_eq!(seen(&acting(&db, "app").await).await, OF_A, "row level security stays");
        turn("on").await;
        assert_eq!(client.one("EXECUTE p").await, "3");
        assert_eq!(client.one("SELECT sealed FROM bulkhead.protected_tables").await, "t");
    }
    for role in ["app", "svc"] {
        db.connect(role).await.refused("SET bulkhead.seal = off").await.state("55P02");
    }
    let plain = cluster.empty_database("plain").unwrap();
    let elsewhere = plain.connect("postgres").await;
    elsewhere.run("CREATE TABLE orders (id int, tenant_id uuid); INSERT INTO orders VALUES (1, NULL)").await;
    assert_eq!(seen(&elsewhere).await, ["1"]);
}
