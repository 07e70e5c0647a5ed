//! Draining the queue: a batch in the order of arrival, as the table's owner, for each tenant in turn.
//!
//! One drain at a time works on an inventory; a second one waits for its turn, so that whoever calls after an order was queued finds it decided. How orders are
//! decided on others' account is in many.rs, what becomes of those that fail in judge.rs.

use std::cell::Cell;
use std::collections::HashSet;

use pgrx::prelude::*;

use super::abandoned;
use super::backlog::{self, Waiting};
use super::batch::Busy;
use super::judge::{self, Fate, Judged};
use super::table;
use super::verdict_store::VerdictStore;
use crate::error::{self, Result};
use crate::pg::cell::PerBackend;
use crate::pg::queue::{self, SEGMENTS, Segment};
use crate::pg::subtransaction::Failure;
use crate::pg::{client, constraints, own_locks, procedure, relation_locks, security, spi};
use crate::seal::housekeeping;

/// Requests that one batch takes.
const MOST: i32 = 10_000;

/// A table of the queue in which no more than so many requests of others wait is emptied all the same: they move on. Where there are more, so many move on with each
/// batch.
const MOST_MOVED: usize = 1_000;

/// Why a request was set aside that does not fit the table any more.
pub const STRAY: &str = "it was queued when the table was registered with another item column or tenant column, and belongs to no tenant of the table now";

/// What became of a batch.
pub struct Went {
    /// So many requests are decided or set aside.
    pub done: usize,
    /// The numbers of those that wait on.
    pub left: Vec<i64>,
    /// An error that some of those have met, and no other transaction's doing.
    pub failure: Option<Failure>,
}

/// The last batch of a call has left something, which the next call begins with.
static HAS_LEFT: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));

/// `drain_batch(relation, batch_size, passed)`: see mod.rs. None: another transaction was in the way, and nothing was done.
pub fn batch(relation: pg_sys::Oid, size: i32, passed: &HashSet<i64>) -> Result<Option<Went>> {
    if !(1..=MOST).contains(&size) {
        return Err(error::argument(
            format!("batch_size must be from 1 to {MOST}"),
            "500 is a good one: a batch is one transaction, and locks its items meanwhile.",
        ));
    }
    if !procedure::may_execute("drain_inventory")? {
        return Err(error::denied(
            "permission denied to drain an inventory",
            "It acts for all tenants.",
            "GRANT EXECUTE ON PROCEDURE bulkhead.drain_inventory TO the role.",
        ));
    }
    client::refuse_read_only(c"drain_inventory()");
    own_locks::begin_draining(relation);
    if passed.is_empty() && HAS_LEFT.replace(false) {
        // Whatever was passed by waits on, and comes first.
        backlog::forget();
    }
    let went = take(relation, size as usize, Busy::LeaveOrders, passed)?;
    if went.as_ref().is_some_and(|went| !went.left.is_empty()) {
        HAS_LEFT.set(true);
    }
    Ok(went)
}

/// Takes a batch and decides it, under the inventory's drain lock. None: another transaction was in the way, and nothing was done.
pub fn take(relation: pg_sys::Oid, size: usize, busy: Busy, except: &HashSet<i64>) -> Result<Option<Went>> {
    let inventory = table::inventory(relation)?;
    let taken = backlog::take(relation, size, except)?;
    if taken.is_empty() {
        backlog::taken();
        tidy(relation)?;
        return Ok(Some(Went { done: 0, left: Vec::new(), failure: None }));
    }
    // The owner's triggers are not to run at the end of the transaction, as whoever drains.
    constraints::immediate();
    let (stray, taken): (Vec<_>, Vec<_>) =
        taken.into_iter().partition(|Waiting { request, .. }| inventory.is_stray(request.identity, &request.tenant));
    // Today's partition is there before anybody is judged: what goes wrong with it is no order's fault.
    VerdictStore::open()?;
    let Judged { mut decided, failure } = match judge::decide(&inventory, &taken, busy) {
        Ok(judged) => judged,
        Err(failure) if failure.is_transient() => return Ok(None),
        Err(failure) => return Err(failure.into_report()),
    };
    for waiting in &stray {
        judge::set_aside(waiting, "55000".to_owned(), STRAY.to_owned()).map_err(Failure::into_report)?;
        decided.push(Fate::Done);
    }
    let taken: Vec<Waiting> = taken.into_iter().chain(stray).collect();
    let segments = (0..SEGMENTS.len()).map(Segment::open).collect::<Result<Vec<_>>>()?;
    let mut went = Went { done: 0, left: Vec::new(), failure };
    for (waiting, fate) in taken.iter().zip(&decided) {
        match fate {
            Fate::Done => {
                segments[waiting.segment].delete(waiting.tid);
                went.done += 1;
            }
            Fate::Left => went.left.push(waiting.request.number),
            Fate::Untried => {}
        }
    }
    backlog::taken();
    if decided.contains(&Fate::Untried) {
        // It is taken again.
        backlog::forget();
    }
    drop(segments);
    tidy(relation)?;
    if went.done > 0 {
        let number = queue::next_number(c"inventory_batch_number")?;
        let payload = std::ffi::CString::new(number.to_string()).unwrap_or_default();
        queue::notify(c"bulkhead_verdicts", &payload);
    }
    Ok(Some(went))
}

/// Empties tables of the queue of which all is drained, and which have had their turn.
fn tidy(drained: pg_sys::Oid) -> Result<()> {
    for number in 0..SEGMENTS.len() {
        let segment = Segment::open(number)?;
        if !queue::is_worth_emptying(&segment, number)? {
            continue;
        }
        // Nobody is made to wait: a request that is about to be added to it is a late one.
        if !relation_locks::try_relation(segment.oid(), relation_locks::Mode::Access) {
            continue;
        }
        let Some(waiting) = segment.waiting(MOST_MOVED + 1) else { continue };
        if waiting.len() > MOST_MOVED {
            // What is being drained is not moved about, and nothing before it must be.
            if queue::is_next(number)? && waiting.iter().all(|(request, _)| request.relation != drained) {
                for (request, tid) in &waiting[..MOST_MOVED] {
                    segment.delete(*tid);
                    abandoned::carry(request)?;
                }
                segment.announce();
            }
            continue;
        }
        let (oid, name) = (segment.oid(), security::relation_name(segment.oid()));
        drop(segment);
        let truncate = format!("TRUNCATE TABLE {name}");
        security::as_extension(|| housekeeping::empty(oid, || spi::run(&truncate, &[])))?;
        for (request, _) in waiting {
            abandoned::carry(&request)?;
        }
    }
    Ok(())
}
