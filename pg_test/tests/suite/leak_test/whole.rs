//! leak_test() as a whole.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use crate::lint::clean;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_clean_schema_holds => 240,
        nothing_stays => 240,
        the_tenant_of_the_transaction_stays,
        every_kind_of_tenant_column_is_tried,
        only_a_superuser_may,
        an_unprotected_table_is_refused,
        tenants_that_are_there_do_where_probes_cannot_be_made,
        what_could_not_be_tried_is_said,
        a_slow_attempt_is_given_up,
        a_cancelled_call_ends,
        a_trigger_gets_no_superusers_rights,
        an_operator_gets_no_superusers_rights,
        what_the_planner_calls_gets_no_superusers_rights,
    ]
}

async fn a_clean_schema_holds(db: Database) {
    clean(&db);
    let admin = db.connect("postgres").await;
    admin.run("CREATE TEMP TABLE found AS SELECT * FROM bulkhead.leak_test()").await;
    let tables = admin
        .column("SELECT DISTINCT relation::text FROM found WHERE role = 'app' AND result = 'held' ORDER BY 1")
        .await;
    assert_eq!(tables, ["shop.comments", "shop.customers", "shop.events", "shop.orders", "shop.tenants"]);
    for role in ["app", "svc", "owner"] {
        let open = admin.rows(&format!("SELECT * FROM found WHERE role = '{role}' AND result <> 'held'")).await;
        assert!(open.is_empty(), "{role}: {open:#?}");
    }
    let tried =
        admin.column("SELECT attempt FROM found WHERE role = 'app' AND relation = 'shop.orders'::regclass").await;
    let mut expected = vec![
        "select",
        "prepared",
        "insert",
        "insert own",
        "move",
        "truncate",
        "count",
        "view shop.open_orders",
        "function shop.order_count()",
    ];
    if admin.one("SELECT current_setting('server_version_num')::int >= 150000").await == "t" {
        expected.push("merge update");
    }
    for attempt in expected {
        assert!(tried.iter().any(|t| t == attempt), "{attempt} is not in {tried:?}");
    }
}

/// Everything that a table holds, with the place and age of each row.
async fn contents(admin: &Client) -> Vec<String> {
    admin
        .column(
            "SELECT query_to_xml(format('SELECT x.ctid, x.xmin, x.* FROM %s x ORDER BY x.ctid', r), true, false, '')
               FROM unnest(ARRAY['shop.tenants', 'shop.customers', 'shop.orders', 'shop.comments', 'shop.events_2026', 'shop.prices']) AS r",
        )
        .await
}

async fn nothing_stays(db: Database) {
    clean(&db);
    let tenant = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    db.admin(&format!(
        "SET bulkhead.tenant_context = '{tenant}';
         INSERT INTO shop.tenants VALUES ('{tenant}', 'A');
         INSERT INTO shop.customers (tenant_id, email) VALUES ('{tenant}', 'a@example.org');
         INSERT INTO shop.orders (tenant_id, customer_id) VALUES ('{tenant}', 1);
         INSERT INTO shop.comments (tenant_id, order_id) SELECT '{tenant}', id FROM shop.orders"
    ))
    .unwrap();
    let admin = db.connect("postgres").await;
    admin.run(&format!("SET bulkhead.tenant_context = '{tenant}'")).await;
    let before = contents(&admin).await;
    assert!(before[0].contains("A"), "{before:?}");
    admin.one("SELECT count(*) FROM bulkhead.leak_test()").await;
    assert_eq!(contents(&admin).await, before);
    assert_eq!(
        admin.one("SELECT current_user || current_setting('search_path') || current_setting('lock_timeout')").await,
        "postgres\"$user\", public0"
    );
    assert_eq!(admin.one("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation >= 16384").await, "0");
}

async fn the_tenant_of_the_transaction_stays(db: Database) {
    clean(&db);
    let admin = db.connect("postgres").await;
    admin.run("BEGIN; SET LOCAL bulkhead.tenant_context = 'h2o'").await;
    admin.one("SELECT count(*) FROM bulkhead.leak_test('shop.orders')").await;
    assert_eq!(admin.one("SELECT bulkhead.tenant_id_text()").await, "h2o");
    admin.refused("SET LOCAL bulkhead.tenant_context = 'other'").await.state("42501");
    admin.run("ROLLBACK").await;
    // And where nothing was set, the transaction is as free as before.
    admin.run("BEGIN").await;
    admin.one("SELECT count(*) FROM bulkhead.leak_test('shop.orders')").await;
    admin.run("SET LOCAL bulkhead.tenant_context = 'other'; COMMIT").await;
    admin.run("SET bulkhead.tenant_context = 'kept'").await;
    admin.one("SELECT count(*) FROM bulkhead.leak_test('shop.orders')").await;
    assert_eq!(admin.one("SHOW bulkhead.tenant_context").await, "kept");
}

