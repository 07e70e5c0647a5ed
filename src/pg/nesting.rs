//! What the statement that is planned or starts now stands inside of.
//!
//! Kept for each subtransaction, because an error leaves the hooks by longjmp: whatever is rolled back puts back what held
//! when its subtransaction began.
//!
//! Referential integrity: a foreign key's check or cascade runs as the table's owner with forced row level security off:
//! it must see every row. So do the BEFORE triggers that fire while it runs, and the functions that the planner calls for
//! it, which is not meant. Known from two facts: the server's flag is set, and a plan or a run that began with it set is under way.
//! What a rule adds to such a query is planned and started in its place; planner.rs tells them apart by the query, and tags the plan.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;

use pgrx::pg_sys;

use super::cell::{PerBackend, hot};
use super::planner::Mode;

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Nesting {
    /// Inside a query of referential integrity: what starts now is a trigger's or a function's.
    referential: bool,
    /// How the innermost statement in the planner is treated.
    pub mode: Mode,
    /// Inside ALTER TABLE: the error context that stood when it began. 1 stands for none of it, 0 for no ALTER TABLE.
    pub altering: usize,
    /// That command detaches a partition, and does nothing else.
    pub detaching: bool,
    /// Inside COPY by a process that replicates.
    pub replicating: bool,
}

const NOWHERE: Nesting =
    Nesting { referential: false, mode: Mode::Sealed, altering: 0, detaching: false, replicating: false };

hot! {
    static NOW: PerBackend<Cell<Nesting>> = PerBackend::new(Cell::new(NOWHERE));
}
static OUTER: PerBackend<RefCell<Vec<Nesting>>> = PerBackend::new(RefCell::new(Vec::new()));

unsafe extern "C-unwind" {
    /// Without the guard that pgrx puts around its binding: it raises nothing.
    fn InNoForceRLSOperation() -> bool;
}

pub fn now() -> Nesting {
    NOW.get()
}

/// Enters something; what stood before is to be given to `leave`.
pub fn enter(change: impl FnOnce(&mut Nesting)) -> Nesting {
    let before = NOW.get();
    let mut now = before;
    change(&mut now);
    NOW.set(now);
    before
}

/// The owner is about to work without forced row level security, and not for a foreign key: nothing of it is a query of referential
/// integrity.
pub fn enter_unforced() -> Nesting {
    enter(|now| now.referential = true)
}

pub fn leave(before: Nesting) {
    NOW.set(before);
}

/// Inside nothing of what this module tells apart.
#[inline(always)]
pub fn is_nowhere() -> bool {
    NOW.get() == NOWHERE && !unforced()
}

/// Forced row level security is off for the owner.
pub fn unforced() -> bool {
    // SAFETY: reads a variable of the server's.
    unsafe { InNoForceRLSOperation() }
}

/// What is planned or starts now is a query of referential integrity itself.
pub fn is_referential() -> bool {
    unforced() && !NOW.get().referential
}

/// What is planned may be one inside another: an SPI query started by C code inside another SPI query. Nothing tells it
/// from what a built-in function runs for a trigger.
pub fn may_be_nested_referential() -> bool {
    // SAFETY: entries of the error context stack are valid while they are on it.
    unsafe {
        let address = |entry: &pg_sys::ErrorContextCallback| entry.callback.map(|callback| callback as usize);
        let Some(top) = pg_sys::error_context_stack.as_ref() else { return false };
        inside_referential() && top.previous.as_ref().is_some_and(|below| address(below) == address(top))
    }
}

/// It runs inside one: a trigger's, or a function's.
pub fn inside_referential() -> bool {
    NOW.get().referential && unforced()
}

/// A plan or a run begins; `true` when it is the outermost of referential integrity, and `end_referential` has to be
/// called after it.
pub fn begin_referential() -> bool {
    let begins = is_referential();
    if begins {
        enter(|now| now.referential = true);
    }
    begins
}

pub fn end_referential() {
    enter(|now| now.referential = false);
}

/// An address of the error context stack, as `Nesting` keeps it.
pub fn mark(stack: *const c_void) -> usize {
    if stack.is_null() { 1 } else { stack.addr() }
}

pub fn begin_subtransaction() {
    OUTER.borrow_mut().push(NOW.get());
}

pub fn end_subtransaction(aborted: bool) {
    let outer = OUTER.borrow_mut().pop().unwrap_or(NOWHERE);
    if aborted {
        NOW.set(outer);
    }
}

pub fn rolled_back_all() {
    OUTER.borrow_mut().clear();
    NOW.set(NOWHERE);
}
