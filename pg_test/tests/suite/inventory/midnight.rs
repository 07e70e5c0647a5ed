//! Midnight while orders are decided, and days that are over.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{call, decide, stock, verdicts};
use crate::fixture::midnight_in;

pub fn tests() -> Vec<Trial> {
    crate::tests![a_day_ends_while_orders_are_decided => 240, what_is_remembered_of_a_closed_day_is_right => 240]
}

/// Sessions bring orders that others bring, too, for items of their own, so that no item's lock keeps them apart: in the last second of a day and
/// the first of the next, each order has one verdict.
async fn a_day_ends_while_orders_are_decided(db: Database) {
    stock(&db).await;
    db.admin("INSERT INTO stock SELECT 'own ' || n, 1000000 FROM generate_series(0, 7) n").unwrap();
    midnight_in(&db, "order_verdict", "digest, line", 3.0);
    let ends = Instant::now() + Duration::from_millis(5500);
    let mut sessions = tokio::task::JoinSet::new();
    for number in 0..8_usize {
        let db = db.clone();
        sessions.spawn(async move {
            let client = db.connect("app").await;
            let level = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"][number % 3];
            client.run(&format!("SET default_transaction_isolation = '{level}'")).await;
            let mut round = 0;
            while Instant::now() < ends {
                round += 1;
                let (item, order) = (format!("own {number}"), format!("k{}", (round + 13 * number) / 3));
                let ask = format!("SELECT * FROM {}", call("stock", &[(&order, &item, "1")]));
                if let Err(error) = client.batch_execute(&ask).await {
                    assert_eq!(error.code().map(|code| code.code()), Some("40001"), "{error:?}");
                }
            }
        });
    }
    while let Some(session) = sessions.join_next().await {
        session.unwrap();
    }
    assert_eq!(db.admin("SELECT count(*) - count(DISTINCT digest) FROM bulkhead.order_verdict").unwrap(), "0");
    let of =
        |table: &str| db.admin(&format!("SELECT count(*) FROM bulkhead.{table}")).unwrap().parse::<usize>().unwrap();
    let (before, after) = (of("before_midnight"), of("after_midnight"));
    assert!(before > 50 && after > 50, "{before} before midnight, {after} after it");
    let sold = db.admin("SELECT 8000000 - sum(stock) FROM stock WHERE sku LIKE 'own%'").unwrap();
    assert_eq!(sold, verdicts(&db));
}

/// A session that decides much reads the index of a day that is over, and looks there no more: its orders are known all the same.
async fn what_is_remembered_of_a_closed_day_is_right(db: Database) {
    stock(&db).await;
    db.admin("UPDATE stock SET stock = 1000000").unwrap();
    let app = db.connect("app").await;
    midnight_in(&db, "order_verdict", "digest, line", 4.0);
    let orders = |from: i32, to: i32| {
        format!(
            "SELECT verdict, count(*), min(remaining) FROM (SELECT array_agg('o' || n ORDER BY n) ids, array_agg('a'::text) items, array_agg(1::bigint) ones
               FROM generate_series({from}, {to}) n) l, bulkhead.decrement_inventory('stock', ids, items, ones) GROUP BY verdict ORDER BY verdict"
        )
    };
    assert_eq!(app.rows(&orders(1, 5000)).await, [["accepted", "5000", "995000"]]);
    app.run("SELECT pg_sleep(4.1)").await;
    // Enough of them to be worth it, several times over.
    for round in 1..40 {
        let (from, to) = (round * 5000 + 1, (round + 1) * 5000);
        let rows = app.rows(&orders(from, to)).await;
        assert_eq!(rows, [["accepted".to_owned(), "5000".to_owned(), (1_000_000 - to).to_string()]]);
    }
    assert_eq!(app.rows(&orders(1, 5000)).await, [["accepted", "5000", "995000"]], "known");
    assert_eq!(decide(&app, "stock", &[("o1", "a", "2")]).await, ["conflict NULL"]);
    assert_eq!(app.one("SELECT bulkhead.release_order('stock', 'o1')").await, "1");
    assert_eq!(app.one("SELECT bulkhead.release_order('stock', 'o1')").await, "0");
    assert_eq!(db.admin("SELECT stock FROM stock WHERE sku = 'a'").unwrap(), (1_000_000 - 200_000 + 1).to_string());
    assert_eq!(verdicts(&db), "200000");
}
