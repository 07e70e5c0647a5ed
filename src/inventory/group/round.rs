//! A round of the worker: everybody who waits, decided in one transaction.

use std::collections::HashMap;
use std::rc::Rc;

use pgrx::prelude::*;

use super::super::batch::Busy;
use super::super::fold::Answer;
use super::super::many::{self, Order};
use super::super::{drain, queue, table};
use super::body::{self, Fault, Request};
use super::sift;
use crate::error::{self, Result};
use crate::pg::group::memory::{self, Desk, Slot};
use crate::pg::group::{self, processes};
use crate::pg::subtransaction::Failure;
use crate::pg::wal::{self, Place};
use crate::pg::{constraints, locks, security};

/// What could not be decided is tried again after so many microseconds, then after twice as many, up to the last; and what failed in a way that may pass, at least as often as this.
const FIRST_DELAY: i64 = 1_000;
pub const LAST_DELAY: i64 = 64_000;
const LAST_DELAY_OF_SUSPECTS: i64 = 1_000_000;

/// Orders of a tenant of which one has failed are decided apart from all others for so long.
const SUSPICION: i64 = 1_000_000;

/// Callers of which one wakes the others.
const TOGETHER: usize = 16;

/// A request that this worker has taken.
pub(super) struct Taken {
    slot: Slot,
    ticket: u64,
    /// It was put off before: for so long the last time.
    pub delay: i64,
    pub request: Request<'static>,
}

/// A table, and one of its tenants.
type Party = (u32, Vec<u8>);

impl Taken {
    fn party(&self) -> Party {
        (self.request.relation, self.request.tenant.to_vec())
    }
}

impl Order for Taken {
    fn tenant(&self) -> &[u8] {
        self.request.tenant
    }

    fn id(&self) -> Option<&[u8]> {
        self.request.order
    }

    fn each_line(&self, mut line: impl FnMut(Option<&[u8]>, Option<i64>)) {
        for (item, quantity) in self.request.items.iter().zip(&self.request.quantities) {
            line(*item, *quantity);
        }
    }
}

/// What became of a request.
pub(super) enum Became {
    Told(Vec<Answer>),
    Failed(Fault),
    /// Another transaction was in the way.
    Left,
}

impl Became {
    pub fn of(decided: &many::Decided, number: usize) -> Became {
        decided.answers(number).map_or(Became::Left, |answers| Became::Told(answers.to_vec()))
    }

    /// The request's own error.
    pub fn failure(failure: &Failure) -> Became {
        if failure.is_transient() || failure.is_cancel {
            return Became::Left;
        }
        Became::Failed(Fault {
            sqlstate: failure.sqlstate,
            message: failure.message.clone(),
            detail: failure.detail_for_others().map(str::to_owned),
            hint: failure.hint.clone(),
        })
    }

    /// An error of a batch, and nobody's in particular: its texts might be another's.
    pub fn nobodys(failure: &Failure, orders: usize) -> Vec<Became> {
        if failure.is_transient() || failure.is_cancel {
            return (0..orders).map(|_| Became::Left).collect();
        }
        processes::log(&format!("bulkhead could not decide {orders} orders: {}", failure.message));
        let fault = Fault {
            sqlstate: failure.sqlstate,
            message: "the batch of the order could not be decided".into(),
            detail: None,
            hint: Some("The server's log says more. Try again with the same order_id.".into()),
        };
        (0..orders).map(|_| Became::Failed(fault.clone())).collect()
    }
}

/// When a request is to be tried again.
struct Later {
    ticket: u64,
    at: i64,
    delay: i64,
}

pub struct Rounds {
    database: u32,
    /// Requests that were left, by their slots.
    later: HashMap<usize, Later>,
    /// Whose orders have failed, and until when they are decided apart.
    suspects: HashMap<Party, i64>,
    /// Not before.
    sift_at: i64,
    has_failed: bool,
}

impl Rounds {
    /// What a former worker had taken waits again: it was decided or it was not, and is told the same.
    pub fn begin(database: u32) -> Rounds {
        for slot in memory::all_slots() {
            slot.word().give_back(database);
        }
        Rounds { database, later: HashMap::new(), suspects: HashMap::new(), sift_at: 0, has_failed: false }
    }

    /// Whether a round since the last question did not go through as a whole.
    pub fn has_failed(&mut self) -> bool {
        std::mem::take(&mut self.has_failed)
    }

    /// Decides whatever waits and is due. False when there was nothing.
    pub fn decide(&mut self, desk: &Desk) -> bool {
        let (mut taken, mut suspects) = self.take();
        if taken.is_empty() && suspects.is_empty() {
            return false;
        }
        taken.sort_unstable_by_key(|taken| taken.ticket);
        if !taken.is_empty() {
            match processes::transaction(|| together(&taken)) {
                Ok(became) => self.tell(taken, became, desk),
                // One of them may be the reason.
                Err(_) => suspects.extend(taken),
            }
        }
        if !suspects.is_empty() {
            self.sift(suspects, desk);
        }
        true
    }

