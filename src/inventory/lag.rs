//! Orders that wait in the queue: what health() says of them.

use pgrx::prelude::*;

use crate::error::Result;
use crate::pg::queue;

/// All tenants' orders.
#[derive(Default)]
pub struct Waiting {
    pub orders: u64,
    /// When the one that waits longest was queued, and its inventory.
    pub oldest: Option<(i64, pg_sys::Oid)>,
    pub set_aside: u64,
}

/// Reads the whole queue.
pub fn waiting() -> Result<Waiting> {
    let mut waiting = Waiting::default();
    queue::each_waiting(|relation, queued_at| {
        waiting.orders += 1;
        if waiting.oldest.is_none_or(|(oldest, _)| queued_at < oldest) {
            waiting.oldest = Some((queued_at, relation));
        }
    })?;
    queue::each_poisoned(|_, _| waiting.set_aside += 1)?;
    Ok(waiting)
}
