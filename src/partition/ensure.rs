//! Partitions at once, for a statement that needs one and finds none: the first after an outage of maintain(), or the first of all.

use std::rc::Rc;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::make::{self, Wanted};
use super::{ledger, table};
use crate::error::{self, Result};
use crate::pg::partitions::Leaves;
use crate::pg::{keys, own_locks, relations, security, settings, worker};

const WORKER_MILLISECONDS: i64 = 10_000;

/// Partitions that one call makes: somebody waits for it, and each one's locks stay until its transaction ends.
const MOST: usize = 32;

/// The partition for now and those ahead, in this transaction, as far as the table lacks them. Holes of the past, of which there may be thousands
/// after an outage, are left to maintain().
pub fn make_present(parent: pg_sys::Oid) -> Result<()> {
    settings::in_utc(|| {
        let now = ledger::now();
        for _ in 0..MOST {
            pgrx::check_for_interrupts!();
            match make::next(parent, now, Wanted::Ahead)? {
                Ok(None) => break,
                Ok(Some(_)) => {}
                Err(busy) => return Err(error::busy(format!("{busy} is in use, and a new partition refers to it"))),
            }
        }
        Ok(())
    })
}

/// Makes the partitions of a managed table that lacks one for now, in a transaction of their own, so that no caller waits for
/// another's; in the caller's where no process can be had for that. Any number of callers at once make them once.
///
/// Errors: 55P03 when the table is being altered all the time. Takes the table's lock for this (pg::locks) while it works; it keeps that to the end
/// of the transaction only where the partitions are the caller's own.
///
/// `is_there`: whether there is one, by the server's own look-ups and not by a query: a transaction with an old snapshot sees no new
/// partition in that.
pub fn ensure(parent: pg_sys::Oid, is_there: impl Fn() -> Result<bool>) -> Result<()> {
    if is_there()? {
        return Ok(());
    }
    own_locks::begin_making(parent);
    if is_there()? || (worker::make_partitions(parent, WORKER_MILLISECONDS) && is_there()?) {
        own_locks::end_making(parent);
        return Ok(());
    }
    // Its own transaction may be the one that made the table.
    make_present(parent)
}

/// The same for a table of the extension's own, whose partitions the server's look-ups give.
pub fn ensure_ours(parent: pg_sys::Oid, leaves: impl Fn() -> Result<Rc<Leaves>>) -> Result<()> {
    ensure(parent, || {
        security::catch_up();
        Ok(leaves()?.at(keys::now()).is_some())
    })
}

/// It was tried again and again, and there is none.
pub fn not_there(table: &str) -> ErrorReport {
    error::state(
        format!("{table} has no partition for the present time"),
        "It could not be made.",
        "CALL bulkhead.maintain(); then look at bulkhead.maintenance_log.",
    )
}

/// The same for any managed table.
pub fn ensure_managed(parent: pg_sys::Oid) -> Result<()> {
    let before = relations::unlocked_family(parent).len();
    ensure(parent, || {
        security::catch_up();
        Ok(relations::unlocked_family(parent).len() > before || !lacks(parent)?)
    })
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
