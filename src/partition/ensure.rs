//! Partitions at once, for a statement that needs one and finds none: the first after an outage of maintain(), or the first of all.

use pgrx::prelude::*;

use super::{ledger, make, table};
use crate::error::{self, Result};
use crate::pg::{locks, scan, security, settings, worker};

const WORKER_MILLISECONDS: i64 = 10_000;

/// All that the table lacks, in this transaction; how many partitions were made.
pub fn make_all(parent: pg_sys::Oid) -> Result<i32> {
    settings::in_utc(|| {
        let now = ledger::now();
        let mut made = 0;
        loop {
            pgrx::check_for_interrupts!();
            match make::next(parent, now)? {
                Ok(None) => return Ok(made),
                Ok(Some(_)) => made += 1,
                Err(busy) => return Err(error::busy(format!("{busy} is in use, and a new partition refers to it"))),
            }
        }
    })
}

/// Makes the partitions of a managed table that lacks one for now, in a transaction of their own, so that no caller waits for
/// another's; in the caller's where no process can be had for that. Any number of callers at once make them once.
///
/// Errors: 55P03 when the table is being altered all the time. Takes the table's lock for this (pg::locks) while it works; it keeps that to the end
/// of the transaction only where the partitions are the caller's own.
pub fn ensure(parent: pg_sys::Oid) -> Result<()> {
    if !lacks(parent)? {
        return Ok(());
    }
    let before = scan::family(parent, pg_sys::NoLock as i32).len();
    locks::begin_making(parent);
    // A transaction with an old snapshot sees no new partition in a query; the server's own look-ups do.
    let others_did = || {
        security::catch_up();
        scan::family(parent, pg_sys::NoLock as i32).len() > before
    };
    if others_did() || !lacks(parent)? {
        locks::end_making(parent);
        return Ok(());
    }
    if worker::make_partitions(parent, WORKER_MILLISECONDS) && (others_did() || !lacks(parent)?) {
        locks::end_making(parent);
        return Ok(());
    }
    // Its own transaction may be the one that made the table.
    make_all(parent).map(drop)
}

/// Whether the managed table has no partition for now.
fn lacks(parent: pg_sys::Oid) -> Result<bool> {
    if !security::exists(parent) {
        return Ok(false);
    }
    settings::in_utc(|| {
        let now = ledger::now();
        Ok(table::read(parent)?.is_some_and(|table| table.rule.runway(&table.ranges(), now) == 0))
    })
}
