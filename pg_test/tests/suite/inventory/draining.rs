//! Drains: several at once, poison, rights, what runs in them.

use std::time::Duration;

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{A, B, acting, left, queue, shops, stock, stored, verdicts};
use crate::harness::{Skip, WithoutPreload};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        poison_is_set_aside_and_the_rest_goes_through,
        what_is_no_requests_fault_is_raised,
        several_drains_at_once => 240,
        an_order_that_is_decided_elsewhere_waits_on,
        triggers_see_the_tenant_and_the_owner,
        nothing_outlives_a_drain,
        deferred_triggers_do_not_run_as_the_drainer,
        only_who_may_drains,
        a_notification_says_that_verdicts_are_in,
        pg_cron_drains => 240,
        without_preloading_too,
        health_says_that_orders_wait,
    ]
}

async fn poison_is_set_aside_and_the_rest_goes_through(db: Database) {
    let owner = stock(&db).await;
    db.admin("UPDATE stock SET stock = 1000").unwrap();
    owner
        .run(
            "CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF old.stock - new.stock = 13 THEN RAISE 'unlucky %', new.sku; END IF;
               RETURN new; END $$;
             CREATE TRIGGER picky BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION picky();
             INSERT INTO stock VALUES ('p', 500);",
        )
        .await;
    let mut orders: Vec<(String, &str, i64)> = (0..49).map(|n| (format!("good {n}"), "a", 1)).collect();
    orders.insert(20, ("bad".to_owned(), "p", 13));
    let orders: Vec<(&str, &str, i64)> =
        orders.iter().map(|(order, item, quantity)| (order.as_str(), *item, *quantity)).collect();
    queue(&db, "app", "stock", &orders).await;
    db.connect("postgres").await.run("CALL bulkhead.drain_inventory('stock')").await;
    assert_eq!(db.admin("SELECT count(*) FROM bulkhead.order_verdict WHERE verdict = 'a'").unwrap(), "49");
    let app = db.connect("app").await;
    assert!(stored(&app, "stock", "bad").await.is_empty());
    let poisoned =
        app.rows("SELECT order_id, items, quantities, sqlstate, reason FROM bulkhead.poisoned_orders('stock')").await;
    assert_eq!(poisoned, [["bad", "{p}", "{13}", "P0001", "unlucky p"]]);
    // The order of arrival stays, around the poison.
    let order =
        "SELECT bool_and(remaining = 999 - substr(order_id, 6)::int) FROM bulkhead.order_verdict WHERE item = 'a'";
    assert_eq!(db.admin(order).unwrap(), "t");
    assert_eq!(app.one("SELECT stock FROM stock WHERE sku = 'p'").await, "500");
    // It is not tried again.
    db.connect("postgres").await.run("CALL bulkhead.drain_inventory('stock')").await;
    assert_eq!(app.one("SELECT count(*) FROM bulkhead.poisoned_orders('stock')").await, "1");
}

async fn what_is_no_requests_fault_is_raised(db: Database) {
    let owner = stock(&db).await;
    queue(&db, "app", "stock", &[("1", "a", 1), ("2", "a", 1)]).await;
    let drainer = db.connect("postgres").await;
    owner
        .run(
            "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM no_such_function(); RETURN new; END';
             CREATE TRIGGER broken BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION broken();",
        )
        .await;
    drainer.refused("CALL bulkhead.drain_inventory('stock')").await.state("42883");
    assert_eq!(verdicts(&db), "0");
    owner.run("DROP TRIGGER broken ON stock").await;
    drainer.run("CALL bulkhead.drain_inventory('stock')").await;
    assert_eq!(left(&owner).await[0], "a 8");
    drainer.refused("CALL bulkhead.drain_inventory('stock', 0)").await.state("22023");
    drainer.refused("CALL bulkhead.drain_inventory('stock', NULL)").await.state("22023");
    drainer.refused("CALL bulkhead.drain_inventory('pg_class')").await.state("55000");
    drainer.refused("BEGIN; CALL bulkhead.drain_inventory('stock')").await.state("2D000");
}

