//! A hot standby: protected tables are as protected there, and every function that only reads answers.

use libtest_mimic::Trial;
use pg_test::Cluster;

use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![protected_reads_and_functions_that_only_read => 240]
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
    // The same server, started again as one that replays a log: that of nobody.
    cluster.stop().unwrap();
    std::fs::write(cluster.data_dir().join("standby.signal"), "").unwrap();
    cluster.start().unwrap();
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
    let client = db.connect("owner").await;
    for call in
        ["protect('bare')", "unprotect('notes')", "register_inventory('bare', 'id')", "attach_scoring('bare', 'x')"]
    {
        let error = client.try_run(&format!("SELECT bulkhead.{call}")).await.unwrap_err();
        assert_ne!(error.code().map(|state| state.code().to_owned()), None, "{call}: {error}");
    }
}
