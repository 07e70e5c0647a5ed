//! What keeps one tenant's orders from being decided, or one item's, is neither told to the others nor waited for by them.

use std::time::{Duration, Instant};

use super::fixture::{A, B, acting, buy, left, now, shops, stock, stored, until};
use crate::harness::WithWorkers;
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_strange_error_is_told_to_nobody_else,
        a_tenant_whose_orders_all_wait_delays_no_other => 240,
        an_order_that_always_fails_heads_no_queue,
        rows_are_shown_to_nobody_by_an_error,
        an_item_that_may_not_be_updated_is_not_locked,
        what_the_caller_holds_closes_no_circle,
        a_table_that_is_locked_is_not_waited_for_longer,
    ]
}

/// A trigger that writes into a table for each tenant, and the one of A is not there.
const LOGGED: &str = "
CREATE TABLE log_b1ffcd88 (id text);
CREATE FUNCTION logged() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  EXECUTE format('INSERT INTO public.%I VALUES ($1)', 'log_' || split_part(new.tenant_id::text, '-', 1)) USING new.id;
  RETURN new; END $$;
CREATE TRIGGER logged BEFORE UPDATE ON shops FOR EACH ROW EXECUTE FUNCTION logged();";

async fn a_strange_error_is_told_to_nobody_else(db: WithWorkers) {
    let owner = shops(&db).await;
    db.admin("UPDATE shops SET quantity = 1000").unwrap();
    owner.run(LOGGED).await;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..10 {
        let db = db.0.clone();
        callers.spawn(async move {
            let is_bad = caller % 5 == 0;
            let app = acting(&db, "app", if is_bad { A } else { B }).await;
            for order in 0..10 {
                let order = format!("{caller} {order}");
                if is_bad {
                    let refused = app.refused(&now("shops", &order, "x", 1)).await;
                    refused.state("42P01").message_contains("log_a0eebc99");
                } else {
                    assert!(buy(&app, "shops", &order, "x", 1).await.starts_with("accepted"));
                }
            }
        });
    }
    while let Some(one) = callers.join_next().await {
        one.unwrap();
    }
    assert_eq!(
        db.admin("SELECT string_agg(quantity::text, ' ' ORDER BY tenant_id, id) FROM shops").unwrap().trim(),
        "1000 920 1000"
    );
    // Queued, it is set aside, and the others go through.
    let (one, other) = (acting(&db, "app", A).await, acting(&db, "app", B).await);
    one.run("SELECT bulkhead.enqueue_decrement('shops', 'bad', 'x', 1)").await;
    other.run("SELECT bulkhead.enqueue_decrement('shops', 'good', 'x', 1)").await;
    until("drained", async || stored(&other, "shops", "good").await == ["x accepted 919"]).await;
    assert!(stored(&one, "shops", "bad").await.is_empty());
}

/// Twenty orders of one tenant wait for a lock that a trigger takes; the other tenant's are decided as if they were not there.
async fn a_tenant_whose_orders_all_wait_delays_no_other(db: WithWorkers) {
    let owner = shops(&db).await;
    db.admin("UPDATE shops SET quantity = 1000").unwrap();
    owner
        .run(&format!(
            "CREATE TABLE counted (id int PRIMARY KEY, n int); INSERT INTO counted VALUES (1, 0);
             CREATE FUNCTION count_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF new.tenant_id = '{A}' THEN UPDATE public.counted SET n = n + 1 WHERE id = 1; END IF;
               RETURN new; END $$;
             CREATE TRIGGER count_one BEFORE UPDATE ON shops FOR EACH ROW EXECUTE FUNCTION count_one();"
        ))
        .await;
    owner.run("BEGIN; SELECT FROM counted FOR UPDATE").await;
    let mut waiting = tokio::task::JoinSet::new();
    for order in 0..20 {
        let app = acting(&db, "app", A).await;
        waiting.spawn(async move {
            let long = format!("SELECT verdict FROM bulkhead.decrement_now('shops', '{order}', 'x', 1, '60 s')");
            app.one(&long).await
        });
    }
    let app = acting(&db, "app", B).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut times = Vec::new();
    for order in 0..50 {
        let start = Instant::now();
        assert!(buy(&app, "shops", &format!("free {order}"), "x", 1).await.starts_with("accepted"));
        times.push(start.elapsed());
    }
    times.sort();
    // Far from a lock's time-out for each order that waits.
    assert!(times[25] < Duration::from_millis(500), "{times:?}");
    owner.run("COMMIT").await;
    while let Some(one) = waiting.join_next().await {
        assert_eq!(one.unwrap(), "accepted");
    }
    assert_eq!(db.admin(&format!("SELECT quantity FROM shops WHERE tenant_id = '{A}'")).unwrap().trim(), "980");
}

async fn an_order_that_always_fails_heads_no_queue(db: WithWorkers) {
    let owner = stock(&db).await;
    owner
        .run(
            "CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF new.sku = 'a' THEN RAISE 'not now' USING ERRCODE = '55P03'; END IF; RETURN new; END $$;
             CREATE TRIGGER never BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION never()",
        )
        .await;
    // Nobody waits for it: it goes into the queue.
    owner.run("SELECT bulkhead.decrement_now('stock', 'never', 'a', 1, '0')").await;
    owner.run("SELECT bulkhead.enqueue_decrement('stock', 'never either', 'a', 1)").await;
    owner.run("SELECT bulkhead.enqueue_decrement('stock', 'behind', 'b', 1)").await;
    until("the one behind", async || stored(&owner, "stock", "behind").await == ["b accepted 4"]).await;
    owner.run("DROP TRIGGER never ON stock").await;
    until("all", async || left(&owner).await == ["a 8", "b 4", "c 0"]).await;
}

