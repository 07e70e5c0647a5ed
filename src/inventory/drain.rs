//! Draining the queue: a batch in the order of arrival, as the table's owner, for each tenant in turn.
//!
//! One drain at a time works on an inventory; a second one waits for its turn, so that whoever calls after an order was queued finds it decided. How orders are
//! decided on others' account is in many.rs. A request that the table's constraints or triggers refuse is set aside.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Instant;

use pgrx::prelude::*;

use super::abandoned;
use super::backlog::{self, Waiting};
use super::batch::Busy;
use super::many::{self, Halving, Order};
use super::table::{self, Inventory};
use crate::error::{self, Result};
use crate::pg::queue::{self, Poison, SEGMENTS, Segment};
use crate::pg::subtransaction::{self, Failure};
use crate::pg::{constraints, keys, locks, security, spi};
use crate::seal::housekeeping;

/// Requests that one batch takes.
const MOST: i32 = 10_000;

/// A table of the queue in which no more than so many requests of others wait is emptied all the same: they move on. Where there are more, so many move on with each
/// batch.
const MOST_MOVED: usize = 1_000;

/// Why a request was set aside that does not fit the table any more.
pub const STRAY: &str = "it was queued when the table was registered with another item column or tenant column, and belongs to no tenant of the table now";

/// What a batch did.
pub enum Step {
    /// So many requests are decided or set aside.
    Done(i32),
    /// Another transaction was in the way; nothing was done.
    Again,
}

/// `drain_batch(relation, batch_size)`: see mod.rs.
pub fn batch(relation: pg_sys::Oid, size: i32) -> Result<Step> {
    if !(1..=MOST).contains(&size) {
        return Err(error::argument(
            format!("batch_size must be from 1 to {MOST}"),
            "500 is a good one: a batch is one transaction, and locks its items meanwhile.",
        ));
    }
    let may = spi::row(
        "SELECT has_function_privilege('bulkhead.drain_inventory(regclass, integer, integer)', 'EXECUTE')",
        &[],
        |row| row.get::<bool>(1),
    )?;
    if may != Some(true) {
        return Err(error::denied(
            "permission denied to drain an inventory",
            "It acts for all tenants.",
            "GRANT EXECUTE ON PROCEDURE bulkhead.drain_inventory TO the role.",
        ));
    }
    keys::refuse_read_only(c"drain_inventory()");
    locks::begin_draining(relation);
    let Some(went) = take(relation, size as usize, Busy::LeaveOrders, &HashSet::new())? else {
        return Ok(Step::Again);
    };
    if !went.left.is_empty() {
        // Orders that another transaction is deciding wait on.
        backlog::forget();
    }
    if went.done == 0 && !went.left.is_empty() {
        return Ok(Step::Again);
    }
    Ok(Step::Done(went.done as i32))
}

/// What became of a batch.
struct Went {
    done: usize,
    /// The numbers of those that another transaction was at.
    left: Vec<i64>,
}

/// Takes a batch and decides it, under the inventory's drain lock. None: another transaction was in the way, and nothing was done.
fn take(relation: pg_sys::Oid, size: usize, busy: Busy, except: &HashSet<i64>) -> Result<Option<Went>> {
    let inventory = table::inventory(relation)?;
    let taken = backlog::take(relation, size, except)?;
    if taken.is_empty() {
        backlog::taken();
        tidy(relation)?;
        return Ok(Some(Went { done: 0, left: Vec::new() }));
    }
    // The owner's triggers are not to run at the end of the transaction, as whoever drains.
    constraints::immediate();
    let (stray, taken): (Vec<_>, Vec<_>) =
        taken.into_iter().partition(|Waiting { request, .. }| inventory.is_stray(request.identity, &request.tenant));
    let mut decided = match decide(&inventory, &taken, busy) {
        Ok(decided) => decided,
        Err(failure) if failure.is_transient() => return Ok(None),
        Err(failure) => return Err(failure.into_report()),
    };
    for waiting in &stray {
        set_aside(waiting, "55000".to_owned(), STRAY.to_owned()).map_err(Failure::into_report)?;
        decided.push(true);
    }
    let taken: Vec<Waiting> = taken.into_iter().chain(stray).collect();
    let segments = (0..SEGMENTS.len()).map(Segment::open).collect::<Result<Vec<_>>>()?;
    let mut went = Went { done: 0, left: Vec::new() };
    for (waiting, is_decided) in taken.iter().zip(&decided) {
        if *is_decided {
            segments[waiting.segment].delete(waiting.place);
            went.done += 1;
        } else {
            went.left.push(waiting.request.number);
        }
    }
    backlog::taken();
    drop(segments);
    tidy(relation)?;
    if went.done > 0 {
        let number = queue::next_number(c"inventory_batch_number")?;
        let payload = std::ffi::CString::new(number.to_string()).unwrap_or_default();
        queue::notify(c"bulkhead_verdicts", &payload);
    }
    Ok(Some(went))
}