/// Sessions queue and drain at once: every order is decided once, in the order of arrival for each item.
async fn several_drains_at_once(db: Database) {
    const SESSIONS: i64 = 4;
    const ORDERS: i64 = 300;
    stock(&db).await;
    db.admin("UPDATE stock SET stock = 500").unwrap();
    let mut sessions = tokio::task::JoinSet::new();
    for number in 0..SESSIONS {
        let (db, drained) = (db.clone(), db.clone());
        sessions.spawn(async move {
            let client = db.connect("app").await;
            for order in 0..ORDERS {
                let item = ["a", "b", "c"][(order % 3) as usize];
                client
                    .run(&format!("SELECT bulkhead.enqueue_decrement('stock', '{number} {order}', '{item}', 1)"))
                    .await;
            }
        });
        sessions.spawn(async move {
            let drainer = drained.connect("postgres").await;
            for _ in 0..20 {
                drainer.run("CALL bulkhead.drain_inventory('stock', 20)").await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    while let Some(session) = sessions.join_next().await {
        session.unwrap();
    }
    // A drain that is called after an order was queued decides it before it returns.
    db.connect("postgres").await.run("CALL bulkhead.drain_inventory('stock')").await;
    assert_eq!(verdicts(&db), (SESSIONS * ORDERS).to_string());
    assert_eq!(left(&db.connect("app").await).await, ["a 100", "b 100", "c 100"]);
    // What each session queued was decided in its order.
    let disorder = "SELECT count(*) FROM (SELECT remaining, lag(remaining) OVER (PARTITION BY split_part(order_id, ' ', 1), item ORDER BY split_part(order_id, ' ', 2)::int) AS before
                      FROM bulkhead.order_verdict) v WHERE remaining >= before";
    assert_eq!(db.admin(disorder).unwrap(), "0");
}

async fn an_order_that_is_decided_elsewhere_waits_on(db: Database) {
    stock(&db).await;
    let other = db.connect("app").await;
    other.run("SELECT * FROM bulkhead.decrement_inventory('stock', 'warm', 'nowhere', 1)").await;
    queue(&db, "app", "stock", &[("1", "b", 1), ("2", "b", 1)]).await;
    other.run("BEGIN; SELECT * FROM bulkhead.decrement_inventory('stock', '1', 'a', 1)").await;
    let drainer = db.connect("postgres").await;
    drainer.run("CALL bulkhead.drain_inventory('stock', 500, 1)").await;
    assert_eq!(stored(&drainer, "stock", "2").await, ["b accepted 4"]);
    other.run("ROLLBACK").await;
    drainer.run("CALL bulkhead.drain_inventory('stock')").await;
    assert_eq!(stored(&drainer, "stock", "1").await, ["b accepted 3"]);
}

async fn triggers_see_the_tenant_and_the_owner(db: Database) {
    let owner = shops(&db).await;
    owner
        .run(
            "CREATE TABLE seen (who text, tenant text, path text, item text, others int);
             CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               INSERT INTO public.seen VALUES (current_user, bulkhead.tenant_id_text(), current_setting('search_path'), new.id,
                 (SELECT count(*) FROM public.shops WHERE tenant_id <> new.tenant_id));
               RETURN new; END $$;
             CREATE TRIGGER look AFTER UPDATE ON shops FOR EACH ROW EXECUTE FUNCTION look();",
        )
        .await;
    for (tenant, item) in [(A, "x"), (B, "y"), (B, "x")] {
        acting(&db, "app", tenant)
            .await
            .run(&format!("SELECT bulkhead.enqueue_decrement('shops', '{item}', '{item}', 1)"))
            .await;
    }
    let drainer = acting(&db, "postgres", A).await;
    drainer.run("SET search_path = public").await;
    drainer.run("CALL bulkhead.drain_inventory('shops')").await;
    let seen = owner.rows("SELECT who, tenant, item, others FROM seen ORDER BY tenant, item").await;
    assert_eq!(seen, [["owner", A, "x", "0"], ["owner", B, "x", "0"], ["owner", B, "y", "0"]]);
    assert_eq!(owner.column("SELECT DISTINCT path FROM seen").await, ["pg_catalog, pg_temp"]);
    assert_eq!(drainer.one("SELECT bulkhead.tenant_id_text()").await, A, "the drainer's own tenant is back");
    assert_eq!(drainer.one("SHOW search_path").await, "public");
    assert_eq!(drainer.one("SELECT count(*) FROM shops").await, "1");
}

async fn nothing_outlives_a_drain(db: Database) {
    let owner = stock(&db).await;
    owner
        .run(
            "CREATE TABLE tried (what text);
             CREATE FUNCTION try() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               PERFORM set_config('search_path', 'public', false), set_config('work_mem', '77MB', true);
               BEGIN SET ROLE postgres; INSERT INTO public.tried VALUES ('role'); EXCEPTION WHEN OTHERS THEN NULL; END;
               BEGIN RESET ROLE; INSERT INTO public.tried VALUES ('reset ' || current_user); EXCEPTION WHEN OTHERS THEN NULL; END;
               BEGIN EXECUTE 'CREATE TEMP TABLE left_behind (n int)'; INSERT INTO public.tried VALUES ('temp'); EXCEPTION WHEN OTHERS THEN NULL; END;
               BEGIN PERFORM bulkhead.begin_bypass('why not'); INSERT INTO public.tried VALUES ('bypass'); EXCEPTION WHEN OTHERS THEN NULL; END;
               PERFORM set_config('bulkhead.tenant_context', 'someone', false);
               RETURN new; END $$;
             CREATE TRIGGER try BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION try();",
        )
        .await;
    queue(&db, "app", "stock", &[("1", "a", 1)]).await;
    let drainer = db.connect("postgres").await;
    drainer.run("CALL bulkhead.drain_inventory('stock')").await;
    assert_eq!(stored(&drainer, "stock", "1").await, ["a accepted 9"]);
    assert!(owner.column("SELECT what FROM tried").await.is_empty());
    assert_eq!(
        drainer
            .one("SELECT concat(current_user, ' ', current_setting('search_path'), ' ', current_setting('work_mem'))")
            .await,
        "postgres \"$user\", public 4MB"
    );
    assert_eq!(drainer.one("SELECT coalesce(bulkhead.tenant_id_text(), 'none')").await, "none");
}

/// Such a trigger fires at the end of the transaction, as whoever ends it.
async fn deferred_triggers_do_not_run_as_the_drainer(db: Database) {
    let owner = stock(&db).await;
    owner
        .run(
            "CREATE TABLE ran (who text);
             CREATE FUNCTION who() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.ran VALUES (current_user); RETURN new; END';
             CREATE CONSTRAINT TRIGGER who AFTER UPDATE ON stock DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION who();",
        )
        .await;
    queue(&db, "app", "stock", &[("1", "a", 1)]).await;
    let drainer = db.connect("postgres").await;
    drainer.run("CALL bulkhead.drain_inventory('stock')").await;
    assert_eq!(owner.column("SELECT who FROM ran").await, ["owner"]);
}

async fn only_who_may_drains(db: Database) {
    stock(&db).await;
    queue(&db, "app", "stock", &[("1", "a", 1)]).await;
    for role in ["app", "owner", "svc"] {
        let client = db.connect(role).await;
        client.refused("CALL bulkhead.drain_inventory('stock')").await.state("42501");
        client.refused("SELECT bulkhead.drain_batch('stock', 5, NULL)").await.state("42501");
    }
    db.admin("GRANT EXECUTE ON PROCEDURE bulkhead.drain_inventory TO svc").unwrap();
    db.connect("svc").await.run("CALL bulkhead.drain_inventory('stock')").await;
    assert_eq!(verdicts(&db), "1");
}

async fn a_notification_says_that_verdicts_are_in(db: Database) {
    stock(&db).await;
    let (app, drainer) = (db.connect("app").await, db.connect("postgres").await);
    queue(&db, "app", "stock", &[("1", "a", 1), ("2", "a", 1), ("3", "a", 1)]).await;
    drainer.run("LISTEN bulkhead_verdicts").await;
    let script = "LISTEN bulkhead_verdicts; CALL bulkhead.drain_inventory('stock', 2); SELECT 1;";
    let output = db.psql("postgres", script).unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let told: Vec<&str> = output.lines().filter(|line| line.starts_with("Asynchronous notification")).collect();
    assert_eq!(told.len(), 2, "{output}");
    assert!(
        told[0].starts_with("Asynchronous notification \"bulkhead_verdicts\" with payload \"1\" received"),
        "{output}"
    );
    assert!(told[1].contains("payload \"2\""), "{output}");
    assert_eq!(stored(&app, "stock", "3").await, ["a accepted 7"]);
}

async fn pg_cron_drains(db: Database) -> Result<(), Skip> {
    crate::frame::need_pg_cron(&db)?;
    // It lives in one database of the cluster, so this one is not the test's own.
    db.cluster.admin("postgres", "CREATE EXTENSION IF NOT EXISTS pg_cron").unwrap();
    stock(&db).await;
    queue(&db, "app", "stock", &[("1", "a", 1), ("2", "a", 1)]).await;
    let job = format!(
        "SELECT cron.schedule_in_database('drain {0}', '* * * * *', $$CALL bulkhead.drain_inventory('stock')$$, '{0}')",
        db.name
    );
    db.cluster.admin("postgres", &job).unwrap();
    let app = db.connect("app").await;
    let mut verdict = Vec::new();
    for _ in 0..80 {
        verdict = stored(&app, "stock", "2").await;
        if !verdict.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    db.cluster.admin("postgres", &format!("SELECT cron.unschedule('drain {}')", db.name)).unwrap();
    assert_eq!(verdict, ["a accepted 8"]);
    Ok(())
}

async fn without_preloading_too(db: WithoutPreload) {
    shops(&db).await;
    for (tenant, item) in [(A, "x"), (B, "x")] {
        acting(&db, "app", tenant)
            .await
            .run(&format!("SELECT bulkhead.enqueue_decrement('shops', '1', '{item}', 1)"))
            .await;
    }
    db.connect("postgres").await.run("CALL bulkhead.drain_inventory('shops')").await;
    assert_eq!(stored(&acting(&db, "app", A).await, "shops", "1").await, ["x accepted 9"]);
    assert_eq!(stored(&acting(&db, "app", B).await, "shops", "1").await, ["x accepted 2"]);
}

async fn health_says_that_orders_wait(db: Database) {
    let owner = stock(&db).await;
    let check = || db.admin("SELECT ok, value, detail FROM bulkhead.health() WHERE check_name = 'queue_lag'").unwrap();
    queue(&db, "app", "stock", &[("one", "a", 1), ("two", "b", 1)]).await;
    assert_eq!(check(), "t|2 queued|");
    db.admin(&format!("ALTER DATABASE {} SET bulkhead.health_queue_lag = 0", db.name)).unwrap();
    assert!(check().starts_with("f|2 queued|an order for public.stock waits for "), "{}", check());
    owner.run("ALTER TABLE stock ADD CHECK (sku <> 'a' OR stock = 10)").await;
    db.admin("CALL bulkhead.drain_inventory('stock')").unwrap();
    assert_eq!(check(), "t|0 queued|set aside: 1; all_poisoned_orders() says why");
}
