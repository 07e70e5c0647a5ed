//! What a role that migrates needs a superuser for, and what not.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::with_a_plain_role;
use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_plain_role_finds_the_extension_and_cannot_make_it,
        an_owner_may_do_the_rest,
        protect_locks_only_its_table
    ]
}

async fn a_plain_role_finds_the_extension_and_cannot_make_it(_: Nowhere) {
    let cluster = with_a_plain_role();
    let shop = Client::connect(&cluster.config("migrator", "shop")).await.unwrap();
    assert_eq!(shop.one("SELECT count(*) FROM pg_extension WHERE extname = 'bulkhead'").await, "1");
    shop.run("CREATE EXTENSION IF NOT EXISTS bulkhead").await;
    assert_eq!(shop.notices(), ["NOTICE: extension \"bulkhead\" already exists, skipping"]);
    // The functions of the one that came by the template are whole.
    shop.run("CREATE TABLE t (tenant_id text); SELECT bulkhead.protect('t')").await;
    shop.refused("SELECT FROM t").await.state("42501").message_contains("no tenant context");

    shop.run("CREATE DATABASE bare TEMPLATE template0").await;
    let bare = Client::connect(&cluster.config("migrator", "bare")).await.unwrap();
    bare.refused("CREATE EXTENSION IF NOT EXISTS bulkhead").await.state("42501").message_contains("permission denied");
    cluster.admin("bare", "CREATE EXTENSION bulkhead").unwrap();
    bare.run("CREATE EXTENSION IF NOT EXISTS bulkhead").await;
    bare.refused("DROP EXTENSION bulkhead").await.state("42501");
    bare.refused("ALTER EXTENSION bulkhead UPDATE").await.state("42501");
}

/// The table of docs/migrations.md.
async fn an_owner_may_do_the_rest(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE price (id int PRIMARY KEY);
             CREATE TABLE watched (id int PRIMARY KEY, tenant_id text);
             CREATE TABLE stock (tenant_id text, sku text, pieces int NOT NULL, PRIMARY KEY (tenant_id, sku));
             CREATE TABLE lead (tenant_id text, id int, document jsonb, score numeric, status text, PRIMARY KEY (tenant_id, id));
             CREATE TABLE event (at timestamptz, tenant_id text NOT NULL) PARTITION BY RANGE (at);
             CREATE TABLE call (at timestamptz NOT NULL)",
        )
        .await;
    for may in [
        "bulkhead.protect_plan('stock')",
        "bulkhead.protect('stock')",
        "bulkhead.protect('lead')",
        "bulkhead.protect('event')",
        "bulkhead.share('price')",
        "bulkhead.observe('watched')",
        "bulkhead.lint()",
        "bulkhead.register_inventory('stock', item_column => 'sku', quantity_column => 'pieces')",
        "bulkhead.manage_partitions('event', every => '1 day', retain => '90 days')",
        "bulkhead.unmanage_partitions('event')",
        "bulkhead.partition_plan('call', 'at', '1 day')",
    ] {
        owner.run(&format!("SELECT count(*) FROM (SELECT {may}) AS done")).await;
    }
    let denied = [
        "SELECT bulkhead.begin_bypass('why')",
        "SELECT bulkhead.put_rule_set('r', '[]')",
        "SELECT bulkhead.put_shared_rule_set('r', '[]')",
        "SELECT bulkhead.activate_rule_set('r', 1)",
        "SELECT bulkhead.leak_test()",
        "CALL bulkhead.maintain()",
    ];
    for statement in denied {
        owner.refused(statement).await.state("42501").message_contains("permission denied");
    }
    for function in ["begin_bypass", "put_rule_set", "put_shared_rule_set", "activate_rule_set"] {
        db.admin(&format!("GRANT EXECUTE ON FUNCTION bulkhead.{function} TO owner")).unwrap();
    }
    let rules = r#"[{"id": "any", "when": true, "score": 1}]"#;
    owner.run(&format!("SELECT bulkhead.put_shared_rule_set('r', '{rules}')")).await;
    owner.run("SELECT bulkhead.attach_scoring('lead', 'r')").await;
    owner
        .run(&format!("BEGIN; SELECT bulkhead.set_tenant('h2o'); SELECT bulkhead.put_rule_set('r', '{rules}'); COMMIT"))
        .await;
    owner.refused("SELECT bulkhead.unprotect('stock')").await.state("55000");
    owner.run("BEGIN; SELECT bulkhead.begin_bypass('test'); SELECT bulkhead.unprotect('stock'); COMMIT").await;
}

/// The locks on tables of the application that the transaction ends with.
const LOCKS: &str = "SELECT relation::regclass, mode FROM pg_locks
    WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation::regclass::text IN ('parent', 't', 'child')
    AND mode NOT IN ('AccessShareLock', 'ShareLock') ORDER BY mode";

async fn protect_locks_only_its_table(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE parent (id int PRIMARY KEY);
             CREATE TABLE t (id int PRIMARY KEY REFERENCES parent, tenant_id text);
             CREATE TABLE child (id int REFERENCES t);
             CREATE INDEX ON t (tenant_id);",
        )
        .await;
    owner.run("BEGIN; SELECT bulkhead.protect('t')").await;
    assert_eq!(owner.rows(LOCKS).await, [["t", "AccessExclusiveLock"]]);
    owner.run("COMMIT").await;
    owner.run("BEGIN; SELECT bulkhead.protect_plan('child', 'id')").await;
    assert_eq!(owner.rows(LOCKS).await, Vec::<Vec<String>>::new());
    owner.run("COMMIT").await;
}
