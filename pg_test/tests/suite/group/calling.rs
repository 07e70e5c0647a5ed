//! What a call is told.

use std::process::Command;

use libtest_mimic::Trial;
use pg_test::Client;

use super::fixture::{A, B, buy, left, now, shops, stock, stored, try_to_buy, until, worker};
use crate::harness::{Skip, WithWorkers};
use crate::pooled::pooler;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        one_caller_is_told_what_a_batch_would_be,
        a_crowd_conserves_the_stock => 300,
        tenants_are_apart,
        who_sends_many_has_a_share_of_each_round,
        sessions_that_wait_together_run_in_turn,
        a_pooler_of_transactions_will_do,
    ]
}

async fn one_caller_is_told_what_a_batch_would_be(db: WithWorkers) {
    let owner = stock(&db).await;
    let app = db.connect("app").await;
    assert_eq!(buy(&app, "stock", "1", "a", 4).await, "accepted 6");
    assert_eq!(buy(&app, "stock", "2", "a", 7).await, "insufficient 6");
    assert_eq!(buy(&app, "stock", "3", "nowhere", 1).await, "unknown_item NULL");
    assert_eq!(buy(&app, "stock", "4", "a", 0).await, "invalid NULL");
    // Again: the same verdict, and nothing taken.
    assert_eq!(buy(&app, "stock", "1", "a", 4).await, "accepted 6");
    assert_eq!(buy(&app, "stock", "1", "a", 5).await, "conflict NULL");
    assert_eq!(left(&owner).await, ["a 6", "b 5", "c 0"]);
    assert_eq!(stored(&app, "stock", "1").await, ["a accepted 6"]);
    // All or nothing.
    let lines = "SELECT line, order_id, item, verdict, remaining FROM bulkhead.decrement_now('stock', '5', ARRAY['b', 'c', NULL], ARRAY[1, 1, 1])";
    assert_eq!(
        app.rows(lines).await,
        [["1", "5", "b", "rejected", "5"], ["2", "5", "c", "insufficient", "0"], ["3", "5", "NULL", "invalid", "NULL"]]
    );
    assert_eq!(app.rows("SELECT verdict FROM bulkhead.decrement_now('stock', NULL, 'a', 1)").await, [["invalid"]]);
    // And with the function that decides in the caller's transaction.
    let direct = "SELECT verdict, remaining FROM bulkhead.decrement_inventory('stock', '1', 'a', 4)";
    assert_eq!(app.rows(direct).await, [["accepted", "6"]]);
}

async fn a_crowd_conserves_the_stock(db: WithWorkers) {
    const CROWD: usize = 200;
    const EACH: usize = 10;
    let owner = stock(&db).await;
    db.admin("UPDATE stock SET pieces = 1500 WHERE sku = 'a'; UPDATE stock SET pieces = 300 WHERE sku = 'b'").unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CROWD {
        let db = db.0.clone();
        callers.spawn(async move {
            let app = db.connect("app").await;
            let mut accepted = [0, 0];
            for order in 0..EACH {
                let of = order % 2;
                let item = ["a", "b"][of];
                let told = try_to_buy(&app, "stock", &format!("{caller} {order}"), item, 1).await.unwrap();
                accepted[of] += u32::from(told.starts_with("accepted"));
                assert!(told.starts_with("accepted") || told == "insufficient 0", "{told}");
            }
            accepted
        });
    }
    let mut accepted = [0, 0];
    while let Some(one) = callers.join_next().await {
        let one = one.unwrap();
        accepted = [accepted[0] + one[0], accepted[1] + one[1]];
    }
    assert_eq!(accepted, [1_000, 300]);
    assert_eq!(left(&owner).await, ["a 500", "b 0", "c 0"]);
    assert_eq!(db.admin("SELECT count(*) FROM bulkhead.order_verdict").unwrap().trim(), "2000");
}

async fn as_tenant(client: &Client, tenant: &str, order: &str, item: &str) -> String {
    client.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{tenant}'")).await;
    let told = buy(client, "shops", order, item, 2).await;
    client.run("COMMIT").await;
    told
}

async fn tenants_are_apart(db: WithWorkers) {
    let owner = shops(&db).await;
    let app = db.connect("app").await;
    app.refused(&now("shops", "1", "x", 1)).await.state("42501").message_contains("no tenant context");
    assert_eq!(as_tenant(&app, A, "1", "x").await, "accepted 8");
    assert_eq!(as_tenant(&app, B, "1", "x").await, "accepted 1");
    assert_eq!(as_tenant(&app, A, "2", "y").await, "unknown_item NULL");
    assert_eq!(as_tenant(&app, B, "2", "y").await, "accepted 5");
    // Both at once, in one batch or in two.
    let other = db.connect("app").await;
    let both = tokio::spawn(async move { as_tenant(&other, B, "3", "y").await });
    assert_eq!(as_tenant(&app, A, "3", "x").await, "accepted 6");
    assert_eq!(both.await.unwrap(), "accepted 3");
    owner.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
    assert_eq!(owner.rows("SELECT id, quantity FROM shops").await, [["x", "6"]]);
}

