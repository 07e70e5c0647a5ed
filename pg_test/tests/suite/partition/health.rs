//! health(): each check turns when it should, and says what to do.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{days, events, maintain, managed};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        all_is_well_where_nothing_is_managed,
        the_runway_ends,
        a_table_that_cannot_be_managed_hides_no_other,
        a_claim_that_nobody_came_back_for,
        orphans_are_counted,
        the_last_run_ages,
        an_old_transaction_is_named,
        what_is_overdue_is_named,
        only_monitors_look,
    ]
}

async fn check(client: &Client, name: &str) -> Vec<String> {
    let rows =
        client.rows(&format!("SELECT ok, value, detail FROM bulkhead.health() WHERE check_name = '{name}'")).await;
    assert_eq!(rows.len(), 1, "{name}");
    rows.into_iter().next().unwrap()
}

async fn all_is_well_where_nothing_is_managed(db: Database) {
    let client = db.connect("postgres").await;
    let names = client.column("SELECT check_name FROM bulkhead.health()").await;
    assert_eq!(
        names,
        [
            "runway",
            "oldest_claim",
            "pending_detach",
            "orphans",
            "cron_success",
            "oldest_snapshot",
            "retention_lag",
            "queue_lag",
            "scoring_lag",
            "seal",
            "version",
            "launcher",
            "drain_databases",
            "worker",
            "slots"
        ]
    );
    for name in ["runway", "oldest_claim", "pending_detach", "orphans", "cron_success", "retention_lag", "queue_lag"] {
        assert_eq!(check(&client, name).await[0], "t", "{name}");
    }
}

async fn a_table_that_cannot_be_managed_hides_no_other(db: Database) {
    let owner = managed(&db, 1).await;
    maintain(&db).await;
    owner.run("CREATE TABLE stray PARTITION OF events DEFAULT").await;
    let client = db.connect("postgres").await;
    assert_eq!(check(&client, "cron_success").await[0], "t");
    assert_eq!(
        check(&client, "runway").await,
        ["f", "unknown", "cannot be managed any more: partition public.stray of public.events is DEFAULT"]
    );
}

async fn the_runway_ends(db: Database) {
    let owner = managed(&db, 0).await;
    let client = db.connect("postgres").await;
    let none = check(&client, "runway").await;
    assert_eq!(none[..2], ["f", "0 s"]);
    assert!(none[2].contains("public.events has no partition for now, and inserts fail"), "{none:?}");
    maintain(&db).await;
    let well = check(&client, "runway").await;
    assert_eq!(well[0], "t");
    assert!(well[1].starts_with("3 d "), "{well:?}");
    client.run("SET bulkhead.health_runway = '10d'").await;
    // Half of what premake gives is enough all the same.
    assert_eq!(check(&client, "runway").await[0], "t");
    for leaf in days(&owner, "events", 1, 3).await {
        owner.run(&format!("DROP TABLE {leaf}")).await;
    }
    let short = check(&client, "runway").await;
    assert_eq!(short[0], "f");
    assert!(short[2].starts_with("public.events runs out of partitions"), "{short:?}");
    client.run("SET bulkhead.health_runway = 0").await;
    assert_eq!(check(&client, "runway").await[0], "t");
    db.connect("owner").await.refused("SET bulkhead.health_runway = 0").await.state("42501");
}

async fn a_claim_that_nobody_came_back_for(db: Database) {
    let client = db.connect("postgres").await;
    let app = db.connect("app").await;
    app.run("SET bulkhead.tenant_context = 'h2o'").await;
    assert_eq!(check(&client, "oldest_claim").await, ["t", "none", ""]);
    for (key, lease) in [("lives", "1 hour"), ("late", "1 ms"), ("later", "1 ms"), ("done", "1 ms"), ("back", "1 ms")] {
        app.run(&format!("SELECT bulkhead.idempotency_claim('{key}', NULL, '{lease}'); SELECT pg_sleep(0.01)")).await;
    }
    app.run("SELECT bulkhead.idempotency_complete('done', 200, '1'); SELECT bulkhead.idempotency_release('back')")
        .await;
    app.run("BEGIN; SELECT bulkhead.idempotency_claim('open', NULL, '1 ms'); SELECT pg_sleep(0.01)").await;
    let late = check(&client, "oldest_claim").await;
    assert_eq!(late, ["t", "0 s ago", "key \"late\" of tenant \"h2o\" and 1 more: its lease ran out"]);
    app.run("COMMIT").await;
    assert!(check(&client, "oldest_claim").await[2].contains("and 2 more"));
    db.admin("UPDATE bulkhead.idempotency_key SET lease_until = now() - interval '61 minutes' WHERE key = 'late'")
        .unwrap();
    let red = check(&client, "oldest_claim").await;
    assert_eq!(red[..2], ["f", "1 h 1 min ago"]);
    assert!(
        red[2].ends_with("find out what became of the work, then complete or release the key as that tenant"),
        "{red:?}"
    );
    client.run("SET bulkhead.health_oldest_claim = '2h'").await;
    assert_eq!(check(&client, "oldest_claim").await[0], "t");
    client.run("RESET bulkhead.health_oldest_claim").await;
    // Somebody looks, and says what became of it.
    app.run("SELECT bulkhead.idempotency_release('late')").await;
    assert_eq!(check(&client, "oldest_claim").await[0], "t");
    // What is older than the window is nobody's any more.
    client.run("SET bulkhead.idempotency_window = '1s'; SELECT pg_sleep(1.1)").await;
    assert_eq!(check(&client, "oldest_claim").await, ["t", "none", ""]);
    app.refused("SET bulkhead.health_oldest_claim = 0").await.state("42501");
}

