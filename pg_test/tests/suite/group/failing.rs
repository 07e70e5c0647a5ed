//! An order that the table refuses is told so as it would be by the table itself; the others of its batch are not.

use libtest_mimic::Trial;
use pg_test::Client;

use super::fixture::{A, B, buy, left, now, shops, stock, stored, until};
use crate::harness::WithWorkers;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        errors_reach_the_one_whom_they_concern,
        a_trigger_sees_owner_tenant_and_path,
        a_deferred_trigger_does_not_run_as_the_worker,
        a_refused_order_that_nobody_waits_for_is_set_aside,
        a_trigger_that_waits_delays_nobody_else,
    ]
}

const PICKY: &str = "
CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF new.sku = 'a' THEN
    RAISE 'no %', new.sku USING ERRCODE = 'SHOP1', DETAIL = 'It is not for sale.', HINT = 'Buy b.';
  END IF;
  RETURN new; END $$;
CREATE TRIGGER picky BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION picky();";

async fn errors_reach_the_one_whom_they_concern(db: WithWorkers) {
    let owner = stock(&db).await;
    owner.run(PICKY).await;
    db.admin("UPDATE stock SET pieces = 1000 WHERE sku <> 'a'").unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..8 {
        let db = db.0.clone();
        callers.spawn(async move {
            let app = db.connect("app").await;
            for order in 0..10 {
                let order = format!("{caller} {order}");
                if caller % 2 == 0 {
                    let refused = app.refused(&now("stock", &order, "a", 1)).await;
                    refused.state("SHOP1").message("no a").detail("It is not for sale.").hint("Buy b.");
                } else {
                    assert!(buy(&app, "stock", &order, "b", 1).await.starts_with("accepted"));
                }
            }
        });
    }
    while let Some(one) = callers.join_next().await {
        one.unwrap();
    }
    assert_eq!(left(&owner).await, ["a 10", "b 960", "c 1000"]);
    // A refused order has no verdict and may come again.
    assert!(stored(&owner, "stock", "0 0").await.is_empty());
    owner.run("DROP TRIGGER picky ON stock; ALTER TABLE stock ADD CHECK (pieces <> 9)").await;
    owner.refused(&now("stock", "0 0", "a", 1)).await.state("23514").message_contains("violates check constraint");
    assert_eq!(buy(&owner, "stock", "0 0", "a", 2).await, "accepted 8");
}

async fn a_trigger_sees_owner_tenant_and_path(db: WithWorkers) {
    let owner = shops(&db).await;
    owner
        .run(
            "CREATE TABLE seen (tenant text, who text, path text, rows bigint);
             CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               INSERT INTO public.seen SELECT bulkhead.tenant_id_text(), current_user, current_setting('search_path'), count(*) FROM public.shops;
               RETURN NULL; END $$;
             CREATE TRIGGER look AFTER UPDATE ON shops FOR EACH STATEMENT EXECUTE FUNCTION look();",
        )
        .await;
    for (tenant, order) in [(A, "1"), (B, "1")] {
        let app = db.connect("app").await;
        app.run(&format!("SET bulkhead.tenant_context = '{tenant}'")).await;
        assert!(buy(&app, "shops", order, "x", 1).await.starts_with("accepted"));
    }
    assert_eq!(
        owner.rows("SELECT * FROM seen ORDER BY tenant").await,
        [[A, "owner", "pg_catalog, pg_temp", "1"], [B, "owner", "pg_catalog, pg_temp", "2"]]
    );
}

async fn a_deferred_trigger_does_not_run_as_the_worker(db: WithWorkers) {
    let owner = stock(&db).await;
    owner
        .run(
            "CREATE TABLE seen (who text);
             CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               INSERT INTO public.seen VALUES (current_user); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER look AFTER UPDATE ON stock DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION look();",
        )
        .await;
    assert_eq!(buy(&owner, "stock", "1", "a", 1).await, "accepted 9");
    assert_eq!(owner.column("SELECT who FROM seen").await, ["owner"]);
}

async fn a_refused_order_that_nobody_waits_for_is_set_aside(db: WithWorkers) {
    let owner = stock(&db).await;
    owner.run(PICKY).await;
    owner.run("SELECT bulkhead.decrement_now('stock', '1', 'a', 1, '0')").await;
    let poisoned = "SELECT order_id, reason FROM bulkhead.poisoned_orders('stock')";
    let is_aside = async |owner: &Client| owner.rows(poisoned).await == [["1", "no a (It is not for sale.)"]];
    until("set aside", async || is_aside(&owner).await).await;
    assert_eq!(left(&owner).await[0], "a 10");
    // Queued again it is decided at once.
    owner.run("DROP TRIGGER picky ON stock").await;
    db.admin("SELECT bulkhead.requeue_poisoned('stock')").unwrap();
    until("decided", async || stored(&owner, "stock", "1").await == ["a accepted 9"]).await;
}

async fn a_trigger_that_waits_delays_nobody_else(db: WithWorkers) {
    let owner = stock(&db).await;
    owner
        .run(
            "CREATE TABLE log (id int PRIMARY KEY, n int); INSERT INTO log VALUES (1, 0);
             CREATE FUNCTION count_a() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF new.sku = 'a' THEN UPDATE public.log SET n = n + 1 WHERE id = 1; END IF;
               RETURN new; END $$;
             CREATE TRIGGER count_a BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION count_a()",
        )
        .await;
    owner.run("BEGIN; SELECT FROM log FOR UPDATE").await;
    let waits = {
        let app = db.connect("app").await;
        tokio::spawn(async move {
            let long = "SELECT verdict, remaining FROM bulkhead.decrement_now('stock', 'waits', 'a', 1, '30 s')";
            app.rows(long).await.concat().join(" ")
        })
    };
    let app = db.connect("app").await;
    for order in 0..5 {
        assert_eq!(buy(&app, "stock", &format!("free {order}"), "b", 1).await, format!("accepted {}", 4 - order));
    }
    assert!(!waits.is_finished());
    owner.run("COMMIT").await;
    assert_eq!(waits.await.unwrap(), "accepted 9");
    assert_eq!(owner.one("SELECT n FROM log").await, "1");
}
