//! Why there is no tenant: for hints, and for whoever asks what the state is.

use super::{STATE, fits_lock, is_dead, judgement};
use crate::context::token::Fault;
use crate::pg::settings::{self, ContextMode};

/// Why there is a value, and no tenant.
pub enum Absence {
    /// This transaction has acted for another tenant.
    OtherTenant,
    /// A token was refused, and nothing was set since.
    Refused(Fault),
    /// The token does not count, or no longer.
    Token(Fault),
    /// Only tokens count, and the value is none.
    Unsigned,
}

/// `None` when there is a tenant in force, or nothing was set.
pub fn absence() -> Option<Absence> {
    let judged = judgement();
    let held = STATE.held.borrow();
    if (if held.is_empty() { STATE.empty_by_refusal.get() } else { is_dead() })
        && let Some(fault) = STATE.refused.borrow().as_ref()
    {
        return Some(Absence::Refused(fault.clone()));
    }
    let tenant = match judged {
        Some(Err(fault)) => return Some(Absence::Token(fault)),
        Some(Ok(token)) => token.tenant,
        None if held.is_empty() => return None,
        None if settings::context_mode() == ContextMode::Signed => return Some(Absence::Unsigned),
        None => held.tenant,
    };
    (!fits_lock(&tenant)).then_some(Absence::OtherTenant)
}

/// There is a value that neither this transaction nor a statement of it has set: it outlives the transaction.
pub fn is_of_the_session() -> bool {
    !STATE.held.borrow().is_empty() && STATE.lock.borrow().is_open()
}

/// There is a value, but this transaction has acted for another tenant, or a token was refused since it was set. A parallel
/// worker would not know of either.
pub fn is_hidden() -> bool {
    match absence() {
        Some(Absence::OtherTenant) => true,
        Some(Absence::Refused(_)) => !STATE.held.borrow().is_empty(),
        _ => false,
    }
}

/// A local tenant of an earlier transaction is gone, and nothing was set since.
pub fn ended_with_its_transaction() -> bool {
    STATE.ended.get()
}

/// What the lock holds, in plain words.
pub fn describe_lock() -> &'static str {
    STATE.lock.borrow().describe()
}
