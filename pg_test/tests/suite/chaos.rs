//! The server is killed under a load of all rooms, and nothing that was promised is lost. `cargo run --bin chaos` is the long version.
//!
//! That the checks are no formality is shown afterwards: each promise is broken by hand, past the seal, and the checks have to say so, and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use libtest_mimic::Trial;
use pg_test::chaos::{self, Options, Outcome, checks};

use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![what_was_promised_outlives_six_kills => 300]
}

/// What is done, and all that is then said of it: one fault for each text. What is copied to another day's partition is there twice.
const DAMAGES: [(&str, &[&str]); 16] = [
    ("UPDATE stock SET pieces = pieces + 1 WHERE tenant_id = 'ada' AND sku = 'a'", &[r#"balance: ["ada", "a""#]),
    (
        "DELETE FROM bulkhead.order_verdict WHERE tenant = 'ada' AND order_id = 'batch 0d 0 y' AND line = 1",
        &[r#"balance: ["ada", "a""#, "an order, batch 0d 0 y:"],
    ),
    (
        "UPDATE bulkhead.order_verdict SET remaining = 7 WHERE tenant = 'bob' AND order_id = 'now 1d 0'",
        &["an order, now 1d 0:"],
    ),
    (
        "DELETE FROM bulkhead.order_verdict WHERE order_id = 'queued 0 0'",
        &[r#"balance: ["ada", "b""#, r#"a queued order is lost: ["ada queued 0 0"]"#],
    ),
    (
        "INSERT INTO bulkhead.order_verdict (digest, decided_at, quantity, remaining, relation, line, verdict, tenant, order_id, item)
         SELECT digest, decided_at + interval '1 day', quantity, remaining, relation, line, verdict, tenant, order_id, item
           FROM bulkhead.order_verdict WHERE tenant = 'cid' AND order_id = 'now 2d 0'",
        &[r#"an order was decided twice: ["cid", "now 2d 0", "1"]"#, r#"balance: ["cid", "a""#],
    ),
    (
        "INSERT INTO done SELECT * FROM done WHERE tenant_id = 'ada' AND key = 'request 2'",
        &[r#"work was done twice: ["ada", "request 2"]"#, "a key, request 2:"],
    ),
    (
        "UPDATE bulkhead.idempotency_key SET response = '\"nobody\"' WHERE tenant = 'ada' AND key = 'request 4'",
        &["a key, request 4:"],
    ),
    (
        "INSERT INTO bulkhead.idempotency_key (digest, claimed_at, lease_until, fence, attempt, stage, status, tenant, key, response)
         SELECT digest, claimed_at + interval '1 day', lease_until, fence, attempt, stage, status, tenant, key, response
           FROM bulkhead.idempotency_key WHERE tenant = 'bob' AND key = 'request 6'",
        &[r#"a key is there twice: ["bob", "request 6"]"#],
    ),
    ("UPDATE counters SET n = 0 WHERE tenant_id = 'ada'", &["ada counted 0;"]),
    ("DELETE FROM notes WHERE id = 'note 0 0'", &["a row, note 0 0:"]),
    ("DELETE FROM archive WHERE id = 'tick 0 1'", &["row 1 of the expired partition 0 is lost"]),
    ("INSERT INTO archive SELECT * FROM archive WHERE id = 'tick 0 2'", &[r#"archived twice: ["tick 0 2"]"#]),
    (
        "UPDATE leads SET status = status WHERE tenant_id = 'bob' AND id = 'lead 1'",
        &[r#"a lead was scored twice: ["bob", "lead 1", "scored", "2"]"#],
    ),
    (
        "ALTER TABLE leads DISABLE TRIGGER count_write; UPDATE leads SET score = -1 WHERE tenant_id = 'ada' AND id = 'lead 1'",
        &[r#"a wrong score: ["ada", "lead 1""#],
    ),
    ("DELETE FROM leads WHERE tenant_id = 'cid' AND id = 'lead 2'", &["a lead is lost: cid lead 2"]),
    // Looking for it takes the key: nothing comes after it.
    ("DELETE FROM bulkhead.idempotency_key WHERE tenant = 'ada' AND key = 'request 8'", &["a key, request 8:"]),
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
    foreign_rows_are_noticed(&outcome).await;
    a_key_of_two_holders_is_noticed(&outcome).await;
    damages_are_noticed(&outcome).await;
}

/// A row with another tenant's text, which all roles read; and another tenant's rows, which come with the seal off where row level security does not bind.
async fn foreign_rows_are_noticed(outcome: &Outcome) {
    outcome.read_again().await;
    said(outcome, "nothing", &[]);
    let damage = "UPDATE notes SET body = 'of bob, 0' WHERE (tenant_id, id) = (SELECT tenant_id, id FROM notes WHERE tenant_id = 'ada' ORDER BY md5(id) LIMIT 1)";
    outcome.db.admin(damage).unwrap();
    outcome.read_again().await;
    let all = ["app", "svc", "postgres", "owner"]
        .map(|role| format!(r#"{role} read a foreign row for ada: ["ada", "of bob, 0"]"#));
    said(outcome, damage, &all.each_ref().map(String::as_str));
    outcome.db.admin(&damage.replace("of bob, 0", "of ada, 0")).unwrap();

    let seal = |to: &str| {
        outcome.db.admin(&format!("ALTER SYSTEM SET bulkhead.seal = {to}")).unwrap();
        outcome.db.admin("SELECT pg_reload_conf()").unwrap();
    };
    seal("off");
    tokio::time::sleep(Duration::from_millis(500)).await;
    outcome.read_again().await;
    // By the query of one table, and by the join of two.
    let past: Vec<String> = ["svc", "postgres"]
        .iter()
        .flat_map(|role| ["ada", "bob", "cid"].map(|tenant| format!("{role} read a foreign row for {tenant}: ")))
        .flat_map(|fault| [fault.clone(), fault])
        .collect();
    said(outcome, "the seal is off", &past.iter().map(String::as_str).collect::<Vec<_>>());
    seal("on");
    tokio::time::sleep(Duration::from_millis(500)).await;
    outcome.read_again().await;
    said(outcome, "nothing", &[]);
}

/// The server forgets who has a key, and the request comes once more.
async fn a_key_of_two_holders_is_noticed(outcome: &Outcome) {
    let (tenant, key) = outcome.ledger.book().completed[0].clone();
    let holder = outcome.ledger.book().keys[&(tenant, key.clone())].by.clone();
    outcome.request_again(tenant, &key, "the next").await;
    said(outcome, "nothing", &[]);
    let damage = format!("DELETE FROM bulkhead.idempotency_key WHERE tenant = '{tenant}' AND key = '{key}'");
    outcome.db.admin(&damage).unwrap();
    outcome.request_again(tenant, &key, "the next").await;
    said(outcome, &damage, &[&format!(r#"the key ("{tenant}", "{key}") was claimed by {holder} and by the next"#)]);
    // The second one did the work, too.
    let undone = format!("DELETE FROM done WHERE tenant_id = '{tenant}' AND key = '{key}' AND by = '{holder}'");
    outcome.db.admin(&undone).unwrap();
}

async fn damages_are_noticed(outcome: &Outcome) {
    checks::all(&outcome.db, &outcome.ledger).await.unwrap();
    said(outcome, "nothing", &[]);
    outcome.db.admin("UPDATE leads SET status = 'score_failed' WHERE tenant_id = 'bob' AND id = 'lead 3'").unwrap();
    checks::at_the_end(&outcome.db, &outcome.ledger).await.unwrap();
    let mut known: BTreeSet<String> = outcome.ledger.book().faults.iter().cloned().collect();
    let wanted = [
        r#"a wrong score: ["bob", "lead 3""#,
        r#"a lead was scored twice: ["bob", "lead 3""#,
        r#"not archived: ["1", "0", "0", "0"]"#,
    ];
    said(outcome, "a lead that has no score at the end", &wanted);
    for (damage, wanted) in DAMAGES {
        outcome.db.admin(damage).unwrap();
        checks::all(&outcome.db, &outcome.ledger).await.unwrap();
        // The damages before it are still there.
        outcome.ledger.book().faults.retain(|fault| known.insert(fault.clone()));
        said(outcome, damage, wanted);
    }
}

/// As many faults as wanted texts, each with one of them; then they are forgotten.
fn said(outcome: &Outcome, damage: &str, wanted: &[&str]) {
    let faults = std::mem::take(&mut outcome.ledger.book().faults);
    let mut left = faults.clone();
    for text in wanted {
        let found = left.iter().position(|fault| fault.contains(text));
        let found = found.unwrap_or_else(|| panic!("{damage}: nobody says {text}: {faults:#?}"));
        left.swap_remove(found);
    }
    assert!(left.is_empty(), "{damage}: {left:#?} is said as well");
}