    /// What waits and is due: what nothing is known against, and what is to be decided apart.
    fn take(&mut self) -> (Vec<Taken>, Vec<Taken>) {
        let now = group::now();
        self.suspects.retain(|_, until| *until > now);
        let (mut taken, mut suspects) = (Vec::new(), Vec::new());
        for slot in memory::all_slots() {
            let word = slot.word();
            if !word.waits(self.database) {
                continue;
            }
            let later = self.later.get(&slot.0).filter(|later| later.ticket == slot.ticket());
            let delay = later.map_or(0, |later| later.delay);
            if later.is_some_and(|later| later.at > now) || !word.take(self.database) {
                continue;
            }
            let Some(request) = body::read_request(slot.request()) else {
                self.answer(&[(slot, Became::Failed(unreadable()))], 0);
                continue;
            };
            let one = Taken { slot, ticket: slot.ticket(), delay, request };
            if self.suspects.is_empty() || !self.suspects.contains_key(&one.party()) {
                taken.push(one);
            } else if self.sift_at <= now {
                suspects.push(one);
            } else {
                self.put_off_until(&one, self.sift_at, delay);
            }
        }
        (taken, suspects)
    }

    /// Decides orders of which one has failed: in a transaction apart, which is not for long, and not too often.
    fn sift(&mut self, mut suspects: Vec<Taken>, desk: &Desk) {
        self.has_failed = true;
        // What was not tried yet comes first, and a tenant's orders together.
        suspects.sort_unstable_by(|one, other| {
            let key = |taken: &Taken| (taken.delay, taken.request.relation);
            let by_tenant = || one.request.tenant.cmp(other.request.tenant);
            key(one).cmp(&key(other)).then_with(by_tenant).then_with(|| one.ticket.cmp(&other.ticket))
        });
        let begun = group::now();
        let became = processes::transaction(|| sift::one_by_one(&suspects))
            .unwrap_or_else(|failure| Became::nobodys(&failure, suspects.len()));
        let now = group::now();
        self.sift_at = now + 2 * (now - begun);
        for (taken, became) in suspects.iter().zip(&became) {
            if !matches!(became, Became::Told(_)) {
                self.suspects.insert(taken.party(), now + SUSPICION);
            }
        }
        self.tell(suspects, became, desk);
    }

    /// Tells what became of them, and puts off or away what nothing became of.
    fn tell(&mut self, taken: Vec<Taken>, became: Vec<Became>, desk: &Desk) {
        let (mut told, mut orphans) = (Vec::with_capacity(taken.len()), Vec::new());
        for (taken, became) in taken.into_iter().zip(became) {
            match became {
                Became::Told(_) => told.push((taken.slot, became)),
                // Nobody is there to try again: the order goes where it is not forgotten, and its slot is another's.
                _ if taken.slot.word().is_left() && taken.request.order.is_some() => orphans.push(taken),
                Became::Failed(_) => told.push((taken.slot, became)),
                Became::Left => self.put_off(&taken),
            }
        }
        // Requests are not read any more: their places are written.
        let until = wal::end();
        for some in told.chunks(TOGETHER) {
            self.answer(some, until);
        }
        self.queue(orphans, desk);
    }

    /// Hands answers over, and wakes one of those who wait for them: which sees to it that the log is on disk until there, and wakes the others.
    fn answer(&mut self, told: &[(Slot, Became)], until: Place) {
        let mut latches = Vec::with_capacity(told.len());
        for (at, (slot, became)) in told.iter().enumerate() {
            self.later.remove(&slot.0);
            let length = match became {
                Became::Told(answers) => body::write_answers(slot.body(), answers),
                Became::Failed(fault) => body::write_fault(slot.body(), fault),
                Became::Left => continue,
            };
            slot.promise(if matches!(became, Became::Told(_)) { until } else { 0 });
            let leads = at + 1 == told.len() && slot.lead(length, &latches);
            // Before the slot is the caller's, and perhaps another's right after.
            let latch = slot.latch();
            match slot.word().finish(self.database) {
                true if leads => return memory::wake_caller(latch),
                true => latches.push(latch),
                false => memory::freed(),
            }
        }
        latches.into_iter().for_each(memory::wake_caller);
    }

    fn put_off(&mut self, taken: &Taken) {
        let is_suspect = !self.suspects.is_empty() && self.suspects.contains_key(&taken.party());
        let last = if is_suspect { LAST_DELAY_OF_SUSPECTS } else { LAST_DELAY };
        let delay = (taken.delay * 2).clamp(FIRST_DELAY, last);
        self.put_off_until(taken, group::now() + delay, delay);
    }

    fn put_off_until(&mut self, taken: &Taken, at: i64, delay: i64) {
        self.later.insert(taken.slot.0, Later { ticket: taken.ticket, at, delay });
        taken.slot.word().give_back(self.database);
    }

    /// Moves orders into the queue.
    fn queue(&mut self, orphans: Vec<Taken>, desk: &Desk) {
        if orphans.is_empty() {
            return;
        }
        let queued = processes::transaction(|| {
            for Taken { request, .. } in &orphans {
                if let Some(order) = request.order {
                    let (relation, identity) = (request.relation.into(), request.identity);
                    queue::add(relation, identity, request.tenant, order, &request.items, &request.quantities)?;
                }
            }
            Ok(())
        });
        for taken in orphans {
            if queued.is_ok() {
                desk.note_queued(taken.request.relation);
                self.answer(&[(taken.slot, Became::Told(Vec::new()))], 0);
            } else {
                self.put_off(&taken);
            }
        }
    }

