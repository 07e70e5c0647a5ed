//! The bypass: a reasoned, privileged, recorded exception from the seal, for one role and one transaction.
//!
//! The setting `bulkhead.bypass` carries the reason; its hooks (src/pg/settings/seal.rs) publish here who set it and when. It acts
//! only while that role is current_user, so that no function of another role's can be lent it, and only in the transaction
//! that set it, whatever kind of SET that was; a start-up option acts for the session. Nothing of it outlives them on a pooled connection.

use std::cell::Cell;

use pgrx::prelude::*;

use super::record;
use crate::error::{self, Result};
use crate::pg::cell::{PerBackend, hot};
use crate::pg::{planned_stmt, scan, security, settings, transaction};

/// What is published with the setting's value. `repr(C)`: it is handed over through memory of the server's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Grant {
    /// The role that set it; 0 when it is not set.
    pub role: u32,
    /// The number of the transaction that set it; 0 for a start-up option, which lasts as long as the session.
    pub transaction: u64,
}

impl Grant {
    pub const NONE: Grant = Grant { role: 0, transaction: 0 };

    /// Whether it is there in this transaction at all, for whatever role.
    pub fn lives(self, transaction: u64) -> bool {
        self.role != 0 && (self.transaction == 0 || self.transaction == transaction)
    }

    pub fn acts(self, transaction: u64, current_role: u32) -> bool {
        self.lives(transaction) && self.role == current_role
    }
}

hot! {
    static GRANT: PerBackend<Cell<Grant>> = PerBackend::new(Cell::new(Grant::NONE));
    /// It was recorded in this transaction.
    static RECORDED: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));
}
/// begin_bypass() is setting it.
static BEGINNING: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));

/// The setting has a new value. Cannot fail.
pub fn publish(grant: Grant) {
    if GRANT.replace(grant) != grant {
        RECORDED.set(false);
        // Plans made under it, or while it was not there, are made again.
        planned_stmt::forget_cached();
    }
}

/// The transaction is over.
pub fn end_transaction() {
    RECORDED.set(false);
    if GRANT.get().transaction != 0 {
        publish(Grant::NONE);
    }
}

/// The transaction set one, or recorded its use, for `end_transaction` to undo.
#[inline(always)]
pub fn is_of_transaction() -> bool {
    RECORDED.get() || GRANT.get().transaction != 0
}

/// There is a bypass in this transaction, for whatever role.
pub fn is_set() -> bool {
    GRANT.get().lives(transaction::number())
}

/// It acts for the current role. To look is not to use it: what lifts the seal calls `note`.
pub fn acts() -> bool {
    is_set() && GRANT.get().acts(transaction::number(), security::current_role().to_u32()) && may_begin()
}

/// It came as a start-up option, and is there in every transaction of the session.
pub fn is_of_session() -> bool {
    GRANT.get().transaction == 0
}

/// It lifts the seal for what runs now: recorded the first time in a transaction.
pub fn note() {
    if acts() && !RECORDED.replace(true) {
        record::write();
    }
}

/// The current role may call begin_bypass(): the privilege that every way to a bypass asks for.
pub fn may_begin() -> bool {
    let table = scan::protection_table();
    table != pg_sys::InvalidOid && security::may_execute(scan::function(c"begin_bypass", &[pg_sys::TEXTOID]))
}

/// begin_bypass() has set the value itself, inside or outside a transaction block.
pub fn is_beginning() -> bool {
    BEGINNING.get()
}

/// Sets the reason for the rest of the transaction and records it.
pub fn begin(reason: &str) -> Result<()> {
    if reason.trim().is_empty() {
        return Err(error::argument(
            "a bypass needs a reason",
            "Say what it is for, as the log will show it: SELECT bulkhead.begin_bypass('nightly invoice run');",
        ));
    }
    BEGINNING.set(true);
    let set = std::panic::catch_unwind(|| settings::set_local(c"bulkhead.bypass", reason));
    BEGINNING.set(false);
    if let Err(raised) = set {
        std::panic::resume_unwind(raised);
    }
    if !RECORDED.replace(true) {
        record::write();
    }
    Ok(())
}

/// What disarms a protected table needs a bypass: one injected call must not do it to an application that owns its tables.
///
/// `why`: what the statement would do to the seal.
pub fn require(what: &str, why: &str) -> Result<()> {
    if !super::decision::in_force() {
        return Ok(());
    }
    if acts() {
        note();
        return Ok(());
    }
    Err(error::state(
        format!("{what} needs a bypass"),
        why,
        "BEGIN; SELECT bulkhead.begin_bypass('why'); then this statement; then COMMIT. EXECUTE on begin_bypass has to be granted.",
    ))
}

#[cfg(test)]
mod tests {
    use super::Grant;

    #[test]
    fn it_acts_for_its_role_and_in_its_transaction() {
        let grant = Grant { role: 10, transaction: 7 };
        assert!(grant.acts(7, 10));
        assert!(!grant.acts(7, 11), "another role");
        assert!(!grant.acts(8, 10), "the next transaction");
        assert!(!Grant::NONE.acts(7, 0), "none is never there, not even for role 0");
    }

    #[test]
    fn a_start_up_option_acts_in_every_transaction() {
        let grant = Grant { role: 10, transaction: 0 };
        assert!(grant.acts(1, 10) && grant.acts(2, 10));
        assert!(!grant.acts(2, 11));
    }
}
