//! Orders that wait in the queue: what health() says of them.

use pgrx::prelude::*;

use crate::error::Result;
use crate::pg::{keys, queue};

/// All tenants' orders.
#[derive(Default)]
pub struct Waiting {
    pub orders: u64,
    /// Microseconds that the one waits which waits longest, and its inventory.
    pub longest: Option<(i64, pg_sys::Oid)>,
    pub set_aside: u64,
}

/// Reads the whole queue.
pub fn waiting() -> Result<Waiting> {
    let now = keys::now();
    let mut waiting = Waiting::default();
    queue::each_waiting(|relation, queued_at| {
        waiting.orders += 1;
        let waits = now.saturating_sub(queued_at);
        if waiting.longest.is_none_or(|(longest, _)| waits > longest) {
            waiting.longest = Some((waits, relation));
        }
    })?;
    queue::each_dead_letter(|_, _| waiting.set_aside += 1)?;
    Ok(waiting)
}
