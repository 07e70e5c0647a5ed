//! Acting for one tenant after another: for what drains a queue and scores what waits, for all of them.

use super::state;
use crate::pg::settings::{self, ContextMode};

/// Runs `work` for another tenant, or for none, as though in a transaction of its own. What the transaction acted for comes back after, and
/// whatever settings `work` changed as well.
pub fn acting_for<R>(tenant: &[u8], work: impl FnOnce() -> R) -> R {
    state::as_new_transaction(|| {
        settings::kept(|| {
            // Nobody has a token for it. It was judged when the order was queued, or the row written.
            if settings::context_mode() == ContextMode::Signed {
                settings::set_for_a_while(c"bulkhead.context_mode", b"locked");
            }
            state::set_alone(true);
            settings::set_for_a_while(c"bulkhead.tenant_context", tenant);
            state::set_alone(false);
            work()
        })
    })
}
