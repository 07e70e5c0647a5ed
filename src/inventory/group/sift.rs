//! After a failure: which order is it?
//!
//! The orders of a table are halved until the one that fails is found. It stops after a while, so that everybody else is not kept waiting by what waits for a lock; what was not tried then
//! comes first the next time.

use std::time::Instant;

use super::super::ledger::Ledger;
use super::super::many::{self, Halving};
use super::round::{self, Became, Opened, Taken};
use crate::error::Result;
use crate::pg::{constraints, settings, subtransaction};

/// Decides the orders in the current transaction: each table by itself, and of its orders the one that fails.
pub fn one_by_one(taken: &[Taken]) -> Result<Vec<Became>> {
    // What one order of many waits for, all wait for.
    settings::set_local(c"lock_timeout", "5ms");
    constraints::immediate();
    let begun = Instant::now();
    let is_over = || begun.elapsed() > many::SIFTING;
    let mut became = round::all_left(taken);
    for (relation, places) in round::by_table(taken) {
        if is_over() {
            break;
        }
        let decide = || {
            let mut inner = round::all_left(taken);
            let Some(Opened { inventory, places, orders }) = round::open(relation, &places, taken, &mut inner)? else {
                return Ok(inner);
            };
            // Today's partition is there before anybody is judged.
            if let Err(failure) = subtransaction::kept(|| false, || Ledger::open().map(drop)) {
                for (at, one) in places.iter().zip(Became::nobodys(&failure, orders.len())) {
                    inner[*at] = one;
                }
                return Ok(inner);
            }
            let halving = Halving {
                inventory: &inventory,
                busy: round::busy(&orders),
                told: &Became::of,
                is_an_orders: &many::may_be_an_orders,
                failed: &|_: &Taken, failure| Ok(Became::failure(&failure)),
                is_over: &is_over,
                untried: &|| Became::Left,
            };
            let decided = match halving.decide(&orders) {
                Ok(decided) => decided,
                Err(failure) => Became::nobodys(&failure, orders.len()),
            };
            for (at, one) in places.iter().zip(decided) {
                inner[*at] = one;
            }
            Ok(inner)
        };
        let mut came = match subtransaction::kept(|| false, decide) {
            Ok(came) => came,
            // Before any order was looked at: it is about the table.
            Err(failure) => taken.iter().map(|_| Became::failure(&failure)).collect(),
        };
        for at in places {
            became[at] = std::mem::replace(&mut came[at], Became::Left);
        }
    }
    Ok(became)
}
