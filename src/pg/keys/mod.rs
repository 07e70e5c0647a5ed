//! The table of idempotency keys, read and written in place: no statement is parsed, planned or run for a claim.
//!
//! What makes that right: every row of a key is read and changed only under the key's lock, which is held for microseconds (lock.rs); what other
//! transactions have written and not yet committed is seen, and never waited for (rows.rs); the partitions are those that are there
//! at that moment (leaves.rs). None of it depends on the transaction's snapshot, so every isolation level is served alike.

mod calls;
mod leaves;
mod lock;
mod rows;
mod survey;

pub use super::partitions::{Leaf, Leaves};
pub use super::security::catch_up;
pub use leaves::{are_current, leaves};
pub use lock::locked;
pub use rows::{Found, Json, NewRow, Table};
pub use survey::each_committed;

use pgrx::prelude::*;

/// Microseconds since 2000, as the server's timestamps count them.
pub fn now() -> i64 {
    // SAFETY: asks the system's clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// Waits until another transaction has ended. Raises as a wait for a row would: 40P01, 55P03, 57014.
pub fn wait_for(transaction: pg_sys::TransactionId) {
    // SAFETY: a wait for a lock; no relation or row is named in the message.
    unsafe {
        pg_sys::XactLockTableWait(
            transaction,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            pg_sys::XLTW_Oper::XLTW_None,
        );
    }
}
