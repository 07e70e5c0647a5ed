//! Queueing: what is taken, in which order, and what the queue costs.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{A, B, acting, left, shops, stock, stored};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        an_order_is_decided_by_a_drain,
        what_cannot_be_queued_is_refused,
        in_the_order_of_arrival,
        what_is_committed_late_is_decided_late,
        the_queue_does_not_grow => 300,
        an_old_snapshot_does_not_make_it_grow => 300,
        the_queue_of_another_inventory_is_in_nobodys_way => 300,
        many_orders_that_nobody_drains_move_on => 300,
        it_is_sealed,
    ]
}

async fn drain(db: &Database, table: &str) {
    db.connect("postgres").await.run(&format!("CALL bulkhead.drain_inventory('{table}')")).await;
}

async fn an_order_is_decided_by_a_drain(db: Database) {
    stock(&db).await;
    let app = db.connect("app").await;
    assert_eq!(app.one("SELECT bulkhead.enqueue_decrement('stock', '1', 'a', 4)").await, "1");
    app.run("SELECT bulkhead.enqueue_decrement('stock', '2', ARRAY['a', 'b'], ARRAY[1, 6])").await;
    app.run("SELECT bulkhead.enqueue_decrement('stock', '3', ARRAY['b', 'a'], ARRAY[5, 6])").await;
    app.run("SELECT bulkhead.enqueue_decrement('stock', '1', 'a', 4)").await;
    app.run("SELECT bulkhead.enqueue_decrement('stock', '1', 'a', 5)").await;
    app.run("SELECT bulkhead.enqueue_decrement('stock', '4', 'zz', NULL::bigint)").await;
    assert!(stored(&app, "stock", "1").await.is_empty(), "nothing is decided yet");
    assert_eq!(left(&app).await, ["a 10", "b 5", "c 0"]);
    drain(&db, "stock").await;
    assert_eq!(stored(&app, "stock", "1").await, ["a accepted 6"]);
    assert_eq!(stored(&app, "stock", "2").await, ["a rejected 6", "b insufficient 5"]);
    assert_eq!(stored(&app, "stock", "3").await, ["b accepted 0", "a accepted 0"]);
    assert_eq!(stored(&app, "stock", "4").await, ["zz invalid NULL"]);
    assert_eq!(left(&app).await, ["a 0", "b 0", "c 0"]);
    drain(&db, "stock").await;
    assert_eq!(left(&app).await, ["a 0", "b 0", "c 0"]);
}

async fn what_cannot_be_queued_is_refused(db: Database) {
    stock(&db).await;
    let app = db.connect("app").await;
    for arguments in [
        "'stock', NULL, 'a', 1",
        "'stock', '', 'a', 1",
        "'stock', '1', ARRAY['a'], ARRAY[1, 2]",
        "'stock', '1', '{}'::text[], '{}'::bigint[]",
        "'stock', '1', NULL::text[], '{1}'::bigint[]",
        "'stock', '1', array_fill('a'::text, ARRAY[1001]), array_fill(1::bigint, ARRAY[1001])",
        "NULL, '1', 'a', 1",
    ] {
        app.refused(&format!("SELECT bulkhead.enqueue_decrement({arguments})")).await.state("22023");
    }
    app.refused("SELECT bulkhead.enqueue_decrement('pg_class', '1', 'a', 1)").await.state("55000");
    // Rolled back, it was never there.
    app.run("BEGIN; SELECT bulkhead.enqueue_decrement('stock', '1', 'a', 1); ROLLBACK").await;
    drain(&db, "stock").await;
    assert_eq!(left(&app).await, ["a 10", "b 5", "c 0"]);
}