async fn orphans_are_counted(db: Database) {
    let owner = managed(&db, 0).await;
    maintain(&db).await;
    let leaf = &days(&owner, "events", 3, 3).await[0];
    owner.run(&format!("ALTER TABLE events DETACH PARTITION {leaf}; CREATE TABLE events_plain ()")).await;
    let client = db.connect("postgres").await;
    let found = check(&client, "orphans").await;
    assert_eq!(found[..2], ["f", "1"]);
    assert!(found[2].starts_with(&format!("public.{leaf}: ")), "{found:?}");
    client.run("SET bulkhead.health_orphans = 1").await;
    assert_eq!(check(&client, "orphans").await[0], "t");
}

async fn the_last_run_ages(db: Database) {
    events(&db).await.run("SELECT bulkhead.manage_partitions('events', '1 day', '3 days')").await;
    let client = db.connect("postgres").await;
    assert_eq!(check(&client, "cron_success").await[..2], ["f", "never"]);
    maintain(&db).await;
    assert_eq!(check(&client, "cron_success").await[0], "t");
    db.admin("UPDATE bulkhead.managed_partition SET last_run = now() - interval '61 minutes'").unwrap();
    assert_eq!(check(&client, "cron_success").await[..2], ["f", "1 h 1 min ago"]);
    client.run("SET bulkhead.health_cron_success = '2h'").await;
    assert_eq!(check(&client, "cron_success").await[0], "t");
}

async fn an_old_transaction_is_named(db: Database) {
    let client = db.connect("postgres").await;
    let old = db.connect("app").await;
    old.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await;
    let pid = old.one("SELECT pg_backend_pid()").await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    client.run("SET bulkhead.health_oldest_snapshot = '1s'").await;
    // Other tests of this server have transactions, too; none of theirs is named when this one is the oldest.
    let found = check(&client, "oldest_snapshot").await;
    assert_eq!(found[0], "f");
    assert!(
        found[2].contains("of role") && found[2].contains("pg_terminate_backend") || found[2].contains("prepared"),
        "{found:?} {pid}"
    );
    client.run("SET bulkhead.health_oldest_snapshot = '10h'").await;
    assert_eq!(check(&client, "oldest_snapshot").await[0], "t");
    old.run("ROLLBACK").await;
}

async fn what_is_overdue_is_named(db: Database) {
    let owner = managed(&db, 9).await;
    let client = db.connect("postgres").await;
    let found = check(&client, "retention_lag").await;
    assert_eq!(found[0], "f");
    assert!(found[1].starts_with("5 d ") && found[2] == "public.events_9: CALL bulkhead.maintain()", "{found:?}");
    owner.run("SELECT bulkhead.hold_partition('events_9', 'x')").await;
    assert!(check(&client, "retention_lag").await[2].starts_with("public.events_8"));
    client.run("SET bulkhead.health_retention_lag = '10d'").await;
    assert_eq!(check(&client, "retention_lag").await[0], "t");
    maintain(&db).await;
    assert_eq!(check(&client, "retention_lag").await, ["t", "0 s", ""]);
}

async fn only_monitors_look(db: Database) {
    let monitor = format!("{}_monitor", db.name);
    db.admin(&format!("CREATE ROLE {monitor} LOGIN IN ROLE pg_monitor")).unwrap();
    db.connect(&monitor).await.run("SELECT * FROM bulkhead.health()").await;
    db.connect("owner").await.refused("SELECT * FROM bulkhead.health()").await.state("42501");
    db.admin(&format!("DROP ROLE {monitor}")).unwrap();
}
