//! Deferred constraints and triggers.

use pgrx::prelude::*;

/// SET CONSTRAINTS ALL IMMEDIATE: what tables' owners have deferred runs with the statement that it is about, as whoever runs that, and not at the end of the transaction.
pub fn immediate() {
    let mut statement = pg_sys::ConstraintsSetStmt {
        type_: pg_sys::NodeTag::T_ConstraintsSetStmt,
        constraints: std::ptr::null_mut(),
        deferred: false,
    };
    // SAFETY: a complete statement, which is read and not kept.
    unsafe { pg_sys::AfterTriggerSetState(&mut statement) };
}
