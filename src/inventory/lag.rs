//! Orders that wait in the queue: what health() and bulkhead.metrics say of them.

use std::collections::BTreeMap;

use pgrx::prelude::*;

use crate::error::Result;
use crate::pg::inventory::all_registered;
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

/// The same of one inventory; numbers are estimates where much waits.
#[derive(Default)]
pub struct Estimate {
    pub orders: f64,
    /// Microseconds; 0 where nothing waits.
    pub longest: i64,
    pub set_aside: f64,
}

/// Of every registered inventory, and of every other that something waits for. Reads a bounded part of the queue.
pub fn estimate() -> Result<BTreeMap<u32, Estimate>> {
    let now = keys::now();
    let mut estimates: BTreeMap<u32, Estimate> =
        all_registered().into_iter().map(|relation| (relation.to_u32(), Estimate::default())).collect();
    queue::sample_waiting(|relation, queued_at, stands_for| {
        let estimate = estimates.entry(relation.to_u32()).or_default();
        estimate.orders += stands_for;
        estimate.longest = estimate.longest.max(now.saturating_sub(queued_at));
    })?;
    queue::sample_poisoned(|relation, stands_for| {
        estimates.entry(relation.to_u32()).or_default().set_aside += stands_for;
    })?;
    Ok(estimates)
}
