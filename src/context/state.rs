//! The tenant that this backend acts for, now.
//!
//! The setting's assign hook publishes a parsed value here; the accessors, the executor hook and status() read it.
//! `generation` grows whenever the answer may have changed, so that a reader can keep a copy and know when it is old.

mod absence;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::lock::{Change, Lock, Refusal};
use super::revocation::{Revocations, Stamp};
use super::session_tokens;
use super::tenant::Tenant;
use super::token::{Fault, Verified};
use crate::pg::cell::PerBackend;
use crate::pg::settings::{self, ContextMode};
use crate::pg::transaction;

pub use absence::*;

/// A value of the setting, as its hooks hand it over.
pub struct Value<'a> {
    /// The bare id, or the tenant of a token that was verified when it was set.
    pub tenant: Tenant,
    /// Empty for a bare id.
    pub token: &'a [u8],
    pub stamp: Stamp,
}

/// The value that the setting has now.
struct Held {
    /// As in `Value`. For a token that came by no SET: once it was verified, whatever the time says of it.
    tenant: Tenant,
    token: Vec<u8>,
    stamp: Stamp,
    /// The settings against which such a token was last verified.
    known: u64,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.tenant.is_none() && self.token.is_empty()
    }
}

type Judgement = Result<Rc<Verified>, Fault>;

struct State {
    generation: Cell<u64>,
    held: RefCell<Held>,
    lock: RefCell<Lock>,
    revocations: RefCell<Revocations>,
    /// Why the last token was refused.
    refused: RefCell<Option<Fault>>,
    /// And that nothing was set or cleared since.
    empty_by_refusal: Cell<bool>,
    /// Whether the token counts now, for this generation.
    judged: RefCell<Option<(u64, Judgement)>>,
    /// A parallel worker has not heard yet whose token it was given.
    worker_waits: Cell<bool>,
    /// The value was there and went away because its transaction ended: the hint can then say so.
    ended: Cell<bool>,
    /// The running statement is a top-level one that only switches the tenant.
    alone: Cell<bool>,
    /// The settings are being defined.
    loading: Cell<bool>,
}

static STATE: PerBackend<State> = PerBackend::new(State {
    generation: Cell::new(1),
    held: RefCell::new(Held { tenant: Tenant::NONE, token: Vec::new(), stamp: 0, known: 0 }),
    lock: RefCell::new(Lock::new()),
    revocations: RefCell::new(Revocations::new()),
    refused: RefCell::new(None),
    empty_by_refusal: Cell::new(false),
    judged: RefCell::new(None),
    worker_waits: Cell::new(false),
    ended: Cell::new(false),
    alone: Cell::new(false),
    loading: Cell::new(false),
});

/// Grows with every change of what `with_tenant` and `with_token` may answer; never 0.
pub fn generation() -> u64 {
    STATE.generation.get()
}

/// What the answer depends on has changed: the value, the transaction, the mode, or what is asked of tokens.
pub fn changed() {
    STATE.generation.set(STATE.generation.get() + 1);
}

/// A copy of the tenant in force.
pub fn tenant() -> Tenant {
    with_tenant(|tenant| *tenant)
}

/// When the value was set: another value has another stamp, and one that is put back has its own again.
#[inline(always)]
pub fn value_stamp() -> Stamp {
    STATE.held.try_borrow().map_or(0, |held| held.stamp)
}

/// The transaction can have no other tenant than it has, or none.
#[inline(always)]
pub fn is_fixed() -> bool {
    STATE.lock.try_borrow().is_ok_and(|lock| !lock.is_open())
}

/// A tenant is in force, and it is not the one that the session had when the transaction began.
pub fn is_of_the_transaction() -> bool {
    with_tenant(|tenant| !tenant.is_none() && !STATE.lock.borrow().began_with(tenant))
}

