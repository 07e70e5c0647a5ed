//! Whoever is in the way delays nobody else; whoever waits no longer loses nothing.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{buy, left, now, stock, stored, try_to_buy, until};
use crate::harness::WithWorkers;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_locked_item_delays_nobody_else,
        a_queued_order_of_a_locked_item_delays_no_other,
        who_leaves_is_decided_later,
        cancelled_and_terminated_callers_leave_their_slots,
        a_table_that_is_altered_is_waited_for_by_nobody,
        what_is_queued_is_decided_at_once,
        an_order_decided_elsewhere_is_waited_for,
    ]
}

const FEW: Duration = Duration::from_millis(1_500);

/// Ten seconds FOR UPDATE of one item.
async fn a_locked_item_delays_nobody_else(db: WithWorkers) {
    let owner = stock(&db).await;
    let app = db.connect("app").await;
    buy(&app, "stock", "warm", "nowhere", 1).await;
    owner.run("BEGIN; SELECT FROM stock WHERE sku = 'a' FOR UPDATE").await;
    let locked = {
        let db = db.0.clone();
        tokio::spawn(async move {
            let app = db.connect("app").await;
            let long = "SELECT verdict, remaining FROM bulkhead.decrement_now('stock', 'locked', 'a', 1, '30 s')";
            app.rows(long).await.concat().join(" ")
        })
    };
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    for order in 0.. {
        let before = Instant::now();
        let told = buy(&app, "stock", &format!("free {order}"), "b", 1).await;
        slowest = slowest.max(before.elapsed());
        assert!(told.starts_with("accepted") || told == "insufficient 0", "{told}");
        // An unknown item is told from a locked one.
        assert_eq!(buy(&app, "stock", &format!("none {order}"), "nowhere", 1).await, "unknown_item NULL");
        if start.elapsed() > Duration::from_secs(10) {
            break;
        }
    }
    assert!(slowest < FEW, "{slowest:?}");
    assert!(!locked.is_finished());
    owner.run("UPDATE stock SET pieces = 3 WHERE sku = 'a'; COMMIT").await;
    // Decided by what is there then.
    assert_eq!(locked.await.unwrap(), "accepted 2");
}

async fn a_queued_order_of_a_locked_item_delays_no_other(db: WithWorkers) {
    let owner = stock(&db).await;
    let app = db.connect("app").await;
    owner.run("BEGIN; SELECT FROM stock WHERE sku = 'a' FOR UPDATE").await;
    app.run("SELECT bulkhead.enqueue_decrement('stock', 'first', 'a', 1)").await;
    app.run("SELECT bulkhead.enqueue_decrement('stock', 'second', 'b', 1)").await;
    until("the other item", async || stored(&app, "stock", "second").await == ["b accepted 4"]).await;
    assert!(stored(&app, "stock", "first").await.is_empty());
    owner.run("COMMIT").await;
    until("the item", async || stored(&app, "stock", "first").await == ["a accepted 9"]).await;
}

async fn who_leaves_is_decided_later(db: WithWorkers) {
    let owner = stock(&db).await;
    let app = db.connect("app").await;
    owner.run("BEGIN; SELECT FROM stock WHERE sku = 'a' FOR UPDATE").await;
    for order in ["1", "2"] {
        let short = format!(
            "SELECT line, item, verdict, remaining FROM bulkhead.decrement_now('stock', '{order}', 'a', 1, '100 ms')"
        );
        assert_eq!(app.rows(&short).await, [["1", "a", "pending", "NULL"]]);
    }
    // The slots are free again, and the orders are where a restart does not lose them.
    let queued = "SELECT count(*) FROM (TABLE bulkhead.inventory_queue_0 UNION ALL TABLE bulkhead.inventory_queue_1) q";
    until("queued", async || db.admin(queued).unwrap().trim() == "2").await;
    assert!(stored(&app, "stock", "1").await.is_empty());
    owner.run("COMMIT").await;
    until("decided", async || stored(&app, "stock", "2").await == ["a accepted 8"]).await;
    assert_eq!(left(&owner).await[0], "a 8");
    // No wait at all: it is decided, and asked for later.
    app.run("SELECT bulkhead.decrement_now('stock', '3', 'a', 1, '0')").await;
    until("decided", async || stored(&app, "stock", "3").await == ["a accepted 7"]).await;
}

