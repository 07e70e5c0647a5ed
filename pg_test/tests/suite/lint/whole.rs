//! lint() as a whole: a clean schema, every role, hostile surroundings, its page.

use std::collections::BTreeSet;

use libtest_mimic::Trial;
use pg_test::{Client, Cluster, Database, Preload};

use super::{catalogue, clean, flaws};
use crate::harness::{Nowhere, Place, SessionPreload, WithoutPreload};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_clean_schema_has_no_error_and_no_warning => 240,
        all_remedies_can_be_run_at_once,
        every_role_gets_the_same_answer,
        what_the_caller_made_stands_in_for_nothing,
        the_load_level_is_judged,
        without_preload_is_an_error,
        a_flaw_of_the_server_is_told,
        a_session_tenant_is_noticed,
        a_pooler_is_known_by_its_name,
        another_version_is_noticed,
        the_seal_is_looked_at => 240,
        other_encodings_pass => 240,
        the_page_has_every_rule,
    ]
}

const GRAVE: &str = "SELECT level, rule, object, detail FROM bulkhead.lint() WHERE level <> 'info'";

async fn a_clean_schema_has_no_error_and_no_warning(_: Nowhere) {
    // A cluster of its own: other tests' roles are nobody's fault.
    let cluster = Cluster::builder().preload(Preload::Shared).start().unwrap();
    let db = cluster.database("clean").unwrap();
    clean(&db);
    for role in ["app", "owner", "svc", "postgres"] {
        let findings = db.connect(role).await.rows(GRAVE).await;
        assert!(findings.is_empty(), "{role}: {findings:#?}");
    }
}

/// Spoils the clean schema in ways that have remedies.
async fn spoiled(db: &Database) -> Client {
    clean(db);
    db.admin(
        "ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY;
         DROP POLICY bulkhead_floor ON shop.comments;
         ALTER TABLE shop.comments ALTER tenant_id DROP NOT NULL;
         DROP INDEX shop.comments_tenant_id_order_id_idx;
         CREATE TABLE shop.notes (id bigserial PRIMARY KEY, tenant_id uuid, comment bigint REFERENCES shop.comments);
         GRANT TRUNCATE ON shop.orders TO app;
         CREATE POLICY evil ON shop.orders USING (true);
         CREATE VIEW shop.all_orders AS SELECT * FROM shop.orders",
    )
    .unwrap();
    db.connect("postgres").await
}

const OF_SHOP: &str =
    "SELECT rule, object FROM bulkhead.lint() WHERE remedy IS NOT NULL AND object LIKE '%shop.%' AND level <> 'info'";

async fn all_remedies_can_be_run_at_once(db: Database) {
    let admin = spoiled(&db).await;
    assert_eq!(admin.rows(OF_SHOP).await.len(), 9);
    // What one remedy brings to light, as the foreign key of a table that is protected now, the next round finds.
    for _ in 0..2 {
        let run = db.psql("postgres", &format!("{} \\gexec", OF_SHOP.replace("rule, object", "remedy"))).unwrap();
        assert_eq!(String::from_utf8_lossy(&run.stderr), "");
    }
    let left = admin.rows(OF_SHOP).await;
    assert!(left.is_empty(), "{left:?}");
}

async fn every_role_gets_the_same_answer(db: Database) {
    spoiled(&db).await;
    let mut answers = Vec::new();
    for role in ["app", "owner", "svc", "postgres"] {
        let client = db.connect(role).await;
        answers.push(client.rows("SELECT rule, object, remedy FROM bulkhead.lint() WHERE rule <> 'not-examined' AND object LIKE '%shop.%'").await);
    }
    assert!(answers[0].len() > 9);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    // What a role may not see, it is told.
    let unseen = "SELECT count(*) FROM bulkhead.lint() WHERE rule = 'not-examined' AND object = 'settings'";
    assert_eq!(db.connect("app").await.one(unseen).await, "1");
    assert_eq!(db.connect("postgres").await.one(unseen).await, "0");
}

async fn what_the_caller_made_stands_in_for_nothing(db: Database) {
    spoiled(&db).await;
    let owner = db.connect("owner").await;
    let before = owner.rows(OF_SHOP).await;
    owner
        .run(
            "CREATE FUNCTION public.never(oid, oid) RETURNS boolean LANGUAGE sql AS 'SELECT 1/0 = 1';
             CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = public.never);
             CREATE TEMP TABLE pg_class AS SELECT 1 AS x;
             CREATE TEMP TABLE relation AS SELECT 1 AS x;
             SET search_path = public, pg_temp, pg_catalog",
        )
        .await;
    assert_eq!(owner.rows(OF_SHOP).await, before);
    // Nothing of it was left behind.
    assert_eq!(owner.one("SHOW search_path").await, "public, pg_temp, pg_catalog");
}