async fn in_the_order_of_arrival(db: Database) {
    stock(&db).await;
    db.admin("UPDATE stock SET stock = 1000 WHERE sku = 'a'").unwrap();
    let app = db.connect("app").await;
    app.run("SELECT count(bulkhead.enqueue_decrement('stock', n::text, 'a', 1)) FROM generate_series(1, 3000) n").await;
    // In batches of 7, by three sessions in turn.
    let sessions = [db.connect("postgres").await, db.connect("postgres").await, db.connect("postgres").await];
    for round in 0..30 {
        sessions[round % 3].run("CALL bulkhead.drain_inventory('stock', 7, 5)").await;
    }
    let decided = db
        .admin("SELECT count(*), max(order_id::int), bool_and(remaining = 1000 - order_id::int) FROM bulkhead.order_verdict")
        .unwrap();
    assert_eq!(decided, "1050|1050|f");
    let first = "SELECT bool_and(verdict = 'a' AND remaining = 1000 - order_id::int) FROM bulkhead.order_verdict WHERE order_id::int <= 1000";
    assert_eq!(db.admin(first).unwrap(), "t");
    drain(&db, "stock").await;
    let rest = "SELECT count(*), count(*) FILTER (WHERE verdict = 'i') FROM bulkhead.order_verdict";
    assert_eq!(db.admin(rest).unwrap(), "3000|2000");
}

async fn what_is_committed_late_is_decided_late(db: Database) {
    stock(&db).await;
    let (late, app, drainer) = (db.connect("app").await, db.connect("app").await, db.connect("postgres").await);
    for round in 0..4 {
        late.run("BEGIN").await;
        late.run(&format!("SELECT bulkhead.enqueue_decrement('stock', 'late {round}', 'a', 1)")).await;
        app.run(&format!("SELECT bulkhead.enqueue_decrement('stock', 'early {round}', 'b', 1)")).await;
        drainer.run("CALL bulkhead.drain_inventory('stock')").await;
        assert_eq!(stored(&app, "stock", &format!("early {round}")).await.len(), 1);
        assert!(stored(&app, "stock", &format!("late {round}")).await.is_empty());
        late.run("COMMIT").await;
        drainer.run("CALL bulkhead.drain_inventory('stock')").await;
        assert_eq!(stored(&app, "stock", &format!("late {round}")).await.len(), 1);
    }
    assert_eq!(left(&app).await, ["a 6", "b 1", "c 0"]);
}

/// Kilobytes of all tables of the queue.
fn size(db: &Database) -> i64 {
    let sql = "SELECT sum(pg_total_relation_size(format('bulkhead.inventory_queue_%s', n))) / 1024 FROM generate_series(0, 3) n";
    db.admin(sql).unwrap().parse::<f64>().unwrap() as i64
}

/// Queues and drains, so many rounds of 20,000.
async fn keep_busy(db: &Database, table: &str, rounds: i32) {
    let (app, drainer) = (db.connect("app").await, db.connect("postgres").await);
    for round in 0..rounds {
        app.run(&format!(
            "SELECT count(bulkhead.enqueue_decrement('{table}', '{round} ' || n, 'a', 1)) FROM generate_series(1, 20000) n"
        ))
        .await;
        drainer.run(&format!("CALL bulkhead.drain_inventory('{table}', 5000)")).await;
    }
}

async fn the_queue_does_not_grow(db: Database) {
    stock(&db).await;
    keep_busy(&db, "stock", 20).await;
    let size = size(&db);
    assert!(size < 40_000, "{size} kB after 400,000 orders");
    assert_eq!(db.admin("SELECT count(*) FROM bulkhead.order_verdict").unwrap(), "400000");
}

async fn an_old_snapshot_does_not_make_it_grow(db: Database) {
    stock(&db).await;
    let old = db.connect("app").await;
    old.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM stock").await;
    keep_busy(&db, "stock", 20).await;
    let size = size(&db);
    assert!(size < 40_000, "{size} kB after 400,000 orders");
    assert_eq!(old.one("SELECT stock FROM stock WHERE sku = 'a'").await, "10");
}

