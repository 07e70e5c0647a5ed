//! Nothing that waits is lost, decided on another's account, or keeps the rest from its turn.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{acting, left, stock};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        room_that_vacuum_made_is_looked_into,
        batches_that_were_rolled_back_are_drained_again,
        what_was_queued_under_another_border_is_set_aside,
        a_code_that_a_trigger_chose_stops_no_drain,
        a_batch_that_meets_a_conflict_leaves_nothing,
        a_queued_order_is_no_larger_than_a_drain_can_hold,
    ]
}

const DRAIN: &str = "CALL bulkhead.drain_inventory('stock')";

fn many(from: u32, to: u32) -> String {
    format!("SELECT count(bulkhead.enqueue_decrement('stock', 'o' || n, 'a', 1)) FROM generate_series({from}, {to}) n")
}

async fn room_that_vacuum_made_is_looked_into(db: Database) {
    let owner = stock(&db).await;
    db.admin("UPDATE stock SET stock = 10000").unwrap();
    let drainer = db.connect("postgres").await;
    // All pages but the last are full, and then as good as new.
    for round in 0..3 {
        owner.run(&many(round * 1_000, round * 1_000 + 999)).await;
        drainer.run(DRAIN).await;
        assert_eq!(left(&owner).await[0], format!("a {}", 9_000 - 1_000 * round));
        db.admin("VACUUM bulkhead.inventory_queue_0").unwrap();
    }
}

async fn batches_that_were_rolled_back_are_drained_again(db: Database) {
    let owner = stock(&db).await;
    let drainer = db.connect("postgres").await;
    let batch = "SELECT done FROM bulkhead.drain_batch('stock', 100, NULL)";
    owner.run(&many(1, 3)).await;
    drainer.run(&format!("BEGIN; {batch}; {batch}; ROLLBACK")).await;
    assert_eq!(left(&owner).await[0], "a 10");
    drainer.run(DRAIN).await;
    assert_eq!(left(&owner).await[0], "a 7");
    owner.run(&many(4, 6)).await;
    drainer.run(&format!("BEGIN; SAVEPOINT s; {batch}; {batch}; ROLLBACK TO s")).await;
    assert_eq!(drainer.one(batch).await, "3");
    assert_eq!(drainer.one(batch).await, "0");
    drainer.run("COMMIT").await;
    assert_eq!(left(&owner).await[0], "a 4");
}

/// Two tenants' orders, and then one row for both: each would be decided as though the other were not.
async fn what_was_queued_under_another_border_is_set_aside(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE shops (tenant_id text NOT NULL, id text PRIMARY KEY, quantity bigint NOT NULL);
             INSERT INTO shops VALUES ('A', 'x', 10);
             SELECT bulkhead.protect('shops');
             SELECT bulkhead.register_inventory('shops')",
        )
        .await;
    for (tenant, order) in [("A", "1"), ("B", "2")] {
        let client = acting(&db, "app", tenant).await;
        client.run(&format!("SELECT bulkhead.enqueue_decrement('shops', '{order}', 'x', 8)")).await;
    }
    let drain = "CALL bulkhead.drain_inventory('shops')";
    let boss = db.connect("postgres").await;
    boss.run("BEGIN; SELECT bulkhead.begin_bypass('test'); SELECT bulkhead.unprotect('shops'); COMMIT").await;
    owner
        .run(
            "SELECT bulkhead.register_inventory('shops');
             SELECT bulkhead.enqueue_decrement('shops', '3', 'x', 8)",
        )
        .await;
    boss.run(drain).await;
    assert_eq!(boss.one("SELECT quantity FROM shops").await, "2");
    let poison = "SELECT tenant, order_id, sqlstate FROM bulkhead.inventory_poison ORDER BY number";
    assert_eq!(db.admin(poison).unwrap(), "A|1|55000\nB|2|55000");

    // And the other way: it does not stand in the way of the tenants' orders.
    owner
        .run(
            "SELECT bulkhead.enqueue_decrement('shops', '4', 'x', 1);
             SELECT bulkhead.protect('shops');
             SELECT bulkhead.register_inventory('shops')",
        )
        .await;
    let client = acting(&db, "app", "A").await;
    client.run("SELECT bulkhead.enqueue_decrement('shops', '5', 'x', 1)").await;
    boss.run(drain).await;
    assert_eq!(client.one("SELECT quantity FROM shops").await, "1");
    assert_eq!(client.one("SELECT verdict FROM bulkhead.order_verdicts('shops', '5')").await, "accepted");
    assert_eq!(db.admin(poison).unwrap().lines().nth(2), Some("|4|55000"));
}