/// A worker's way through the queue of an inventory: it waits for nobody, and passes by the orders whose items somebody has locked.
pub struct Sweep {
    relation: pg_sys::Oid,
    /// The numbers of those.
    passed: HashSet<i64>,
    is_stopped: bool,
    /// It is another time through what was left behind.
    is_repeated: bool,
}

impl Sweep {
    pub fn new(relation: pg_sys::Oid) -> Sweep {
        Sweep { relation, passed: HashSet::new(), is_stopped: false, is_repeated: false }
    }

    /// The next batch, in a transaction of its own. False when there is no more.
    pub fn batch(&mut self) -> Result<bool> {
        const SIZE: usize = 500;
        self.is_stopped = true;
        if !security::exists(self.relation) {
            self.is_stopped = false;
            return Ok(false);
        }
        // Whoever drains now drains what was queued.
        if !locks::try_draining(self.relation) || !locks::try_relation_for_statement(self.relation) {
            return Ok(false);
        }
        let busy = if self.is_repeated { Busy::LeaveLocked } else { Busy::LeaveAll };
        let Some(went) = take(self.relation, SIZE, busy, &self.passed)? else { return Ok(false) };
        self.is_stopped = false;
        let is_over = went.done == 0 && went.left.is_empty();
        self.passed.extend(went.left);
        Ok(!is_over)
    }

    /// It is over for now; true when nothing was left behind.
    pub fn end(&mut self) -> bool {
        let is_whole = self.passed.is_empty() && !self.is_stopped;
        self.is_repeated = !self.passed.is_empty();
        if !self.passed.is_empty() {
            backlog::forget();
            self.passed.clear();
        }
        is_whole
    }
}

/// Decides the requests, and sets aside those that cannot be: whether each is done with. None is when this fails.
///
/// An error that says nothing of a row is an order's own when another order of the batch goes through; when none does, it is the table's, and nobody is set aside for it.
fn decide(inventory: &Rc<Inventory>, requests: &[Waiting], busy: Busy) -> std::result::Result<Vec<bool>, Failure> {
    let (one_went, strange) = (Cell::new(false), RefCell::new(None));
    let begun = Instant::now();
    let halving = Halving {
        inventory,
        busy,
        told: &|decided, number| {
            let is_told = decided.answers(number).is_some();
            one_went.set(one_went.get() || is_told);
            is_told
        },
        is_an_orders: &|failure| many::may_be_an_orders(failure) && (busy.leaves_items() || !failure.is_transient()),
        failed: &|only: &Waiting, failure| {
            if failure.is_transient() {
                // Somebody is in the way of this one, and of none behind it.
                return Ok(false);
            }
            if !many::is_an_orders(&failure) {
                strange.borrow_mut().get_or_insert_with(|| failure.clone());
            }
            let reason = match failure.detail_for_others() {
                Some(detail) => format!("{} ({detail})", failure.message),
                None => failure.message.clone(),
            };
            set_aside(only, failure.spelled(), reason)?;
            Ok(true)
        },
        is_over: &|| busy.leaves_items() && begun.elapsed() > many::SIFTING,
        untried: &|| false,
    };
    let decided = halving.decide(&requests.iter().collect::<Vec<_>>())?;
    match strange.take() {
        Some(failure) if !one_went.get() => Err(failure),
        _ => Ok(decided),
    }
}

impl Order for Waiting {
    fn tenant(&self) -> &[u8] {
        &self.request.tenant
    }

    fn id(&self) -> Option<&[u8]> {
        Some(&self.request.order)
    }

    fn each_line(&self, mut line: impl FnMut(Option<&[u8]>, Option<i64>)) {
        for (item, quantity) in self.request.items.iter().zip(&self.request.quantities) {
            line(item.as_deref(), *quantity);
        }
    }
}

fn set_aside(waiting: &Waiting, sqlstate: String, reason: String) -> std::result::Result<(), Failure> {
    let poison = Poison { set_aside_at: keys::now(), sqlstate, reason };
    subtransaction::kept(|| false, || queue::set_aside(&waiting.request, &poison))
}

/// Empties tables of the queue of which all is drained, and which have had their turn.
fn tidy(drained: pg_sys::Oid) -> Result<()> {
    for number in 0..SEGMENTS.len() {
        let segment = Segment::open(number)?;
        if !queue::is_worth_emptying(&segment, number)? {
            continue;
        }
        // Nobody is made to wait: a request that is about to be added to it is a late one.
        if !locks::try_relation(segment.oid(), locks::Mode::Access) {
            continue;
        }
        let Some(waiting) = segment.waiting(MOST_MOVED + 1) else { continue };
        if waiting.len() > MOST_MOVED {
            // What is being drained is not moved about, and nothing before it must be.
            if queue::is_next(number)? && waiting.iter().all(|(request, _)| request.relation != drained) {
                for (request, place) in &waiting[..MOST_MOVED] {
                    segment.delete(*place);
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