/// All wait while the worker is stopped, the many first.
async fn who_sends_many_has_a_share_of_each_round(db: WithWorkers) {
    shops(&db).await;
    let app = db.connect("app").await;
    as_tenant(&app, A, "first", "x").await;
    let worker = worker(&db);
    let signal = |name: &str| assert!(Command::new("kill").args([name, &worker]).status().unwrap().success());
    signal("-STOP");
    let mut callers = tokio::task::JoinSet::new();
    let (mut called, waiting) = (
        0,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ~ 'decrement_now' AND wait_event = 'Extension'",
    );
    for (tenant, count) in [(A, 80), (B, 3)] {
        for caller in 0..count {
            let db = db.0.clone();
            callers.spawn(async move { as_tenant(&db.connect("app").await, tenant, &format!("{caller}"), "x").await });
        }
        called += count;
        until("all wait", async || db.admin(waiting).unwrap() == called.to_string()).await;
    }
    signal("-CONT");
    while let Some(told) = callers.join_next().await {
        told.unwrap();
    }
    let rounds = "SELECT count(*) FILTER (WHERE tenant = $$A$$), count(*) FILTER (WHERE tenant = $$B$$) FROM bulkhead.order_verdict
                   WHERE order_id <> 'first' GROUP BY xmin ORDER BY min(decided_at)";
    let rounds = db.admin(&rounds.replace("$$A$$", &format!("'{A}'")).replace("$$B$$", &format!("'{B}'"))).unwrap();
    // The few are all in the first round, and with them a share of the many. On a slow disk shares are larger.
    let rounds: Vec<Vec<usize>> =
        rounds.lines().map(|round| round.split('|').map(|count| count.parse().unwrap()).collect()).collect();
    assert!((4..40).contains(&rounds[0][0]) && rounds[0][1] == 3, "{rounds:?}");
}

/// The scheduling policy of a process: 0 is the usual one, 3 SCHED_BATCH.
fn policy(pid: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name before may hold blanks.
    status.rsplit(") ").next().unwrap().split(' ').nth(38).unwrap().to_owned()
}

async fn sessions_that_wait_together_run_in_turn(db: WithWorkers) {
    stock(&db).await;
    let alone = db.connect("app").await;
    let chosen = alone.one("SELECT pg_backend_pid()").await;
    for order in 0..20 {
        buy(&alone, "stock", &format!("alone {order}"), "nothing", 1).await;
    }
    assert_eq!(policy(&chosen), "0");
    // Somebody else has chosen for this one.
    assert!(Command::new("chrt").args(["--batch", "--pid", "0", &chosen]).status().unwrap().success());
    let mut callers = tokio::task::JoinSet::new();
    let mut apps = vec![alone];
    for _ in 0..20 {
        apps.push(db.connect("app").await);
    }
    for (caller, app) in apps.into_iter().enumerate() {
        callers.spawn(async move {
            for order in 0..20 {
                buy(&app, "stock", &format!("{caller} {order}"), "nothing", 1).await;
            }
            app
        });
    }
    let mut in_turn = 0;
    for app in callers.join_all().await {
        // Its own transaction asks for nothing.
        let pid = app.one("BEGIN; SELECT pg_backend_pid()").await;
        in_turn += usize::from(policy(&pid) == "3");
        app.run("COMMIT").await;
        assert_eq!(policy(&pid), if pid == chosen { "3" } else { "0" });
    }
    assert!(in_turn > 10, "{in_turn}");
}

async fn a_pooler_of_transactions_will_do(db: WithWorkers) -> Result<(), Skip> {
    shops(&db).await;
    let pooler = pooler(&db, 3)?;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..10 {
        let client = pooler.connect("app", &db).await;
        callers.spawn(async move {
            client.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{A}'")).await;
            let told = buy(&client, "shops", &format!("pooled {caller}"), "x", 1).await;
            client.run("COMMIT").await;
            told
        });
    }
    let mut told = callers.join_all().await;
    told.sort();
    let expected: Vec<String> = (0..10).map(|left| format!("accepted {left}")).collect();
    assert_eq!(told, expected);
    Ok(())
}