async fn cancelled_and_terminated_callers_leave_their_slots(db: WithWorkers) {
    let owner = stock(&db).await;
    let app = db.connect("app").await;
    buy(&app, "stock", "warm", "nowhere", 1).await;
    owner.run("BEGIN; SELECT FROM stock WHERE sku = 'a' FOR UPDATE").await;
    let long = |order: &str| format!("SELECT bulkhead.decrement_now('stock', '{order}', 'a', 1, '60 s')");
    app.run("SET statement_timeout = '200ms'").await;
    app.refused(&long("timed out")).await.state("57014");
    app.run("RESET statement_timeout").await;
    for end in ["pg_cancel_backend", "pg_terminate_backend"] {
        let victim = db.connect("app").await;
        let pid = victim.one("SELECT pg_backend_pid()").await;
        let ask = long(end);
        let waiting = tokio::spawn(async move { victim.batch_execute(&ask).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        db.admin(&format!("SELECT {end}({pid})")).unwrap();
        assert!(waiting.await.unwrap().is_err());
    }
    // The session that was timed out goes on.
    assert_eq!(buy(&app, "stock", "other", "b", 1).await, "accepted 4");
    owner.run("COMMIT").await;
    // Withdrawn, or decided for nobody; never twice.
    for order in ["timed out", "pg_cancel_backend", "pg_terminate_backend"] {
        assert!(buy(&app, "stock", order, "a", 1).await.starts_with("accepted"));
    }
    assert_eq!(left(&owner).await[0], "a 7");
}

/// The worker must not queue behind somebody who waits for a reader.
async fn a_table_that_is_altered_is_waited_for_by_nobody(db: WithWorkers) {
    let owner = stock(&db).await;
    owner.run("CREATE TABLE other (LIKE stock INCLUDING ALL); INSERT INTO other TABLE stock; SELECT bulkhead.register_inventory('other', 'sku', 'pieces')").await;
    let (app, reader) = (db.connect("app").await, db.connect("app").await);
    buy(&app, "stock", "warm", "a", 1).await;
    reader.run("BEGIN; SELECT FROM stock").await;
    let altering = tokio::spawn(async move { owner.run("ALTER TABLE stock ADD COLUMN note text").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    // The reader itself, whom the other waits for: its call cannot go on, and says so in time.
    let start = Instant::now();
    let own = "SELECT verdict FROM bulkhead.decrement_now('stock', '1', 'a', 1, '500 ms')";
    assert_eq!(reader.one(own).await, "pending");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(buy(&app, "other", "1", "a", 1).await, "accepted 9");
    reader.run("COMMIT").await;
    altering.await.unwrap();
    until("decided", async || stored(&app, "stock", "1").await == ["a accepted 8"]).await;
}

async fn queue_and_ask(db: &Database, order: &str) -> Duration {
    let app = db.connect("app").await;
    app.run(&format!("SELECT bulkhead.enqueue_decrement('stock', '{order}', 'a', 1)")).await;
    let start = Instant::now();
    until("decided", async || !stored(&app, "stock", order).await.is_empty()).await;
    start.elapsed()
}

/// The limit is generous: the benchmark measures it.
async fn what_is_queued_is_decided_at_once(db: WithWorkers) {
    let owner = stock(&db).await;
    queue_and_ask(&db, "warm").await;
    let mut times = Vec::new();
    for order in ["1", "2", "3", "4", "5"] {
        times.push(queue_and_ask(&db, order).await);
    }
    times.sort();
    assert!(times[2] < Duration::from_millis(500), "{times:?}");
    // Not before the commit, and not after a rollback.
    let app = db.connect("app").await;
    app.run("BEGIN; SELECT bulkhead.enqueue_decrement('stock', 'never', 'a', 1); ROLLBACK").await;
    app.run("BEGIN; SELECT bulkhead.enqueue_decrement('stock', 'prepared', 'a', 1); PREPARE TRANSACTION 'queued'")
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(stored(&app, "stock", "never").await.is_empty() && stored(&app, "stock", "prepared").await.is_empty());
    app.run("COMMIT PREPARED 'queued'").await;
    until("decided", async || stored(&app, "stock", "prepared").await == ["a accepted 3"]).await;
    assert_eq!(left(&owner).await[0], "a 3");
}

async fn an_order_decided_elsewhere_is_waited_for(db: WithWorkers) {
    let owner = stock(&db).await;
    let app = db.connect("app").await;
    buy(&app, "stock", "warm", "nowhere", 1).await;
    owner.run("BEGIN; SELECT FROM bulkhead.decrement_inventory('stock', '1', 'nowhere', 1)").await;
    let same = {
        let app = db.connect("app").await;
        tokio::spawn(async move { try_to_buy(&app, "stock", "1", "nowhere", 1).await.unwrap() })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!same.is_finished());
    assert_eq!(buy(&app, "stock", "2", "a", 1).await, "accepted 9");
    owner.run("COMMIT").await;
    assert_eq!(same.await.unwrap(), "unknown_item ");
    app.refused(&now("nothing", "1", "a", 1)).await.state("42P01");
}
