//! The worker as a process: what it is sent, what it is set to, what it leaves behind.

use std::time::Duration;

use libtest_mimic::Trial;

use super::fixture::{A, buy, now, shops, stock, until, worker};
use crate::harness::WithWorkers;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_cancel_ends_no_worker,
        settings_of_the_database_lift_nothing,
        advisory_locks_of_triggers_end_with_the_batch,
        what_it_did_is_told_when_it_sleeps,
    ]
}

async fn a_cancel_ends_no_worker(db: WithWorkers) {
    let owner = stock(&db).await;
    buy(&owner, "stock", "1", "a", 1).await;
    let first = worker(&db);
    for order in 2..7 {
        db.admin(&format!("SELECT pg_cancel_backend({first})")).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(buy(&owner, "stock", &order.to_string(), "a", 1).await, format!("accepted {}", 10 - order));
    }
    assert_eq!(worker(&db), first);
}

async fn settings_of_the_database_lift_nothing(db: WithWorkers) {
    for setting in ["row_security = off", "session_replication_role = replica"] {
        db.admin(&format!("ALTER DATABASE {} SET {setting}", db.name)).unwrap();
    }
    let owner = shops(&db).await;
    owner
        .run(
            "CREATE TABLE seen (id text);
             CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               INSERT INTO public.seen VALUES (new.id);
               RETURN new; END $$;
             CREATE TRIGGER see AFTER UPDATE ON shops FOR EACH ROW EXECUTE FUNCTION see()",
        )
        .await;
    owner.run(&format!("SET row_security = on; SET bulkhead.tenant_context = '{A}'")).await;
    assert_eq!(buy(&owner, "shops", "1", "x", 1).await, "accepted 9");
    assert_eq!(owner.column("SELECT id FROM seen").await, ["x"]);
}

async fn advisory_locks_of_triggers_end_with_the_batch(db: WithWorkers) {
    let owner = stock(&db).await;
    owner
        .run(
            "CREATE FUNCTION lock() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               PERFORM pg_advisory_lock(1);
               IF new.sku = 'b' THEN RAISE 'before it is unlocked'; END IF;
               RETURN new; END $$;
             CREATE TRIGGER lock BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION lock()",
        )
        .await;
    let app = db.connect("app").await;
    assert_eq!(buy(&app, "stock", "1", "a", 1).await, "accepted 9");
    until("unlocked", async || app.one("SELECT pg_try_advisory_lock(1)").await == "t").await;
    app.run("SELECT pg_advisory_unlock_all()").await;
    app.refused(&now("stock", "2", "b", 1)).await.state("P0001").message("before it is unlocked");
    until("unlocked", async || app.one("SELECT pg_try_advisory_lock(1)").await == "t").await;
}

async fn what_it_did_is_told_when_it_sleeps(db: WithWorkers) {
    let owner = stock(&db).await;
    for order in 0..10 {
        buy(&owner, "stock", &order.to_string(), "a", 1).await;
    }
    // Without another call.
    let updated = "SELECT n_tup_upd FROM pg_stat_all_tables WHERE relname = 'stock'";
    until("reported", async || db.admin(updated).unwrap().trim() == "10").await;
    let state =
        "SELECT state FROM pg_stat_activity WHERE backend_type = 'bulkhead worker' AND datname = current_database()";
    assert_eq!(db.admin(state).unwrap().trim(), "idle");
}
