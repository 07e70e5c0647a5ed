//! Whether the executor is inside a query of referential integrity.
//!
//! A foreign key's check or cascade runs as the table's owner with forced row level security off: it must see every
//! row. So do the BEFORE triggers that fire while it runs, which is not meant. Known from two facts: the server's flag is set, and a
//! run that began with it set is under way. An error leaves a run by longjmp, so the fact is kept for each subtransaction.

use std::cell::{Cell, RefCell};

use super::cell::PerBackend;

static RUNNING: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));
static OUTER: PerBackend<RefCell<Vec<bool>>> = PerBackend::new(RefCell::new(Vec::new()));

unsafe extern "C-unwind" {
    /// Without the guard that pgrx puts around its binding: it raises nothing.
    fn InNoForceRLSOperation() -> bool;
}

/// Forced row level security is off for the owner.
pub fn unforced() -> bool {
    // SAFETY: reads a variable of the server's.
    unsafe { InNoForceRLSOperation() }
}

/// A statement that starts now runs inside a query of referential integrity: a trigger's.
pub fn inside() -> bool {
    RUNNING.get() && unforced()
}

/// A run begins; `true` when it is the outermost with the flag set, and `end` has to be called after it.
pub fn begin() -> bool {
    !RUNNING.get() && unforced() && !RUNNING.replace(true)
}

pub fn end() {
    RUNNING.set(false);
}

pub fn begin_subtransaction() {
    OUTER.borrow_mut().push(RUNNING.get());
}

pub fn end_subtransaction(aborted: bool) {
    let outer = OUTER.borrow_mut().pop().unwrap_or(false);
    if aborted {
        RUNNING.set(outer);
    }
}

pub fn rolled_back_all() {
    OUTER.borrow_mut().clear();
    RUNNING.set(false);
}