async fn every_kind_of_tenant_column_is_tried(db: Database) {
    let owner = db.connect("owner").await;
    owner.run("CREATE DOMAIN org AS varchar(12); CREATE TYPE mood AS ENUM ('fine')").await;
    for (name, kind) in
        [("a", "uuid"), ("b", "text"), ("c", "varchar(20)"), ("d", "bigint"), ("e", "integer"), ("f", "org")]
    {
        owner
            .run(&format!(
                "CREATE TABLE {name} (tenant_id {kind} NOT NULL, m mood NOT NULL, j jsonb NOT NULL, t time NOT NULL, n numeric NOT NULL,
                   v varchar(3) NOT NULL, l text[] NOT NULL, r int4range NOT NULL, k boolean NOT NULL, s smallint NOT NULL, u uuid NOT NULL);
                 SELECT bulkhead.protect('{name}')"
            ))
            .await;
    }
    let admin = db.connect("postgres").await;
    let found = admin
        .rows(
            "SELECT relation, count(*) FILTER (WHERE result = 'held') > 20, count(*) FILTER (WHERE result <> 'held')
                 FROM bulkhead.leak_test() WHERE role = 'app' GROUP BY relation ORDER BY relation::text",
        )
        .await;
    assert_eq!(found, ["a", "b", "c", "d", "e", "f"].map(|table| [table, "t", "0"]));
}

async fn only_a_superuser_may(db: Database) {
    for role in ["app", "owner", "svc"] {
        db.connect(role).await.refused("SELECT bulkhead.leak_test()").await.state("42501");
    }
    db.admin("GRANT EXECUTE ON FUNCTION bulkhead.leak_test TO app").unwrap();
    let refused = db.connect("app").await.refused("SELECT bulkhead.leak_test()").await;
    refused.state("42501").message("must be superuser to run bulkhead.leak_test()");
}

async fn an_unprotected_table_is_refused(db: Database) {
    clean(&db);
    let admin = db.connect("postgres").await;
    for table in ["shop.prices", "pg_class"] {
        let refused = admin.refused(&format!("SELECT bulkhead.leak_test('{table}')")).await;
        refused.state("55000").message_contains("is not a protected table");
    }
    let tried = admin.column("SELECT DISTINCT relation::text FROM bulkhead.leak_test('shop.events_2026')").await;
    assert_eq!(tried, ["shop.events_2026"]);
}

/// A table that takes no row made up by somebody who does not know it, with rows of as many tenants.
async fn fussy(db: &Database, tenants: usize) -> Client {
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE fussy (tenant_id text, code text NOT NULL CHECK (code LIKE 'ok%'))").await;
    for n in 0..tenants {
        owner.run(&format!("INSERT INTO fussy VALUES ('t{n}', 'ok')")).await;
    }
    owner.run("SELECT bulkhead.protect('fussy')").await;
    db.connect("postgres").await
}

async fn tenants_that_are_there_do_where_probes_cannot_be_made(db: crate::harness::WithoutPreload) {
    let admin = fussy(&db, 2).await;
    let found = "SELECT result FROM bulkhead.leak_test('fussy') WHERE role = 'app' AND attempt = ";
    assert_eq!(admin.column(&format!("{found} 'select where'")).await, ["held"]);
    let why = admin.one("SELECT detail FROM bulkhead.leak_test('fussy') WHERE attempt = 'insert'").await;
    assert!(why.contains("violates check constraint"), "{why}");
    admin.run("ALTER TABLE fussy DISABLE ROW LEVEL SECURITY").await;
    for attempt in ["select where", "delete where", "move"] {
        assert_eq!(admin.column(&format!("{found} '{attempt}'")).await, ["leaked"], "{attempt}");
    }
}

async fn what_could_not_be_tried_is_said(db: Database) {
    let admin = fussy(&db, 1).await;
    let found = admin.rows("SELECT attempt, result, detail FROM bulkhead.leak_test('fussy')").await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0][0].as_str(), found[0][1].as_str()), ("probe rows", "skipped"));
    assert!(found[0][2].contains("violates check constraint"), "{found:?}");
}

