//! The library and the SQL objects are of different versions: nothing of a tenant's is read or written until they belong together again.
//!
//! `next` is a version whose objects are those of today, so that what is refused is refused for its name.
//!
//! | file | what it is for |
//! |---|---|
//! | functions.rs | every function, by its signature: refused, or harmless |
//! | standby.rs | a standby whose library is of another version than what it replays |
//! | loading.rs | a library that sessions load, and one that their first call loads |

pub mod functions;
mod loading;
mod standby;

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use crate::fixture::put_script;
use crate::group::fixture::until;
use crate::harness::{Nowhere, WithWorkers};

pub fn tests() -> Vec<Trial> {
    let files = [own(), functions::tests(), loading::tests(), standby::tests()];
    files.into_iter().flatten().collect()
}

fn own() -> Vec<Trial> {
    crate::tests![
        statements_on_protected_tables_are_refused,
        what_is_not_protected_goes_on,
        an_open_session_hears_of_it,
        an_update_through_several_versions_works,
        a_rolled_back_update_changes_nothing,
        ddl_that_the_registry_would_follow_is_refused,
        the_extension_can_be_dropped,
        a_worker_leaves_the_queue_alone,
        who_is_asked_says_so,
        with_the_seal_off_a_dba_reads => 240,
    ]
}

const MESSAGE: &str = "bulkhead's library is of version 0.1.0, its SQL objects of version next";

/// Scripts that change the version's name and nothing else, there and back.
pub fn scripts(db: &Database) {
    for (from, to) in [("0.1.0", "next"), ("next", "later"), ("later", "0.1.0")] {
        put_script(db, &format!("bulkhead--{from}--{to}.sql"), "UPDATE bulkhead.protection SET relation = relation;\n");
    }
}

fn becomes(db: &Database, version: &str) {
    db.admin(&format!("ALTER EXTENSION bulkhead UPDATE TO '{version}'")).unwrap();
}

/// A protected table and what each room needs, and the version `next`.
async fn world(db: &Database) {
    scripts(db);
    every_room(db).await;
    becomes(db, "next");
}

/// A protected table and what each room needs: [`functions::CALLS`] would work there.
pub async fn every_room(db: &Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE note (id serial PRIMARY KEY, tenant_id text, body text); SELECT bulkhead.protect('note');
             CREATE TABLE plain (id int); INSERT INTO plain VALUES (1); CREATE TABLE moment (at timestamptz NOT NULL);
             CREATE TABLE stock (id text PRIMARY KEY, quantity bigint); INSERT INTO stock VALUES ('a', 5);
             SELECT bulkhead.register_inventory('stock');
             CREATE TABLE lead (id serial PRIMARY KEY, tenant_id text, document jsonb, score numeric, status text NOT NULL DEFAULT 'pending_score');
             SELECT bulkhead.protect('lead'); SELECT bulkhead.attach_scoring('lead', 'lead');
             CREATE TABLE event (tenant_id text, at timestamptz NOT NULL) PARTITION BY RANGE (at);
             SELECT bulkhead.manage_partitions('event', '1 day', '7 days');
             SET bulkhead.tenant_context = 'shop-1'; INSERT INTO note (body) VALUES ('one');
             INSERT INTO lead (document) VALUES ('{}');",
        )
        .await;
    db.admin("CALL bulkhead.maintain(); SELECT bulkhead.put_shared_rule_set('lead', '[]')").unwrap();
}

async fn as_shop(db: &Database, role: &str) -> Client {
    let client = db.connect(role).await;
    client.run("SET bulkhead.tenant_context = 'shop-1'").await;
    client
}

async fn refused(client: &Client, sql: &str) {
    client.refused(sql).await.state("55000").message(MESSAGE).hint_contains("ALTER EXTENSION bulkhead UPDATE");
}

async fn statements_on_protected_tables_are_refused(db: Database) {
    world(&db).await;
    for role in ["app", "svc", "owner", "postgres"] {
        let client = as_shop(&db, role).await;
        for sql in [
            "SELECT * FROM note",
            "SELECT (SELECT count(*) FROM note) FROM plain",
            "INSERT INTO note (body) VALUES ('two')",
            "UPDATE note SET body = 'two'",
            "DELETE FROM note",
            "WITH n AS (SELECT * FROM note) SELECT 1 FROM n",
            "COPY (SELECT * FROM note) TO STDOUT",
            "PREPARE p AS SELECT * FROM note; EXECUTE p",
        ] {
            refused(&client, sql).await;
        }
    }
    // A bypass lifts the filter, not this.
    let boss = db.past_the_seal("postgres").await;
    refused(&boss, "SELECT * FROM note").await;
    refused(&boss, "COPY note TO STDOUT").await;
    becomes(&db, "0.1.0");
    assert_eq!(as_shop(&db, "app").await.one("SELECT body FROM note").await, "one");
}

async fn what_is_not_protected_goes_on(db: Database) {
    world(&db).await;
    let app = as_shop(&db, "app").await;
    assert_eq!(app.one("SELECT id FROM plain").await, "1");
    assert_eq!(app.one("SELECT bulkhead.tenant_id_text()").await, "shop-1");
    app.run("RESET bulkhead.tenant_context; BEGIN; SELECT bulkhead.set_tenant('shop-2')").await;
    assert_eq!(app.one("SELECT bulkhead.require_tenant()").await, "shop-2");
    db.connect("owner")
        .await
        .run("CREATE TABLE another (id int); ALTER TABLE plain ADD more int; DROP TABLE plain")
        .await;
}

