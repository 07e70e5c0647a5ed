//! Tokens as this backend's settings judge them.
//!
//! What the settings ask is read once after each change of them; a token that was verified is kept until then. `epoch` counts the
//! changes, so that a new key set counts at once, and a token whose key has gone no longer does.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::state;
use super::token::cache::Cache;
use super::token::{self, Fault, TokenRequirements, Verified};
use crate::pg::cell::PerBackend;
use crate::pg::{settings, transaction};

struct Tokens {
    epoch: Cell<u64>,
    requirements: RefCell<Option<Rc<TokenRequirements>>>,
    cache: RefCell<Cache>,
}

static TOKENS: PerBackend<Tokens> = PerBackend::new(Tokens {
    epoch: Cell::new(1),
    requirements: RefCell::new(None),
    cache: RefCell::new(Cache::new()),
});

/// Grows with each change of a setting that tokens are judged by; never 0.
pub fn epoch() -> u64 {
    TOKENS.epoch.get()
}

/// Such a setting has another value. Cannot fail.
pub fn settings_changed() {
    TOKENS.epoch.set(TOKENS.epoch.get() + 1);
    TOKENS.requirements.replace(None);
    TOKENS.cache.borrow_mut().clear();
    state::changed();
}

/// A token, proved except for what depends on the time.
pub fn verify_cached(token: &[u8]) -> Result<Rc<Verified>, Fault> {
    if let Some(verified) = TOKENS.cache.borrow_mut().find(token) {
        return Ok(verified);
    }
    let verified = Rc::new(token::verify(token, &requirements())?);
    TOKENS.cache.borrow_mut().keep(token, &verified);
    Ok(verified)
}

/// The same, for a token that is being set: the clock decides, and not when the transaction began.
pub fn verify_at_set(token: &[u8]) -> Result<Rc<Verified>, Fault> {
    let verified = verify_cached(token)?;
    let now = transaction::now();
    verified.check_time(now, now).map(|()| verified)
}

fn requirements() -> Rc<TokenRequirements> {
    let mut requirements = TOKENS.requirements.borrow_mut();
    Rc::clone(requirements.get_or_insert_with(|| Rc::new(settings::token_requirements())))
}