/// A function that takes a minute to read orders, for app only.
fn slow(db: &Database) {
    clean(db);
    db.admin(
        "CREATE FUNCTION shop.slow() RETURNS bigint STABLE SECURITY DEFINER SET search_path = shop, pg_temp LANGUAGE sql
           AS 'SELECT count(*) FROM orders, pg_sleep(60)';
         REVOKE EXECUTE ON FUNCTION shop.slow() FROM PUBLIC;
         ALTER FUNCTION shop.slow() OWNER TO shop_owner;
         GRANT EXECUTE ON FUNCTION shop.slow() TO app",
    )
    .unwrap();
}

async fn a_slow_attempt_is_given_up(db: Database) {
    slow(&db);
    let admin = db.connect("postgres").await;
    let begin = Instant::now();
    let found = admin
        .rows("SELECT result, detail FROM bulkhead.leak_test('shop.orders') WHERE attempt = 'function shop.slow()' AND role = 'app'")
        .await;
    assert_eq!(found, [["skipped", "it took longer than 5 s"]]);
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    // The session goes on.
    assert_eq!(admin.one("SELECT count(*) > 0 FROM bulkhead.leak_test('shop.comments')").await, "t");
}

async fn a_cancelled_call_ends(db: Database) {
    slow(&db);
    let admin = db.connect("postgres").await;
    admin.run("SET statement_timeout = '2s'").await;
    let begin = Instant::now();
    // Long enough to be inside an attempt, over and over.
    admin.refused("SELECT count(*) FROM generate_series(1, 1000) CROSS JOIN LATERAL (SELECT count(*) FROM bulkhead.leak_test('shop.orders')) x").await.state("57014");
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    assert_eq!(admin.one("SELECT current_user").await, "postgres");
}

async fn a_trigger_gets_no_superusers_rights(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE trap (tenant_id text, who text);
             CREATE FUNCTION spring() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR session_user <> 'postgres' THEN
                 RAISE LOG 'the trap has closed';
               END IF;
               BEGIN EXECUTE 'RESET ROLE'; RAISE LOG 'the role was reset'; EXCEPTION WHEN insufficient_privilege THEN NULL; END;
               RETURN NEW; END $$;
             CREATE TRIGGER spring BEFORE INSERT OR UPDATE OR DELETE ON trap FOR EACH ROW EXECUTE FUNCTION spring();
             SELECT bulkhead.protect('trap')",
        )
        .await;
    let admin = db.connect("postgres").await;
    let held =
        admin.one("SELECT count(*) FROM bulkhead.leak_test('trap') WHERE role = 'app' AND result = 'held'").await;
    assert!(held.parse::<usize>().unwrap() > 20, "{held}");
    let log = db.log();
    assert!(!log.contains("the trap has closed") && !log.contains("the role was reset"), "{log}");
}

/// Says in the log when it runs with a superuser's rights.
const SPRING: &str = "CREATE FUNCTION spring() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
       RAISE LOG 'the trap was stepped on';
       IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN RAISE LOG 'the trap has closed'; END IF;
       RETURN true; END $$;";

/// What a superuser's attempts say, and the log.
async fn sprung(db: &Database) -> (Vec<String>, String) {
    let admin = db.connect("postgres").await;
    let results = "SELECT DISTINCT result FROM bulkhead.leak_test('trap') WHERE role = 'postgres' ORDER BY 1";
    let results = admin.column(results).await;
    let log = db.log();
    assert!(log.contains("the trap was stepped on"), "{log}");
    (results, log)
}

/// No operator of pg_catalog takes two varchar as they are, so that one in the search_path would be preferred.
async fn an_operator_gets_no_superusers_rights(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "{SPRING}
             CREATE FUNCTION same(varchar, varchar) RETURNS boolean LANGUAGE sql AS 'SELECT spring() AND $1::text = $2::text';
             CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = same);
             CREATE TABLE trap (tenant_id varchar);
             SELECT bulkhead.protect('trap')"
        ))
        .await;
    let (results, log) = sprung(&db).await;
    assert_eq!(results, ["held", "skipped"]);
    assert!(!log.contains("LOG:  the trap has closed"), "{log}");
}

/// The planner reads the predicates of all indexes, and evaluates what is constant in them.
async fn what_the_planner_calls_gets_no_superusers_rights(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "{SPRING}
             CREATE TABLE trap (tenant_id text, id int);
             CREATE INDEX ON trap (id) WHERE spring();
             SELECT bulkhead.protect('trap')"
        ))
        .await;
    let (results, log) = sprung(&db).await;
    assert_eq!(results, ["skipped"]);
    assert!(!log.contains("LOG:  the trap has closed"), "{log}");
    let admin = db.connect("postgres").await;
    let open = "SELECT count(*) FROM bulkhead.leak_test('trap') WHERE role = 'svc' AND result <> 'held'";
    assert_eq!(admin.one(open).await, "0");
}
