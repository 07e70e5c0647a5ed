//! After a failure: which order is it?
//!
//! First each table by itself; then the orders of those that fail are halved until the one that does is found. It stops after a while, so that everybody else is not kept waiting by what
//! waits for a lock.

use std::cell::Cell;
use std::time::Instant;

use super::super::many::{self, Bisection};
use super::super::verdict_store::VerdictStore;
use super::became::Became;
use super::round::Taken;
use super::tables::{self, Opened};
use crate::error::Result;
use crate::pg::subtransaction::{self, Failure};
use crate::pg::{constraints, lock_timeout};

/// Decides the orders in the current transaction.
pub fn one_by_one(taken: &[Taken]) -> Result<Vec<Became>> {
    // What one order of many waits for, all wait for.
    lock_timeout::set(lock_timeout::ORDER);
    constraints::immediate();
    let begun = Instant::now();
    let mut became: Vec<Became> = taken.iter().map(|_| Became::Untried).collect();
    let mut failing = Vec::new();
    for (relation, places) in tables::by_table(taken) {
        match subtransaction::kept(|| false, || tables::whole(relation, &places, taken)) {
            Ok(came) => tables::put(&mut became, &places, came),
            Err(_) => failing.push((relation, places)),
        }
    }
    for (relation, places) in failing {
        let bisected = || bisected(relation, &places, taken, begun);
        match subtransaction::kept(|| false, bisected) {
            Ok(came) => tables::put(&mut became, &places, came),
            // Before any order was looked at: it is about the table.
            Err(failure) => {
                let came = taken.iter().map(|_| Became::failure(&failure)).collect();
                tables::put(&mut became, &places, came);
            }
        }
    }
    Ok(became)
}

/// The orders of a table, and the one that fails apart.
fn bisected(relation: pgrx::pg_sys::Oid, places: &[usize], taken: &[Taken], begun: Instant) -> Result<Vec<Became>> {
    let mut inner = tables::all_left(taken);
    let Some(Opened { inventory, places, orders }) = tables::open(relation, places, taken, &mut inner)? else {
        return Ok(inner);
    };
    let bisection = Bisection {
        inventory: &inventory,
        busy: tables::busy(&orders),
        told: &Became::of,
        is_an_orders: &many::may_be_an_orders,
        failed: &|_: &Taken, failure| Ok(Became::failure(&failure)),
        is_over: &|| begun.elapsed() > many::BISECTION_TIME,
        untried: &|| Became::Untried,
        has_judged: Cell::new(false),
    };
    // Today's partition is there before anybody is judged.
    let decided: std::result::Result<Vec<Became>, Failure> =
        subtransaction::kept(|| false, || VerdictStore::open().map(drop)).and_then(|()| bisection.decide(&orders));
    let decided = decided.unwrap_or_else(|failure| Became::nobodys(&failure, orders.len()));
    for (at, one) in places.iter().zip(decided) {
        inner[*at] = one;
    }
    Ok(inner)
}