async fn level_of(client: &Client, rule: &str) -> Vec<String> {
    client.column(&format!("SELECT level FROM bulkhead.lint() WHERE rule = '{rule}'")).await
}

async fn the_load_level_is_judged(db: Database) {
    assert!(level_of(&db.connect("app").await, "not-preloaded").await.is_empty());
    let session = SessionPreload::make("lint").unwrap();
    assert_eq!(level_of(&session.connect("app").await, "not-preloaded").await, ["warning"]);
}

async fn a_flaw_of_the_server_is_told(db: Database) {
    let app = db.connect("app").await;
    let version: i32 = app.one("SHOW server_version_num").await.parse().unwrap();
    // Which versions have which is tested beside the list.
    let flawed = !flaws::of(version).0.is_empty();
    assert_eq!(level_of(&app, "server-flaw").await, if flawed { vec!["warning"] } else { vec![] });
}

async fn without_preload_is_an_error(db: WithoutPreload) {
    assert_eq!(level_of(&db.connect("app").await, "not-preloaded").await, ["error"]);
}

async fn a_session_tenant_is_noticed(db: Database) {
    let app = db.connect("app").await;
    let rule = "session-tenant";
    app.run("BEGIN; SET LOCAL bulkhead.tenant_context = 'h2o'").await;
    assert!(level_of(&app, rule).await.is_empty(), "a local tenant");
    app.run("COMMIT; SET bulkhead.tenant_context = 'h2o'").await;
    assert_eq!(level_of(&app, rule).await, ["warning"]);
    let remedy = app.one(&format!("SELECT remedy FROM bulkhead.lint() WHERE rule = '{rule}'")).await;
    app.run(&remedy).await;
    assert!(level_of(&app, rule).await.is_empty());
}

async fn a_pooler_is_known_by_its_name(db: Database) {
    let app = db.connect("app").await;
    let known = "SELECT level, object FROM bulkhead.lint() WHERE rule = 'pooler'";
    assert!(app.rows(known).await.is_empty());
    app.run("SET application_name = 'shop - 10.0.0.7:6432 (PgBouncer)'").await;
    assert_eq!(app.rows(known).await, [["info", "pgbouncer"]]);
}

async fn another_version_is_noticed(db: Database) {
    let app = db.connect("app").await;
    assert!(level_of(&app, "library-version").await.is_empty());
    db.admin("UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'bulkhead'").unwrap();
    assert_eq!(level_of(&app, "library-version").await, ["error"]);
}

async fn the_seal_is_looked_at(db: Database) {
    let app = db.connect("app").await;
    assert!(level_of(&app, "seal-off").await.is_empty());
    let cluster = Cluster::builder().preload(Preload::Shared).setting("bulkhead.seal", "off").start().unwrap();
    let app = cluster.database("unsealed").unwrap().connect("app").await;
    // A library without a seal has no such setting, and nothing to switch off.
    let known = app.one("SELECT count(*) FROM pg_settings WHERE name = 'bulkhead.seal'").await;
    assert_eq!(level_of(&app, "seal-off").await.len().to_string(), known);
}

async fn other_encodings_pass(db: Database) {
    let name = format!("{}_latin1", db.name);
    let cluster = &db.cluster;
    let create = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C'");
    cluster.admin("postgres", &create).unwrap();
    let script = "CREATE EXTENSION bulkhead; CREATE TABLE plain (tenant_id text);
                  SELECT 'CREATE TABLE ' || quote_ident(convert_from('\\xe9', 'LATIN1')) || ' (tenant_id text)' \\gexec";
    cluster.admin(&name, script).unwrap();
    let found = "SELECT object, remedy IS NULL FROM bulkhead.lint() WHERE rule = 'unprotected-table'";
    let found = cluster.admin(&name, found).unwrap();
    assert_eq!(found.lines().collect::<Vec<_>>(), ["public.\"?\"|t", "public.plain|f"]);
    cluster.admin("postgres", &format!("DROP DATABASE {name}")).unwrap();
}

async fn the_page_has_every_rule(_: Nowhere) {
    let page = include_str!("../../../../docs/lint.md");
    let mut sections = BTreeSet::new();
    for name in page.lines().filter_map(|line| line.strip_prefix("### ")) {
        assert!(sections.insert(name), "{name} has two sections");
    }
    assert_eq!(sections, catalogue::names().collect::<BTreeSet<_>>());
}
