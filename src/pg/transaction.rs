//! Callbacks at the end of transactions and subtransactions.

use std::cell::Cell;
use std::ffi::c_void;

use pgrx::prelude::*;

use super::cell::{PerBackend, hot};
use super::{nesting, registry, scoring};
use crate::context::state;
use crate::inventory;
use crate::partition;
use crate::seal::bypass;

hot! {
    /// Transactions of this backend that have ended, and one.
    static NUMBER: PerBackend<Cell<u64>> = PerBackend::new(Cell::new(1));
}

/// A number that no other transaction of this backend has; never 0.
pub fn number() -> u64 {
    NUMBER.get()
}

/// Registers the callbacks; once, from `_PG_init`.
pub fn register() {
    // SAFETY: the callbacks are guarded and live as long as the process.
    unsafe {
        pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(at_subtransaction_end), std::ptr::null_mut());
    }
}

/// # Safety
/// Called by the server. Must not raise.
#[cfg_attr(target_os = "linux", unsafe(link_section = ".text.hot.bulkhead"))]
unsafe extern "C-unwind" fn at_end(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    use pg_sys::XactEvent::*;
    match event {
        // Nearly every transaction: what it does here needs no guard.
        XACT_EVENT_COMMIT if state::is_open() && !bypass::is_of_transaction() && !partition::is_running() => {
            NUMBER.set(NUMBER.get() + 1);
            state::changed();
            registry::transaction_ended();
        }
        XACT_EVENT_COMMIT
        | XACT_EVENT_ABORT
        | XACT_EVENT_PREPARE
        | XACT_EVENT_PARALLEL_COMMIT
        | XACT_EVENT_PARALLEL_ABORT => {
            // SAFETY: as this function.
            unsafe { ended(event) };
        }
        _ => {}
    }
}

/// # Safety
/// Called once at the end of a transaction. Must not raise.
#[pg_guard]
unsafe extern "C-unwind" fn ended(event: pg_sys::XactEvent::Type) {
    NUMBER.set(NUMBER.get() + 1);
    state::end_transaction();
    bypass::end_transaction();
    partition::end_transaction(event == pg_sys::XactEvent::XACT_EVENT_COMMIT);
    if event == pg_sys::XactEvent::XACT_EVENT_ABORT {
        registry::rolled_back();
        inventory::rolled_back();
        nesting::rolled_back_all();
    }
    registry::transaction_ended();
}

/// # Safety
/// Called by the server. Must not raise.
#[pg_guard]
unsafe extern "C-unwind" fn at_subtransaction_end(
    event: pg_sys::SubXactEvent::Type,
    _id: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut c_void,
) {
    use pg_sys::SubXactEvent::*;
    match event {
        SUBXACT_EVENT_START_SUB => nesting::begin_subtransaction(),
        SUBXACT_EVENT_COMMIT_SUB => nesting::end_subtransaction(false),
        SUBXACT_EVENT_ABORT_SUB => {
            // A switch that failed inside a savepoint left its mark behind.
            state::set_alone(false);
            registry::rolled_back();
            inventory::rolled_back();
            scoring::rolled_back();
            nesting::end_subtransaction(true);
        }
        _ => {}
    }
}

/// Microseconds from 1970 to 2000, where the server's timestamps begin.
const EPOCH: i64 = 946_684_800_000_000;

/// When the transaction began, in microseconds since 1970. Parallel workers have their leader's.
pub fn start() -> i64 {
    // SAFETY: reads a variable of the server's.
    unsafe { pg_sys::GetCurrentTransactionStartTimestamp() }.saturating_add(EPOCH)
}

/// The transaction has an id: it has written, or locked rows.
pub fn has_written() -> bool {
    // SAFETY: reads a variable of the server's.
    unsafe { pg_sys::GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId }
}

/// The time, in microseconds since 1970.
pub fn now() -> i64 {
    // SAFETY: asks the system's clock.
    unsafe { pg_sys::GetCurrentTimestamp() }.saturating_add(EPOCH)
}

/// Whether the client's statement is over, and not only a transaction inside a procedure.
pub fn statement_is_over() -> bool {
    // SAFETY: reads a variable of the server's, which is set while a portal runs.
    unsafe { pg_sys::ActivePortal.is_null() }
}
