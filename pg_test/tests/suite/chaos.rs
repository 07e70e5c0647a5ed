//! The server is killed under a load of all rooms, and nothing that was promised is lost. `cargo run --bin chaos` is the long version.

use libtest_mimic::Trial;
use pg_test::chaos::{self, Options, checks};

use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![what_was_promised_outlives_six_kills => 300]
}

/// Breaks one promise each, past the seal, and what is then said of it.
const DAMAGES: [(&str, &str); 10] = [
    ("UPDATE stock SET pieces = pieces + 1 WHERE sku = 'a'", "do not balance"),
    (
        "DELETE FROM bulkhead.order_verdict WHERE ctid = (SELECT ctid FROM bulkhead.order_verdict WHERE order_id LIKE 'batch%' LIMIT 1)",
        "an order, batch",
    ),
    ("DELETE FROM bulkhead.order_verdict WHERE order_id LIKE 'queued%'", "a queued order is lost"),
    ("INSERT INTO done TABLE done LIMIT 1", "work was done twice"),
    ("UPDATE bulkhead.idempotency_key SET response = '\"nobody\"' WHERE stage = 'f'", "a key, request"),
    ("UPDATE counters SET n = 0", "counted 0"),
    ("DELETE FROM notes", "a row, note"),
    ("DELETE FROM archive; TRUNCATE ticks", "the expired partition"),
    ("UPDATE leads SET score = -1", "a wrong score"),
    ("DELETE FROM leads", "a lead is lost"),
];

async fn what_was_promised_outlives_six_kills(_: Nowhere) {
    let outcome = chaos::run(&Options { kills: 6, seed: 1, too_early: false }).await.unwrap();
    let faults = std::mem::take(&mut outcome.ledger.book().faults);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(outcome.kills.values().sum::<u32>(), 6, "{:?}", outcome.kills);
    {
        let book = outcome.ledger.book();
        let promised = [
            book.orders.len(),
            book.queued.len(),
            book.completed.len(),
            book.rows.len(),
            book.leads.len(),
            book.expired.len(),
        ];
        assert!(promised.iter().all(|count| *count >= 5) && book.read > 1_000, "{promised:?}, {} read", book.read);
    }
    // And the checks are no formality.
    for (damage, said) in DAMAGES {
        outcome.db.admin(damage).unwrap();
        checks::all(&outcome.db, &outcome.ledger).await.unwrap();
        let faults = std::mem::take(&mut outcome.ledger.book().faults);
        assert!(faults.iter().any(|fault| fault.contains(said)), "{damage}: {faults:?}");
    }
}
