//! A hot standby: protected tables are as protected there, and every function that only reads answers.

use libtest_mimic::Trial;
use pg_test::Cluster;

use crate::harness::Nowhere;
use crate::versions::{every_room, functions};

pub fn tests() -> Vec<Trial> {
    crate::tests![protected_reads_and_functions_that_only_read => 240, every_function_answers_or_is_read_only => 240]
}

/// The same server, started again as one that replays a log: that of nobody.
fn becomes_a_standby(cluster: &Cluster) {
    cluster.stop().unwrap();
    std::fs::write(cluster.data_dir().join("standby.signal"), "").unwrap();
    cluster.start().unwrap();
}

async fn protected_reads_and_functions_that_only_read(_: Nowhere) {
    let cluster = Cluster::builder().start().unwrap();
    let db = cluster.database("standby").unwrap();
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE notes (id int, tenant_id text NOT NULL, note text, at timestamptz NOT NULL DEFAULT now());
             INSERT INTO notes VALUES (1, 'a', 'of a'), (2, 'b', 'of b'), (3, 'b', 'of b, too');
             CREATE TABLE bare (id int, tenant_id text);
             SELECT bulkhead.protect('notes')",
        )
        .await;
    drop(owner);
    becomes_a_standby(&cluster);
    for role in ["app", "svc", "owner", "postgres"] {
        let client = db.connect(role).await;
        assert_eq!(client.one("SELECT pg_is_in_recovery()").await, "t");
        client.refused("SELECT * FROM notes").await.state("42501").message_contains("no tenant context");
        client.run("SET bulkhead.tenant_context = 'b'").await;
        assert_eq!(client.column("SELECT note FROM notes ORDER BY id").await, ["of b", "of b, too"], "{role}");
        client.run("BEGIN; SET LOCAL bulkhead.tenant_context = 'a'").await;
        assert_eq!(client.one("SELECT count(*) FROM notes WHERE note LIKE 'of%'").await, "1", "{role}");
        client.refused("SET LOCAL bulkhead.tenant_context = 'b'").await.state("42501");
        client.run("ROLLBACK").await;
        assert_eq!(client.one("SELECT bulkhead.tenant_id_text() || bulkhead.require_tenant()").await, "bb");
        for call in [
            "bulkhead.status()",
            "bulkhead.lint()",
            "bulkhead.protected_tables",
            "bulkhead.managed_partitions",
            "bulkhead.rule_sets",
            "bulkhead.scoring_progress",
            "bulkhead.naked_statements",
            "bulkhead.claims()",
            "bulkhead.user_id()",
            "bulkhead.has_role('x')",
            "bulkhead.has_permission('x')",
            "bulkhead.request_fingerprint('POST', '/x', '{}')",
        ] {
            client.run(&format!("SELECT * FROM {call}")).await;
        }
        if role == "postgres" {
            assert_eq!(client.one("SELECT count(*) FROM bulkhead.health()").await, "15");
            client.run("SELECT * FROM bulkhead.metrics").await;
        }
        // Nobody can protect there, but what it would take can be asked.
        if role == "owner" {
            assert!(client.one("SELECT count(*) > 3 FROM bulkhead.protect_plan('bare')").await == "t");
            client.run("SELECT * FROM bulkhead.partition_plan('notes', 'at', '1 day')").await;
        }
    }
}

/// What answers on a standby, of the functions that [`functions::CALLS`] calls: it only reads.
const READ: &[&str] = &[
    "all_poisoned_orders",
    // Where there are partitions for now it has nothing to do.
    "ensure_partitions",
    "leak_test",
    "order_verdicts",
    "partition_plan",
    "poisoned_orders",
    "protect_plan",
    "score",
    "score_explain",
    "score_row",
    "tenant_rule_sets",
];

/// A call of each of those that it leaves out, whatever the versions are.
const ANSWERED: &[&str] = &[
    "SELECT bulkhead.begin_bypass('why')",
    "SELECT * FROM bulkhead.claims()",
    "SELECT bulkhead.has_permission('x')",
    "SELECT bulkhead.has_role('x')",
    "SELECT * FROM bulkhead.health()",
    "SELECT bulkhead.jsonlogic('true', '{}')",
    "SELECT * FROM bulkhead.lint()",
    "SELECT * FROM bulkhead.read_metrics()",
    "SELECT * FROM bulkhead.read_naked_statements()",
    "SELECT bulkhead.request_fingerprint('POST', '/x', '{}')",
    "SELECT bulkhead.require_tenant()",
    "SELECT * FROM bulkhead.score_explain('[]'::jsonb, '{}'::jsonb)",
    "SELECT bulkhead.seal_active()",
    "BEGIN; SELECT bulkhead.set_tenant('shop-1'); COMMIT",
    "SELECT * FROM bulkhead.status()",
    "SELECT bulkhead.tenant_id()",
    "SELECT bulkhead.tenant_id_bigint()",
    "SELECT bulkhead.tenant_id_text()",
    "SELECT bulkhead.user_id()",
];

async fn every_function_answers_or_is_read_only(_: Nowhere) {
    let cluster = Cluster::builder().start().unwrap();
    let db = cluster.database("functions").unwrap();
    every_room(&db).await;
    db.admin("ALTER TABLE plain ADD tenant_id text").unwrap();
    becomes_a_standby(&cluster);
    let boss = db.connect("postgres").await;
    boss.run("SET bulkhead.tenant_context = 'shop-1'; SET bulkhead.bypass = 'standby'").await;
    // No triggers, and no condition of COPY FROM.
    let all = "SELECT replace(oid::regprocedure::text, 'bulkhead.', ''), prokind = 'p' FROM pg_proc WHERE pronamespace = 'bulkhead'::regnamespace
                AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype) AND proname NOT LIKE 'copied\\_row\\_%'";
    let all = boss.rows(all).await;
    assert!(all.len() > 60, "{all:?}");
    for function in all {
        let (signature, is_procedure) = (&function[0], function[1] == "t");
        let name = signature.split('(').next().unwrap();
        let Some((_, values)) = functions::CALLS.iter().find(|(known, _)| known == signature) else {
            let calls: Vec<_> = ANSWERED.iter().filter(|call| call.contains(&format!(" bulkhead.{name}("))).collect();
            assert!(!calls.is_empty(), "what does {signature} do on a standby?");
            for call in calls {
                boss.run(call).await;
            }
            continue;
        };
        let call = functions::call(signature, is_procedure, values);
        if READ.contains(&name) {
            boss.run(&call).await;
        } else {
            boss.refused(&call).await.state("25006");
        }
    }
}