async fn an_open_session_hears_of_it(WithWorkers(db): WithWorkers) {
    world(&db).await;
    becomes(&db, "0.1.0");
    let app = as_shop(&db, "app").await;
    app.run("PREPARE mine AS SELECT body FROM note").await;
    for _ in 0..7 {
        assert_eq!(app.one("EXECUTE mine").await, "one");
    }
    assert_eq!(app.one("SELECT state FROM bulkhead.idempotency_claim('k')").await, "started");
    assert_eq!(app.one("SELECT verdict FROM bulkhead.decrement_now('stock', 'o', 'a', 1::bigint)").await, "accepted");
    becomes(&db, "next");
    refused(&app, "EXECUTE mine").await;
    refused(&app, "SELECT state FROM bulkhead.idempotency_claim('k')").await;
    refused(&app, "SELECT verdict FROM bulkhead.decrement_now('stock', 'o', 'a', 1::bigint)").await;
    becomes(&db, "0.1.0");
    assert_eq!(app.one("EXECUTE mine").await, "one");
    assert_eq!(app.one("SELECT state FROM bulkhead.idempotency_claim('k')").await, "in_progress");
}

/// The scripts in between run under a library that none of the versions on the way is of.
async fn an_update_through_several_versions_works(db: Database) {
    world(&db).await;
    becomes(&db, "later");
    becomes(&db, "0.1.0");
    becomes(&db, "later");
    assert_eq!(db.admin("SELECT extversion FROM pg_extension WHERE extname = 'bulkhead'").unwrap(), "later");
    becomes(&db, "0.1.0");
    assert_eq!(as_shop(&db, "app").await.one("SELECT body FROM note").await, "one");
}

async fn a_rolled_back_update_changes_nothing(db: Database) {
    world(&db).await;
    becomes(&db, "0.1.0");
    let boss = as_shop(&db, "postgres").await;
    let app = as_shop(&db, "app").await;
    boss.run("BEGIN; SAVEPOINT before; ALTER EXTENSION bulkhead UPDATE TO 'next'").await;
    refused(&boss, "SELECT body FROM note").await;
    boss.run("ROLLBACK TO before").await;
    assert_eq!(boss.one("SELECT body FROM note").await, "one");
    boss.run("ROLLBACK").await;
    assert_eq!(boss.one("SELECT body FROM note").await, "one");
    assert_eq!(app.one("SELECT body FROM note").await, "one");
}

async fn ddl_that_the_registry_would_follow_is_refused(db: Database) {
    world(&db).await;
    let owner = db.connect("owner").await;
    refused(&owner, "ALTER TABLE note RENAME COLUMN tenant_id TO shop").await;
    refused(&owner, "CREATE TABLE child () INHERITS (note)").await;
}

async fn the_extension_can_be_dropped(db: Database) {
    world(&db).await;
    let boss = db.connect("postgres").await;
    boss.refused("DROP EXTENSION bulkhead").await.state("2BP01");
    boss.run("DROP EXTENSION bulkhead CASCADE").await;
    assert_eq!(boss.one("SELECT body FROM note").await, "one");
}

async fn a_worker_leaves_the_queue_alone(WithWorkers(db): WithWorkers) {
    world(&db).await;
    becomes(&db, "0.1.0");
    let boss = as_shop(&db, "postgres").await;
    let quantity = async || db.admin("SELECT quantity FROM stock").unwrap();
    // The order is queued under the one version, and its transaction ends under the other.
    boss.run("BEGIN; SELECT bulkhead.enqueue_decrement('stock', 'first', 'a', 1)").await;
    becomes(&db, "next");
    boss.run("COMMIT").await;
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    assert_eq!(quantity().await, "5");
    becomes(&db, "0.1.0");
    // Whoever uses the inventory next rings for what waits.
    boss.run("SELECT bulkhead.enqueue_decrement('stock', 'second', 'a', 1)").await;
    until("the queue is drained", async || quantity().await == "3").await;
}

async fn who_is_asked_says_so(db: Database) {
    world(&db).await;
    let boss = as_shop(&db, "postgres").await;
    let version = boss.rows("SELECT ok, detail FROM bulkhead.health() WHERE check_name = 'version'").await.concat();
    assert!(version[0] == "f" && version[1].contains("the SQL objects are next"), "{version:?}");
    let found = boss.one("SELECT detail FROM bulkhead.lint() WHERE detail LIKE '%objects are of version%'").await;
    assert!(found.contains("next"), "{found}");
    let told = boss.column("SELECT concat(value, ' ', detail) FROM bulkhead.status()").await.join("\n");
    assert!(told.contains("next"), "{told}");
    assert!(boss.column("SELECT name FROM bulkhead.metrics").await.len() > 10);
}

async fn with_the_seal_off_a_dba_reads(_: Nowhere) {
    let cluster = pg_test::Cluster::builder().setting("bulkhead.seal", "off").start().unwrap();
    let there = cluster.database("off").unwrap();
    world(&there).await;
    let boss = there.connect("postgres").await;
    assert_eq!(boss.one("SELECT body FROM note").await, "one");
    refused(&boss, "SELECT state FROM bulkhead.idempotency_claim('k')").await;
    cluster.end();
}