/// The tenant in force, `Tenant::NONE` when there is none.
pub fn with_tenant<R>(read: impl FnOnce(&Tenant) -> R) -> R {
    let held = STATE.held.borrow();
    if !held.token.is_empty() {
        drop(held);
        return with_token(|token| read(token.map_or(&Tenant::NONE, |token| &token.tenant)));
    }
    if bare_counts(&held) && fits_lock(&held.tenant) { read(&held.tenant) } else { read(&Tenant::NONE) }
}

/// As `with_tenant`, where no token has to be judged; else None. Calls nothing of the server's.
pub fn bare_tenant<R>(read: impl FnOnce(&Tenant) -> R) -> Option<R> {
    let held = STATE.held.try_borrow().ok().filter(|held| held.token.is_empty())?;
    let counts = held.tenant.is_none() || bare_counts(&held) && fits_lock(&held.tenant);
    Some(read(if counts { &held.tenant } else { &Tenant::NONE }))
}

/// The verified token in force: `None` when there is none, or a bare id is.
pub fn with_token<R>(read: impl FnOnce(Option<&Verified>) -> R) -> R {
    match judgement() {
        Some(Ok(token)) if !is_dead() && fits_lock(&token.tenant) => read(Some(&token)),
        _ => read(None),
    }
}

fn fits_lock(tenant: &Tenant) -> bool {
    settings::context_mode() == ContextMode::Open || STATE.lock.borrow().visible(tenant)
}

fn is_dead() -> bool {
    STATE.revocations.borrow().is_dead(STATE.held.borrow().stamp)
}

fn bare_counts(held: &Held) -> bool {
    settings::context_mode() != ContextMode::Signed && !STATE.revocations.borrow().is_dead(held.stamp)
}

/// Whether the token counts, against the settings and the time of the transaction; `None` when the value is no token.
fn judgement() -> Option<Judgement> {
    if let Some((then, judged)) = STATE.judged.borrow().as_ref()
        && *then == generation()
    {
        return Some(judged.clone());
    }
    know_tenant();
    let verified = {
        let held = STATE.held.borrow();
        if held.token.is_empty() {
            return None;
        }
        session_tokens::verify_cached(&held.token)
    };
    if let Ok(token) = &verified {
        // The settings may name another claim by now than when it was set.
        STATE.held.borrow_mut().tenant = token.tenant;
    }
    // A token ends with the transaction in which it expires, in workers as in their leader.
    let judged = verified.and_then(|token| token.check_time(transaction::start(), transaction::now()).map(|()| token));
    STATE.judged.replace(Some((generation(), judged.clone())));
    Some(judged)
}

/// Learns whose token it is that came by no SET: from a start-up option, a role's settings, or a leader. Pure computation, so
/// that assign hooks may call it.
fn know_tenant() {
    {
        // No more than a look while a reader holds the value.
        let held = STATE.held.borrow();
        if held.token.is_empty() || !held.tenant.is_none() || held.known == session_tokens::epoch() {
            return;
        }
    }
    let mut held = STATE.held.borrow_mut();
    held.known = session_tokens::epoch();
    if let Ok(token) = session_tokens::verify_cached(&held.token) {
        held.tenant = token.tenant;
    }
    if STATE.worker_waits.take() {
        STATE.lock.borrow_mut().begin_worker(&held.tenant);
    }
}

/// The tenant as the lock hears of it: who the value is for, whatever the time says of a token.
fn heard(held: &Held) -> Tenant {
    if held.token.is_empty() && settings::context_mode() == ContextMode::Signed { Tenant::NONE } else { held.tenant }
}

/// A token was refused, or a bare id where only tokens count: what was set before no longer counts.
pub fn refused(fault: Fault) {
    STATE.revocations.borrow_mut().fail();
    STATE.refused.replace(Some(fault));
    STATE.empty_by_refusal.set(true);
    changed();
}

/// For a value that is being set.
pub fn stamp() -> Stamp {
    STATE.revocations.borrow_mut().stamp()
}

