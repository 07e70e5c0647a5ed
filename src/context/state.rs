//! The tenant that this backend acts for, now.
//!
//! The setting's assign hook publishes a parsed value here; the accessors, the executor hook and status() read it.
//! `generation` grows whenever the answer may have changed, so that a reader can keep a copy and know when it is old.

use std::cell::{Cell, RefCell};

use super::lock::{Lock, Refusal};
use super::tenant::Tenant;
use crate::pg::cell::PerBackend;
use crate::pg::settings::{self, ContextMode};

struct State {
    generation: Cell<u64>,
    value: RefCell<Tenant>,
    lock: RefCell<Lock>,
    /// The value was there and went away because its transaction ended: the hint can then say so.
    ended: Cell<bool>,
    /// The running statement is a top-level one that only switches the tenant.
    alone: Cell<bool>,
    /// Between the end of one transaction and the next statement: what is assigned now is the server's clean-up.
    closing: Cell<bool>,
}

static STATE: PerBackend<State> = PerBackend::new(State {
    generation: Cell::new(1),
    value: RefCell::new(Tenant::NONE),
    lock: RefCell::new(Lock::new()),
    ended: Cell::new(false),
    alone: Cell::new(false),
    closing: Cell::new(false),
});

/// Grows with every change of what `with_tenant` may answer; never 0.
pub fn generation() -> u64 {
    STATE.generation.get()
}

fn changed() {
    STATE.generation.set(STATE.generation.get() + 1);
}

/// The tenant in force, `Tenant::NONE` when there is none.
pub fn with_tenant<R>(read: impl FnOnce(&Tenant) -> R) -> R {
    let value = STATE.value.borrow();
    if settings::context_mode() == ContextMode::Locked && !STATE.lock.borrow().visible(&value) {
        return read(&Tenant::NONE);
    }
    read(&value)
}

/// There is a value, but this transaction has acted for another tenant.
pub fn is_hidden() -> bool {
    !STATE.value.borrow().is_none() && with_tenant(|tenant| tenant.is_none())
}

/// Whether SET to `new` by SQL is allowed now; the server assigns it next.
pub fn admit(new: &Tenant) -> Result<(), Refusal> {
    let mut lock = STATE.lock.borrow_mut();
    if settings::context_mode() == ContextMode::Locked {
        lock.may_set(&STATE.value.borrow(), new, STATE.alone.get())?;
    }
    lock.set(new);
    STATE.closing.set(false);
    Ok(())
}

/// The setting has a new value, for whatever reason. Cannot fail.
pub fn publish(new: &Tenant) {
    let old = STATE.value.replace(*new);
    if STATE.closing.get() {
        // The end of a local value is no act of the next transaction, which is open.
        STATE.ended.set(!old.is_none() && new.is_none());
    } else {
        STATE.ended.set(false);
        STATE.lock.borrow_mut().changed(&old, new);
    }
    changed();
}

/// A statement that is about to start touches a protected table.
pub fn touch() {
    STATE.lock.borrow_mut().touch(&STATE.value.borrow());
}

/// A local tenant of an earlier transaction is gone, and nothing was set since.
pub fn ended_with_its_transaction() -> bool {
    STATE.ended.get()
}

/// What the lock holds, in plain words.
pub fn describe_lock() -> &'static str {
    STATE.lock.borrow().describe()
}

/// A client's statement begins: what is assigned from here on is somebody's will, not the server's clean-up.
pub fn begin_statement() {
    STATE.closing.set(false);
}

/// Marks the running statement as one that does nothing but switch the tenant.
pub fn set_alone(alone: bool) {
    STATE.alone.set(alone);
}

pub fn is_alone() -> bool {
    STATE.alone.get()
}

/// The transaction is over: the next one is open, and what the server assigns until then is its clean-up.
pub fn end_transaction() {
    *STATE.lock.borrow_mut() = Lock::new();
    STATE.alone.set(false);
    STATE.closing.set(true);
    changed();
}