/// An order for a table that nobody drains moves from table to table, and is decided in the end.
async fn the_queue_of_another_inventory_is_in_nobodys_way(db: Database) {
    let owner = stock(&db).await;
    owner
        .run("CREATE TABLE other (id text PRIMARY KEY, quantity int); INSERT INTO other VALUES ('o', 9); SELECT bulkhead.register_inventory('other')")
        .await;
    owner.run("SELECT bulkhead.enqueue_decrement('other', 'waits', 'o', 2)").await;
    keep_busy(&db, "stock", 20).await;
    let size = size(&db);
    assert!(size < 40_000, "{size} kB after 400,000 orders");
    assert!(stored(&owner, "other", "waits").await.is_empty());
    drain(&db, "other").await;
    assert_eq!(stored(&owner, "other", "waits").await, ["o accepted 7"]);
}

/// More than are moved at once: they move on in steps, and stay in the order of their arrival, also for a session that knew where they lay.
async fn many_orders_that_nobody_drains_move_on(db: Database) {
    let owner = stock(&db).await;
    owner
        .run("CREATE TABLE other (id text PRIMARY KEY, quantity int); INSERT INTO other VALUES ('o', 90000); SELECT bulkhead.register_inventory('other')")
        .await;
    owner
        .run("SELECT count(bulkhead.enqueue_decrement('other', n::text, 'o', 1)) FROM generate_series(1, 20000) n")
        .await;
    let (first, second) = (db.connect("postgres").await, db.connect("postgres").await);
    first.run("CALL bulkhead.drain_inventory('other', 10, 1)").await;
    let file = "SELECT pg_relation_filenode('bulkhead.inventory_queue_0')";
    let before = db.admin(file).unwrap();
    // The turn of the last of the four tables: the first one is needed next.
    db.admin("SELECT setval('bulkhead.inventory_request_number', 3 * 65536 + 100)").unwrap();
    let round = async |n: i32| {
        owner.run(&format!("SELECT bulkhead.enqueue_decrement('stock', '{n}', 'a', 1)")).await;
        second.run("CALL bulkhead.drain_inventory('stock', 10, 1)").await;
    };
    round(0).await;
    let moved = "SELECT count(*) FROM bulkhead.inventory_queue_3";
    assert_eq!(db.admin(moved).unwrap(), "1000");
    first.run("CALL bulkhead.drain_inventory('other', 2500, 1)").await;
    let decided = "SELECT count(*), max(order_id::int), bool_and(remaining = 90000 - order_id::int) FROM bulkhead.order_verdict WHERE item = 'o'";
    assert_eq!(db.admin(decided).unwrap(), "2510|2510|t");
    for n in 1..20 {
        round(n).await;
    }
    assert_ne!(db.admin(file).unwrap(), before, "the table was emptied");
    assert_eq!(db.admin(moved).unwrap(), "17490");
    first.run("CALL bulkhead.drain_inventory('other', 1500)").await;
    assert_eq!(db.admin(decided).unwrap(), "20000|20000|t");
}

async fn it_is_sealed(db: Database) {
    shops(&db).await;
    let (a, b) = (acting(&db, "app", A).await, acting(&db, "app", B).await);
    a.run("SELECT bulkhead.enqueue_decrement('shops', '1', 'x', 1)").await;
    b.run("SELECT bulkhead.enqueue_decrement('shops', '1', 'y', 1)").await;
    b.run("SELECT bulkhead.enqueue_decrement('shops', '2', 'x', 1)").await;
    let count = "SELECT count(*) FROM bulkhead.inventory_queue_0";
    a.refused(count).await.state("42501");
    db.connect("postgres").await.refused(count).await.state("42501").message_contains("no tenant context");
    assert_eq!(acting(&db, "postgres", A).await.one(count).await, "1");
    drain(&db, "shops").await;
    assert_eq!(stored(&a, "shops", "1").await, ["x accepted 9"]);
    assert_eq!(stored(&b, "shops", "1").await, ["y accepted 6"]);
    assert_eq!(stored(&b, "shops", "2").await, ["x accepted 2"]);
    assert_eq!(acting(&db, "postgres", A).await.one("SELECT count(*) FROM bulkhead.order_verdict").await, "1");
}