    /// When something that was put off is due; None when nothing is.
    pub fn due(&mut self) -> Option<i64> {
        let database = self.database;
        let waits = |number: &usize, later: &Later| {
            let slot = Slot(*number);
            slot.word().waits(database) && slot.ticket() == later.ticket
        };
        self.later.retain(|number, later| waits(number, later));
        self.later.values().map(|later| later.at).min()
    }

    /// Moves what nobody waits for any more into the queue, where whoever drains next finds it.
    pub fn put_away(&mut self, desk: &Desk) {
        let mut orphans = Vec::new();
        for slot in memory::all_slots() {
            if !slot.word().is_left() || !slot.word().take(self.database) {
                continue;
            }
            match body::read_request(slot.request()).filter(|request| request.order.is_some()) {
                Some(request) => orphans.push(Taken { slot, ticket: slot.ticket(), delay: 0, request }),
                None => self.answer(&[(slot, Became::Told(Vec::new()))], 0),
            }
        }
        self.queue(orphans, desk);
    }

    /// Tells everybody who waits that nothing will come of it.
    pub fn refuse(&mut self, fault: &Fault) {
        for slot in memory::all_slots() {
            if slot.word().take(self.database) {
                self.answer(&[(slot, Became::Failed(fault.clone()))], 0);
            }
        }
    }
}

/// Whether somebody waits for the database's worker.
pub fn is_anybody_waiting(database: u32) -> bool {
    memory::all_slots().any(|slot| slot.word().waits(database) || slot.word().is_taken(database))
}

fn unreadable() -> Fault {
    Fault {
        sqlstate: PgSqlErrorCode::ERRCODE_INTERNAL_ERROR as i32,
        message: "a request cannot be read".into(),
        ..Default::default()
    }
}

/// The requests by their tables, those of one in the order of arrival: their places in `taken`.
pub(super) fn by_table(taken: &[Taken]) -> Vec<(pg_sys::Oid, Vec<usize>)> {
    let mut tables: Vec<(pg_sys::Oid, Vec<usize>)> = Vec::new();
    for (at, Taken { request, .. }) in taken.iter().enumerate() {
        match tables.iter_mut().find(|(relation, _)| relation.to_u32() == request.relation) {
            Some((_, places)) => places.push(at),
            None => tables.push((request.relation.into(), vec![at])),
        }
    }
    tables
}

/// A table, and the requests for it: their places in the round, and themselves.
pub(super) struct Opened<'a> {
    pub inventory: Rc<table::Inventory>,
    pub places: Vec<usize>,
    pub orders: Vec<&'a Taken>,
}

/// The table, if it needs no waiting; and of the requests those that still fit it.
pub(super) fn open<'a>(
    relation: pg_sys::Oid,
    places: &[usize],
    taken: &'a [Taken],
    became: &mut [Became],
) -> Result<Option<Opened<'a>>> {
    if !locks::try_relation_for_statement(relation) {
        return Ok(None);
    }
    let inventory = table::inventory(relation).map_err(|report| {
        if super::work::is_installed() {
            return report;
        }
        error::state(
            "extension bulkhead is not installed in this database any more",
            "It was dropped while the order waited.",
            "CREATE EXTENSION bulkhead.",
        )
    })?;
    let (strays, places): (Vec<usize>, Vec<usize>) =
        places.iter().partition(|at| inventory.is_stray(taken[**at].request.identity, taken[**at].request.tenant));
    for at in strays {
        became[at] = Became::Failed(Fault {
            sqlstate: PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE as i32,
            message: format!("{} was registered anew", security::relation_name(relation)),
            detail: Some(drain::STRAY.into()),
            hint: Some("Call again.".into()),
        });
    }
    let orders = places.iter().map(|at| &taken[*at]).collect();
    Ok(Some(Opened { inventory, places, orders }))
}

pub(super) fn all_left(taken: &[Taken]) -> Vec<Became> {
    taken.iter().map(|_| Became::Left).collect()
}

/// Where an order has waited for long, what it waits for is looked into.
pub(super) fn busy(orders: &[&Taken]) -> Busy {
    if orders.iter().any(|taken| taken.delay >= LAST_DELAY) { Busy::LeaveLocked } else { Busy::LeaveAll }
}

/// Everything at once, as nearly always.
fn together(taken: &[Taken]) -> Result<Vec<Became>> {
    constraints::immediate();
    let mut became = all_left(taken);
    for (relation, places) in by_table(taken) {
        let Some(Opened { inventory, places, orders }) = open(relation, &places, taken, &mut became)? else { continue };
        let decided = many::attempt(&inventory, &orders, busy(&orders))?;
        for (number, at) in places.into_iter().enumerate() {
            became[at] = Became::of(&decided, number);
        }
    }
    Ok(became)
}
