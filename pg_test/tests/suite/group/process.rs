//! The worker as a process: what it is sent, what it is set to, what it leaves behind.

use std::time::Duration;

use libtest_mimic::Trial;

use super::fixture::{buy, stock, worker};
use crate::harness::WithWorkers;

pub fn tests() -> Vec<Trial> {
    crate::tests![a_cancel_ends_no_worker]
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
