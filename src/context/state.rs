//! The tenant that this backend acts for, now.
//!
//! The setting's assign hook publishes a parsed value here; the accessors, the executor hook and status() read it.
//! `generation` grows whenever the answer may have changed, so that a reader can keep a copy and know when it is old.

use std::cell::{Cell, RefCell};

use super::lock::{Change, Lock, Refusal};
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
    /// The settings are being defined.
    loading: Cell<bool>,
}

static STATE: PerBackend<State> = PerBackend::new(State {
    generation: Cell::new(1),
    value: RefCell::new(Tenant::NONE),
    lock: RefCell::new(Lock::new()),
    ended: Cell::new(false),
    alone: Cell::new(false),
    loading: Cell::new(false),
});

/// Grows with every change of what `with_tenant` may answer; never 0.
pub fn generation() -> u64 {
    STATE.generation.get()
}

fn changed() {
    STATE.generation.set(STATE.generation.get() + 1);
}

/// A copy of the tenant in force.
pub fn tenant() -> Tenant {
    with_tenant(|tenant| *tenant)
}

/// The tenant in force, `Tenant::NONE` when there is none.
pub fn with_tenant<R>(read: impl FnOnce(&Tenant) -> R) -> R {
    let value = STATE.value.borrow();
    if settings::context_mode() == ContextMode::Locked && !STATE.lock.borrow().visible(&value) {
        return read(&Tenant::NONE);
    }
    read(&value)
}

/// There is a value that neither this transaction nor a statement of it has set: it outlives the transaction.
pub fn is_of_the_session() -> bool {
    !STATE.value.borrow().is_none() && STATE.lock.borrow().is_open()
}

/// There is a value, but this transaction has acted for another tenant.
pub fn is_hidden() -> bool {
    !STATE.value.borrow().is_none() && with_tenant(|tenant| tenant.is_none())
}

/// Whether SET to `new` by SQL is allowed now; the server assigns it next.
pub fn admit(new: &Tenant, in_worker: bool) -> Result<(), Refusal> {
    if STATE.loading.get() {
        return Ok(());
    }
    let mut lock = STATE.lock.borrow_mut();
    let value = STATE.value.borrow();
    // A leader without a tenant hands nothing over, so its worker has heard of nothing yet.
    if in_worker && lock.is_open() {
        lock.begin_worker(&value);
    }
    if settings::context_mode() == ContextMode::Locked {
        lock.may_set(&value, new, STATE.alone.get())?;
    }
    lock.set(&value, new);
    Ok(())
}

/// Where a new value comes from.
pub enum Origin {
    /// A statement of the running transaction: SET, RESET, or the end of a function's SET clause.
    Statement,
    /// The rollback of a savepoint or an exception block.
    Rollback,
    /// The end of the transaction, or no transaction at all.
    CleanUp,
    /// A parallel worker takes over its leader's.
    Leader,
}

/// The setting has a new value. Cannot fail.
pub fn publish(new: &Tenant, origin: Origin) {
    let old = STATE.value.replace(*new);
    let mut lock = STATE.lock.borrow_mut();
    STATE.ended.set(false);
    match origin {
        _ if STATE.loading.get() => {}
        Origin::Statement if STATE.alone.get() => lock.changed(&old, new, Change::Admitted),
        Origin::Statement => lock.changed(&old, new, Change::Unasked),
        Origin::Rollback => lock.changed(&old, new, Change::RolledBack),
        // The end of a local value is no act of the next transaction, which is open.
        Origin::CleanUp => STATE.ended.set(!old.is_none() && new.is_none()),
        Origin::Leader => lock.begin_worker(new),
    }
    changed();
}

/// While the settings are defined, the server replays values that were set before the library was loaded: not switches.
pub fn begin_loading() {
    STATE.loading.set(true);
}

/// The replay is over. What it left counts as set in the transaction that is running, if one is.
pub fn end_loading(in_transaction: bool) {
    STATE.loading.set(false);
    if in_transaction {
        STATE.lock.borrow_mut().set(&Tenant::NONE, &STATE.value.borrow());
    }
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

/// Marks the running statement as one that does nothing but switch the tenant.
pub fn set_alone(alone: bool) {
    STATE.alone.set(alone);
}

pub fn is_alone() -> bool {
    STATE.alone.get()
}

/// Puts the former lock back on every path.
struct FormerLock(Option<Lock>);

impl Drop for FormerLock {
    fn drop(&mut self) {
        if let Some(lock) = self.0.take() {
            STATE.lock.replace(lock);
            changed();
        }
    }
}

/// Runs `work` as though a transaction of its own began here, with no tenant fixed. Only for leak_test(): it tries one tenant after the
/// other, each in a subtransaction that is rolled back inside `work` and takes the tenant with it; what this transaction acts for comes back after.
pub fn as_new_transaction<R>(work: impl FnOnce() -> R) -> R {
    let former = FormerLock(Some(STATE.lock.replace(Lock::new())));
    changed();
    let result = work();
    drop(former);
    result
}

/// The transaction is over: the next one is open, and what the server assigns until then is its clean-up.
pub fn end_transaction() {
    *STATE.lock.borrow_mut() = Lock::new();
    STATE.alone.set(false);
    changed();
}