/// Whether SET to `new` by SQL is allowed now; the server assigns it next.
pub fn admit(new: &Tenant, in_worker: bool) -> Result<(), Refusal> {
    if STATE.loading.get() {
        return Ok(());
    }
    judgement();
    let mut lock = STATE.lock.borrow_mut();
    let value = heard(&STATE.held.borrow());
    // A leader without a tenant hands nothing over, so its worker has heard of nothing yet.
    if in_worker && lock.is_open() {
        lock.begin_worker(&value);
    }
    if settings::context_mode() != ContextMode::Open {
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
pub fn publish(new: &Value, origin: Origin) {
    let in_transaction = matches!(origin, Origin::Statement | Origin::Rollback);
    if in_transaction {
        know_tenant();
    }
    let (old, was_empty) = {
        let held = STATE.held.borrow();
        (heard(&held), held.is_empty())
    };
    hold(new);
    // A RESET by itself is a choice of the client's like any SET.
    if matches!(origin, Origin::Statement) && STATE.alone.get() {
        STATE.held.borrow_mut().stamp = stamp();
    }
    changed();
    if in_transaction {
        know_tenant();
    }
    if !is_dead() || matches!(origin, Origin::Statement) {
        STATE.empty_by_refusal.set(false);
    }
    let new = heard(&STATE.held.borrow());
    let mut lock = STATE.lock.borrow_mut();
    STATE.ended.set(false);
    match origin {
        _ if STATE.loading.get() => {}
        Origin::Statement if STATE.alone.get() => lock.changed(&old, &new, Change::Admitted),
        Origin::Statement => lock.changed(&old, &new, Change::Unasked),
        Origin::Rollback => lock.changed(&old, &new, Change::RolledBack),
        // The end of a local value is no act of the next transaction, which is open.
        Origin::CleanUp => STATE.ended.set(!was_empty && STATE.held.borrow().is_empty()),
        Origin::Leader => {
            lock.begin_worker(&new);
            STATE.worker_waits.set(!STATE.held.borrow().token.is_empty());
        }
    }
}

/// Keeps a copy: the server's block goes away with the value.
fn hold(new: &Value) {
    let mut held = STATE.held.borrow_mut();
    held.tenant = new.tenant;
    held.stamp = new.stamp;
    held.known = 0;
    held.token.clear();
    if held.token.capacity() > 4096 && new.token.len() <= 4096 {
        held.token = Vec::new();
    }
    // Out of memory is no reason to end the server: without its token the value is no tenant.
    if held.token.try_reserve(new.token.len()).is_ok() {
        held.token.extend_from_slice(new.token);
    } else {
        held.tenant = Tenant::NONE;
    }
}

/// While the settings are defined, the server replays values that were set before the library was loaded: not switches.
pub fn begin_loading() {
    STATE.loading.set(true);
}

/// The replay is over. What it left counts as set in the transaction that is running, if one is.
pub fn end_loading(in_transaction: bool) {
    STATE.loading.set(false);
    if in_transaction {
        know_tenant();
        STATE.lock.borrow_mut().set(&Tenant::NONE, &heard(&STATE.held.borrow()));
    }
}

/// A statement that is about to start touches a protected table.
pub fn touch() {
    judgement();
    STATE.lock.borrow_mut().touch(&heard(&STATE.held.borrow()));
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

/// Runs `work` as though a transaction of its own began here, with no tenant fixed; what this transaction acts for comes back after. For leak_test(), which
/// tries one tenant after the other, and for `acting_for`. `work` has to put back what it sets: the one by a subtransaction that is rolled back
/// and takes the tenant with it, the other by `settings::kept`.
pub fn as_new_transaction<R>(work: impl FnOnce() -> R) -> R {
    let former = FormerLock(Some(STATE.lock.replace(Lock::new())));
    changed();
    let result = work();
    drop(former);
    result
}

/// The transaction has set and touched nothing: there is nothing for `end_transaction` to undo.
#[inline(always)]
pub fn is_open() -> bool {
    !STATE.alone.get() && STATE.lock.try_borrow().is_ok_and(|lock| lock.is_new())
}

/// The transaction is over: the next one is open, and what the server assigns until then is its clean-up.
pub fn end_transaction() {
    *STATE.lock.borrow_mut() = Lock::new();
    STATE.alone.set(false);
    changed();
}
