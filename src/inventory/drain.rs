//! Draining the queue: a batch in the order of arrival, as the table's owner, for each tenant in turn.
//!
//! One drain at a time works on an inventory; a second one waits for its turn, so that whoever calls after an order was queued finds it decided. Nothing is lifted
//! for it: the statements on the table run as its owner in a restricted security context, each under the context of the tenant whose orders it is
//! about, so triggers and policies see what they would see of a client of that tenant. A request that the table's constraints or triggers refuse is found by halving
//! the batch, and set aside.

use std::collections::HashMap;
use std::rc::Rc;

use pgrx::prelude::*;

use super::abandoned;
use super::backlog::{self, Waiting};
use super::batch::{self, Batch};
use super::section::Section;
use super::table::{self, Inventory};
use crate::context::acting::acting_for;
use crate::context::tenant::Tenant;
use crate::error::{self, Result};
use crate::pg::plans::{self, Steps};
use crate::pg::queue::{self, Poison, Request, SEGMENTS, Segment};
use crate::pg::subtransaction::{self, Failure};
use crate::pg::{keys, locks, security, settings, spi};
use crate::seal::housekeeping;

/// Requests that one batch takes.
const MOST: i32 = 10_000;

/// A table of the queue in which no more than so many requests of others wait is emptied all the same: they move on. Where there are more, so many move on with each
/// batch.
const MOST_MOVED: usize = 1_000;

/// Why a request was set aside that does not fit the table any more.
const STRAY: &str = "it was queued when the table kept its rows apart by tenant in another way, and belongs to no tenant of the table now";

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
    let inventory = table::inventory(relation)?;
    let taken = backlog::take(relation, size as usize)?;
    if taken.is_empty() {
        backlog::taken();
        tidy(relation)?;
        return Ok(Step::Done(0));
    }
    // The owner's triggers are not to run at the end of the transaction, as whoever drains.
    spi::run("SET CONSTRAINTS ALL IMMEDIATE", &[])?;
    let (stray, taken): (Vec<_>, Vec<_>) =
        taken.into_iter().partition(|waiting| is_stray(&inventory, &waiting.request));
    let mut decided = match decide(&inventory, &taken) {
        Ok(decided) => decided,
        Err(failure) if failure.is_transient() => return Ok(Step::Again),
        Err(failure) => return Err(failure.raised()),
    };
    for waiting in &stray {
        set_aside(waiting, "55000".to_owned(), STRAY.to_owned()).map_err(Failure::raised)?;
        decided.push(true);
    }
    let taken: Vec<Waiting> = taken.into_iter().chain(stray).collect();
    let segments = (0..SEGMENTS.len()).map(Segment::open).collect::<Result<Vec<_>>>()?;
    let mut done = 0;
    for (waiting, is_decided) in taken.iter().zip(&decided) {
        if *is_decided {
            segments[waiting.segment].delete(waiting.place);
            done += 1;
        }
    }
    if done < decided.len() {
        // Orders that another transaction is deciding wait on.
        backlog::forget();
    }
    backlog::taken();
    drop(segments);
    tidy(relation)?;
    if done == 0 {
        return Ok(Step::Again);
    }
    let number = queue::next_number(c"inventory_batch_number")?;
    let payload = std::ffi::CString::new(number.to_string()).unwrap_or_default();
    queue::notify(c"bulkhead_verdicts", &payload);
    Ok(Step::Done(done as i32))
}

/// Queued while the table had tenants and it has none now, or the other way round, or tenants of another type. It is nobody's now: two tenants' orders for
/// what has become one row would not even know of each other in a batch.
pub fn is_stray(inventory: &Inventory, request: &Request) -> bool {
    match inventory.tenant {
        None => !request.tenant.is_empty(),
        Some(key) => !Tenant::parse(&mut request.tenant.clone()).is_ok_and(|tenant| key.fits(&tenant)),
    }
}

/// Decides the requests, and sets aside those that cannot be: whether each is done with. None is when this fails.
fn decide(inventory: &Rc<Inventory>, requests: &[Waiting]) -> std::result::Result<Vec<bool>, Failure> {
    let failure = match subtransaction::kept(|| false, || attempt(inventory, requests)) {
        Ok(decided) => return Ok(decided),
        Err(failure) => failure,
    };
    if !is_the_requests(&failure) {
        return Err(failure);
    }
    if let [only] = requests {
        let sqlstate = failure.sqlstate();
        let reason = match failure.detail {
            Some(detail) => format!("{} ({detail})", failure.message),
            None => failure.message,
        };
        set_aside(only, sqlstate, reason)?;
        return Ok(vec![true]);
    }
    // When the second half fails, what the first one did must not stay either.
    subtransaction::kept(
        || false,
        || {
            // The first half first: the order of arrival stays.
            let (first, second) = requests.split_at(requests.len() / 2);
            let mut decided = decide(inventory, first).map_err(Failure::raised)?;
            decided.extend(decide(inventory, second).map_err(Failure::raised)?);
            Ok(decided)
        },
    )
}

fn attempt(inventory: &Rc<Inventory>, requests: &[Waiting]) -> Result<Vec<bool>> {
    let mut sections: Vec<Section> = Vec::new();
    let mut numbers: HashMap<&[u8], usize> = HashMap::new();
    let mut places: Vec<(usize, usize)> = Vec::with_capacity(requests.len());
    for Waiting { request, .. } in requests {
        let at = *numbers.entry(&request.tenant).or_insert_with(|| {
            let (identity, item_type) = (inventory.identity, inventory.item_type);
            sections.push(Section::new(request.tenant.clone(), identity, item_type, requests.len()));
            sections.len() - 1
        });
        places.push((at, sections[at].order(Some(&request.order))));
        for (item, quantity) in request.items.iter().zip(&request.quantities) {
            sections[at].line(item.as_deref(), *quantity);
        }
    }
    let tenants: Vec<Vec<u8>> = sections.iter().map(|section| section.tenant.clone()).collect();
    let mut batch = Batch::new(Rc::clone(inventory), sections);
    batch.leave_busy = true;
    plans::connected(|| {
        loop {
            let run = batch.next()?;
            if run.is_none() {
                return Ok(());
            }
            let tenant = batch.sections[batch.section()].tenant.clone();
            acting_for(&tenant, || {
                settings::set_for_a_while(c"search_path", b"pg_catalog, pg_temp");
                security::as_owner(inventory.relation, || plans::run_guarded(&mut batch, run))
            })?;
        }
    })?;
    // The batch has sorted its sections.
    let now_at: Vec<usize> = tenants
        .iter()
        .map(|tenant| batch.sections.iter().position(|section| section.tenant == *tenant).unwrap_or(0))
        .collect();
    Ok(places.into_iter().map(|(at, order)| !batch.sections[now_at[at]].is_left(order)).collect())
}

fn set_aside(waiting: &Waiting, sqlstate: String, reason: String) -> std::result::Result<(), Failure> {
    let poison = Poison { set_aside_at: keys::now(), sqlstate, reason };
    subtransaction::kept(|| false, || queue::set_aside(&waiting.request, &poison))
}

/// An error of the request's: of the row that it asks for, or that the row was not written, by a trigger that returns NULL.
fn is_the_requests(failure: &Failure) -> bool {
    failure.is_of_the_row() || failure.detail.as_deref() == Some(batch::NOT_WRITTEN)
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
