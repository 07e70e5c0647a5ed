//! The server is killed under a load of all rooms, and nothing that was promised is lost. `cargo run --bin chaos` is the long version.

use libtest_mimic::Trial;
use pg_test::chaos::{self, Options, checks};

use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![what_was_promised_outlives_six_kills => 300]
}

/// Breaks one promise each, past the seal, and what is then said of it.
const DAMAGES: [(&str, &str); 12] = [
    ("UPDATE stock SET pieces = pieces + 1 WHERE tenant_id = 'ada' AND sku = 'a'", "do not balance"),
    (
        "DELETE FROM bulkhead.order_verdict WHERE tenant = 'ada' AND order_id = 'batch 0d 0 y' AND line = 1",
        "an order, batch",
    ),
    ("UPDATE bulkhead.order_verdict SET remaining = 7 WHERE tenant = 'bob' AND order_id = 'now 1d 0'", "an order, now"),
    ("DELETE FROM bulkhead.order_verdict WHERE order_id = 'queued 0 0'", "a queued order is lost"),
    ("INSERT INTO done SELECT * FROM done WHERE key = 'request 2'", "work was done twice"),
    ("UPDATE bulkhead.idempotency_key SET response = '\"nobody\"' WHERE key = 'request 4'", "a key, request 4"),
    ("DELETE FROM bulkhead.idempotency_key WHERE key = 'request 5'", "a key, request 5"),
    ("UPDATE counters SET n = 0 WHERE tenant_id = 'ada'", "counted 0"),
    ("DELETE FROM notes WHERE id = 'note 0 0'", "a row, note"),
    ("DELETE FROM archive WHERE id = 'tick 0 1'", "the expired partition"),
    ("UPDATE leads SET score = -1 WHERE id = 'lead 1'", "a wrong score"),
    ("DELETE FROM leads WHERE id = 'lead 2'", "a lead is lost"),
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