async fn a_code_that_a_trigger_chose_stops_no_drain(db: Database) {
    let owner = stock(&db).await;
    owner
        .run(
            "CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF new.sku = 'a' THEN RAISE 'no a' USING ERRCODE = 'SHOP1'; END IF;
               IF new.sku = 'b' THEN RAISE 'no b' USING ERRCODE = '42501'; END IF;
               RETURN new; END $$;
             CREATE TRIGGER picky BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION picky();
             INSERT INTO stock VALUES ('d', 3);
             SELECT bulkhead.enqueue_decrement('stock', '1', 'a', 1);
             SELECT bulkhead.enqueue_decrement('stock', '2', 'b', 1);
             SELECT bulkhead.enqueue_decrement('stock', '3', 'd', 1)",
        )
        .await;
    db.connect("postgres").await.run(DRAIN).await;
    assert_eq!(left(&owner).await, ["a 10", "b 5", "c 0", "d 2"]);
    let poisoned = "SELECT order_id, reason FROM bulkhead.poisoned_orders('stock')";
    assert_eq!(owner.rows(poisoned).await, [["1", "no a"], ["2", "no b"]]);
}

async fn a_batch_that_meets_a_conflict_leaves_nothing(db: Database) {
    let owner = stock(&db).await;
    owner
        .run(
            "CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF new.sku = 'a' THEN RAISE 'no a'; END IF;
               RETURN new; END $$;
             CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF new.sku = 'b' THEN RAISE 'not now' USING ERRCODE = '40001'; END IF;
               RETURN new; END $$;
             CREATE TRIGGER picky BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION picky();
             CREATE TRIGGER late AFTER UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION late();
             SELECT bulkhead.enqueue_decrement('stock', '1', 'a', 1);
             SELECT bulkhead.enqueue_decrement('stock', '2', 'b', 1)",
        )
        .await;
    let drainer = db.connect("postgres").await;
    let poisoned = "SELECT order_id FROM bulkhead.poisoned_orders('stock')";
    drainer.refused(DRAIN).await.state("40001");
    assert!(owner.column(poisoned).await.is_empty());
    owner.run("DROP TRIGGER late ON stock").await;
    drainer.run(DRAIN).await;
    assert_eq!(owner.column(poisoned).await, ["1"]);
    assert_eq!(left(&owner).await, ["a 10", "b 4", "c 0"]);
}

async fn a_queued_order_is_no_larger_than_a_drain_can_hold(db: Database) {
    let owner = stock(&db).await;
    let long = |id: u32, item: u32| {
        format!("SELECT bulkhead.enqueue_decrement('stock', repeat('o', {id}), ARRAY[repeat('a', {item})], ARRAY[1])")
    };
    owner.refused(&long(1_025, 1)).await.state("22023").message("order_id has 1025 bytes, and with the items 1026");
    owner.refused(&long(1, 128 * 1_024)).await.state("22023");
    owner.run(&long(1_024, 127 * 1_024)).await;
    db.connect("postgres").await.run(DRAIN).await;
    assert_eq!(
        owner.one("SELECT verdict FROM bulkhead.order_verdicts('stock', repeat('o', 1024))").await,
        "unknown_item"
    );
}
