//! Acting for one tenant after another: for what drains a queue and scores what waits, for all of them.

use super::state;
use crate::pg::settings::{self, ContextMode};

/// Runs `work` for another tenant, or for none, as though in a transaction of its own. What the transaction acted for comes back after, and
/// whatever settings `work` changed as well.
pub fn acting_for<R>(tenant: &[u8], work: impl FnOnce() -> R) -> R {
    state::as_new_transaction(|| {
        settings::kept(|| {
            // A tenant was judged when the order was queued, or the row written.
            without_token(|mode| settings::set_for_a_while(c"bulkhead.context_mode", mode.as_bytes()));
            state::set_alone(true);
            settings::set_for_a_while(c"bulkhead.tenant_context", tenant);
            state::set_alone(false);
            work()
        })
    })
}

/// The extension itself chooses the tenant, and has no token for it: `set` sets the mode, where that is signed, to one that takes an id.
pub fn without_token(set: impl FnOnce(&str)) {
    if settings::context_mode() == ContextMode::Signed {
        set("locked");
    }
}
