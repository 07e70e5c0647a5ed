//! What can be seen now, in a few numbers: while they stay the same, so does the answer to what is active.
//!
//! A snapshot is known by its horizon and by how many transactions were under way behind it: with the same horizon that number can only fall, and every fall is
//! a transaction that ended. Only a transaction that is being prepared is counted twice for a while, as long as a synchronous standby takes: where there can be such,
//! the sum of their ids is compared as well. What the own transaction wrote adds the command and, after a rollback to a savepoint, the number of rollbacks.

use std::cell::Cell;

use pgrx::prelude::*;

use super::super::cell::PerBackend;
use super::super::transaction;

unsafe extern "C-unwind" {
    // Without the guard that pgrx puts around its bindings: they read variables, raise nothing here, and are asked for each row.
    fn ActiveSnapshotSet() -> bool;
    fn GetActiveSnapshot() -> pg_sys::Snapshot;
    fn GetTopTransactionIdIfAny() -> pg_sys::TransactionId;
    static max_prepared_xacts: std::ffi::c_int;
}

/// Rollbacks of savepoints and transactions in this backend.
static ROLLBACKS: PerBackend<Cell<u64>> = PerBackend::new(Cell::new(0));

/// A savepoint was rolled back.
pub fn rolled_back() {
    ROLLBACKS.set(ROLLBACKS.get() + 1);
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    xmin: u32,
    xmax: u32,
    running: u32,
    running_below: i32,
    /// The sum of what runs, where transactions may be prepared.
    sum: u64,
    /// Zero while the transaction has written nothing.
    command: u32,
    transaction: u64,
    rollbacks: u64,
}

impl Moment {
    /// None where there is no snapshot, and nothing can be looked up.
    #[inline]
    pub fn now() -> Option<Moment> {
        // SAFETY: the active snapshot is valid until it is popped, which nothing here does.
        unsafe {
            if !ActiveSnapshotSet() {
                return None;
            }
            let snapshot = &*GetActiveSnapshot();
            let wrote = GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId;
            Some(Moment {
                xmin: snapshot.xmin.into_inner(),
                xmax: snapshot.xmax.into_inner(),
                running: snapshot.xcnt,
                running_below: snapshot.subxcnt,
                sum: if max_prepared_xacts > 0 { sum(snapshot) } else { 0 },
                command: if wrote { snapshot.curcid } else { 0 },
                transaction: if wrote { transaction::number() } else { 0 },
                rollbacks: ROLLBACKS.get(),
            })
        }
    }
}

fn sum(snapshot: &pg_sys::SnapshotData) -> u64 {
    if snapshot.xip.is_null() {
        return 0;
    }
    // SAFETY: a snapshot has as many ids as it says.
    let running = unsafe { std::slice::from_raw_parts(snapshot.xip, snapshot.xcnt as usize) };
    running.iter().map(|id| u64::from(id.into_inner())).sum()
}