async fn rows_are_shown_to_nobody_by_an_error(db: WithWorkers) {
    let owner = stock(&db).await;
    owner
        .run(
            "ALTER TABLE stock ADD cost int NOT NULL DEFAULT 4711, ADD CHECK (pieces <> 9);
             REVOKE ALL ON stock FROM app; GRANT SELECT (sku, pieces), UPDATE (pieces) ON stock TO app",
        )
        .await;
    let app = db.connect("app").await;
    let refused = app.refused(&now("stock", "1", "a", 1)).await;
    let refused = refused.state("23514").message_contains("violates check constraint");
    assert!(!format!("{refused:?}").contains("4711"));
    app.run("SELECT bulkhead.enqueue_decrement('stock', '2', 'a', 1)").await;
    let reason = "SELECT reason FROM bulkhead.poisoned_orders('stock')";
    until("set aside", async || !app.rows(reason).await.is_empty()).await;
    let reason = app.one(reason).await;
    assert!(reason.contains("violates check constraint") && !reason.contains("4711"), "{reason}");
}

/// A policy for UPDATE hides it from whoever locks, and not from whoever reads.
async fn an_item_that_may_not_be_updated_is_not_locked(db: WithWorkers) {
    let owner = shops(&db).await;
    owner.run("ALTER TABLE shops ADD on_sale boolean NOT NULL DEFAULT true").await;
    db.admin(&format!("UPDATE shops SET on_sale = false WHERE tenant_id = '{B}' AND id = 'x'")).unwrap();
    owner.run("CREATE POLICY on_sale ON shops AS RESTRICTIVE FOR UPDATE USING (on_sale)").await;
    let app = acting(&db, "app", B).await;
    assert_eq!(buy(&app, "shops", "1", "x", 1).await, "unknown_item NULL");
    assert_eq!(buy(&app, "shops", "2", "y", 1).await, "accepted 6");
    app.run("SELECT bulkhead.enqueue_decrement('shops', '3', 'x', 1)").await;
    until("drained", async || stored(&app, "shops", "3").await == ["x unknown_item NULL"]).await;
    // One that is locked as well is waited for.
    owner
        .run(&format!("SET bulkhead.tenant_context = '{B}'; BEGIN; SELECT FROM shops WHERE id = 'y' FOR UPDATE"))
        .await;
    let waits = {
        let app = acting(&db, "app", B).await;
        tokio::spawn(async move { buy(&app, "shops", "4", "y", 1).await })
    };
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    assert!(!waits.is_finished());
    owner.run("COMMIT").await;
    assert_eq!(waits.await.unwrap(), "accepted 5");
}

async fn what_the_caller_holds_closes_no_circle(db: WithWorkers) {
    let owner = stock(&db).await;
    let app = db.connect("app").await;
    buy(&app, "stock", "warm", "nowhere", 1).await;
    let long = |order: &str| format!("SELECT verdict FROM bulkhead.decrement_now('stock', '{order}', 'a', 1, '60 s')");
    // It has read the table, another wants to change it, and the worker does not stand in that queue.
    app.run("BEGIN; SELECT FROM stock").await;
    let altering = tokio::spawn(async move { owner.run("ALTER TABLE stock ADD COLUMN note text").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let start = Instant::now();
    app.refused(&long("1")).await.state("40P01").detail_contains("a lock on public.stock");
    assert!(start.elapsed() < Duration::from_secs(20));
    app.run("ROLLBACK").await;
    altering.await.unwrap();
    // It has an advisory lock, for which another waits that has the item.
    app.run("BEGIN; SELECT pg_advisory_xact_lock(1)").await;
    let other = db.connect("owner").await;
    other.run("BEGIN; SELECT FROM stock WHERE sku = 'a' FOR UPDATE").await;
    let waiting = tokio::spawn(async move { other.run("SELECT pg_advisory_xact_lock(1); COMMIT").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    app.refused(&long("2")).await.state("40P01").detail_contains("an advisory lock");
    app.run("ROLLBACK").await;
    waiting.await.unwrap();
    // Neither was placed.
    assert!(stored(&app, "stock", "1").await.is_empty() && stored(&app, "stock", "2").await.is_empty());
    assert_eq!(buy(&app, "stock", "1", "a", 1).await, "accepted 9");
}

async fn a_table_that_is_locked_is_not_waited_for_longer(db: WithWorkers) {
    let owner = stock(&db).await;
    let app = db.connect("app").await;
    buy(&app, "stock", "warm", "nowhere", 1).await;
    owner.run("BEGIN; LOCK TABLE stock").await;
    let start = Instant::now();
    let short = "SELECT FROM bulkhead.decrement_now('stock', '1', 'a', 1, '300 ms')";
    app.refused(short).await.state("55P03").message("public.stock stayed locked, and the order was not placed");
    assert!(start.elapsed() < Duration::from_secs(20));
    let waits = tokio::spawn(async move { buy(&app, "stock", "1", "a", 1).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    owner.run("COMMIT").await;
    assert_eq!(waits.await.unwrap(), "accepted 9");
}
