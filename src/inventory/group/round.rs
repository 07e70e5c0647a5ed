//! A round of the worker: everybody who waits, decided in one transaction.

use std::collections::HashMap;
use std::rc::Rc;

use pgrx::prelude::*;

use super::super::batch::Busy;
use super::super::fold::Answer;
use super::super::many::{self, Halving, Order};
use super::super::{drain, queue, table};
use super::body::{self, Fault, Request};
use crate::error::{self, Result};
use crate::pg::group::memory::{self, Desk, Slot};
use crate::pg::group::{self, processes};
use crate::pg::subtransaction::{self, Failure};
use crate::pg::{constraints, locks, security};

/// What could not be decided is tried again after so many microseconds, then after twice as many, up to the last.
const FIRST_DELAY: i64 = 1_000;
pub const LAST_DELAY: i64 = 64_000;

/// A request that this worker has taken.
struct Taken {
    slot: Slot,
    ticket: u64,
    request: Request<'static>,
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
enum Became {
    Told(Vec<Answer>),
    Failed(Fault),
    /// Another transaction was in the way.
    Left,
}

impl Became {
    fn of(decided: &many::Decided, number: usize) -> Became {
        decided.answers(number).map_or(Became::Left, |answers| Became::Told(answers.to_vec()))
    }

    fn failure(failure: &Failure) -> Became {
        if failure.is_transient() || failure.is_cancel {
            return Became::Left;
        }
        Became::Failed(Fault {
            sqlstate: failure.sqlstate,
            message: failure.message.clone(),
            detail: failure.detail.clone(),
            hint: failure.hint.clone(),
        })
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
    has_failed: bool,
}

impl Rounds {
    /// What a former worker had taken waits again: it was decided or it was not, and is told the same.
    pub fn begin(database: u32) -> Rounds {
        for slot in memory::all_slots() {
            slot.word().give_back(database);
        }
        Rounds { database, later: HashMap::new(), has_failed: false }
    }

    /// Whether a round since the last question did not go through as a whole.
    pub fn has_failed(&mut self) -> bool {
        std::mem::take(&mut self.has_failed)
    }

    /// Decides whatever waits and is due. False when there was nothing.
    pub fn decide(&mut self, desk: &Desk) -> bool {
        let mut taken = self.take();
        if taken.is_empty() {
            return false;
        }
        taken.sort_unstable_by_key(|taken| taken.ticket);
        let became = match processes::transaction(|| together(&taken)) {
            Ok(became) => became,
            // One of them may be the reason; or it is nobody's fault, and they all hear of it.
            Err(_) => {
                self.has_failed = true;
                processes::transaction(|| one_by_one(&taken))
                    .unwrap_or_else(|failure| taken.iter().map(|_| Became::failure(&failure)).collect())
            }
        };
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
        for (slot, became) in told {
            self.later.remove(&slot.0);
            self.answer(slot, &became);
        }
        self.queue(orphans, desk);
        true
    }

    fn take(&self) -> Vec<Taken> {
        let now = group::now();
        let mut taken = Vec::new();
        for slot in memory::all_slots() {
            let word = slot.word();
            if !word.waits(self.database) {
                continue;
            }
            let is_early = |later: &Later| later.at > now && later.ticket == slot.ticket();
            if self.later.get(&slot.0).is_some_and(is_early) || !word.take(self.database) {
                continue;
            }
            match body::read_request(slot.request()) {
                Some(request) => taken.push(Taken { slot, ticket: slot.ticket(), request }),
                None => self.answer(slot, &Became::Failed(unreadable())),
            }
        }
        taken
    }

    /// Hands the answer over, and wakes who waits for it.
    fn answer(&self, slot: Slot, became: &Became) {
        match became {
            Became::Told(answers) => body::write_answers(slot.body(), answers),
            Became::Failed(fault) => body::write_fault(slot.body(), fault),
            Became::Left => return,
        }
        // Before the slot is the caller's, and perhaps another's right after.
        let latch = slot.latch();
        if slot.word().finish(self.database) {
            memory::wake_caller(latch);
        } else {
            memory::freed();
        }
    }

    fn put_off(&mut self, taken: &Taken) {
        let former = self.later.get(&taken.slot.0).filter(|later| later.ticket == taken.ticket);
        let delay = former.map_or(FIRST_DELAY, |later| (later.delay * 2).min(LAST_DELAY));
        let at = group::now() + delay;
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
                    queue::add(request.relation.into(), request.tenant, order, &request.items, &request.quantities)?;
                }
            }
            Ok(())
        });
        for taken in orphans {
            if queued.is_ok() {
                desk.note_queued(taken.request.relation);
                self.later.remove(&taken.slot.0);
                self.answer(taken.slot, &Became::Told(Vec::new()));
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

    /// Tells everybody who waits that nothing will come of it.
    pub fn refuse(&self, fault: &Fault) {
        for slot in memory::all_slots() {
            if slot.word().take(self.database) {
                self.answer(slot, &Became::Failed(fault.clone()));
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
fn by_table(taken: &[Taken]) -> Vec<(pg_sys::Oid, Vec<usize>)> {
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
struct Opened<'a> {
    inventory: Rc<table::Inventory>,
    places: Vec<usize>,
    orders: Vec<&'a Taken>,
}

/// The table, if it needs no waiting; and of the requests those that still fit it.
fn open<'a>(
    relation: pg_sys::Oid,
    places: &[usize],
    taken: &'a [Taken],
    became: &mut [Became],
) -> Result<Option<Opened<'a>>> {
    if !super::work::is_installed() {
        return Err(error::state(
            "extension bulkhead is not installed in this database any more",
            "It was dropped while the order waited.",
            "CREATE EXTENSION bulkhead.",
        ));
    }
    if !locks::try_relation_for_statement(relation) {
        return Ok(None);
    }
    let inventory = table::inventory(relation)?;
    let (strays, places): (Vec<usize>, Vec<usize>) =
        places.iter().partition(|at| drain::is_stray(&inventory, taken[**at].request.tenant));
    for at in strays {
        became[at] = Became::Failed(Fault {
            sqlstate: PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE as i32,
            message: format!("{} was protected, or is not any more", security::relation_name(relation)),
            detail: Some(drain::STRAY.into()),
            hint: Some("Call again.".into()),
        });
    }
    let orders = places.iter().map(|at| &taken[*at]).collect();
    Ok(Some(Opened { inventory, places, orders }))
}

fn all_left(taken: &[Taken]) -> Vec<Became> {
    taken.iter().map(|_| Became::Left).collect()
}

/// Everything at once, as nearly always.
fn together(taken: &[Taken]) -> Result<Vec<Became>> {
    constraints::immediate();
    let mut became = all_left(taken);
    for (relation, places) in by_table(taken) {
        let Some(Opened { inventory, places, orders }) = open(relation, &places, taken, &mut became)? else { continue };
        let decided = many::attempt(&inventory, &orders, Busy::LeaveAll)?;
        for (number, at) in places.into_iter().enumerate() {
            became[at] = Became::of(&decided, number);
        }
    }
    Ok(became)
}

/// After a failure: each table by itself, and of its orders the one that fails.
fn one_by_one(taken: &[Taken]) -> Result<Vec<Became>> {
    constraints::immediate();
    let mut became = all_left(taken);
    for (relation, places) in by_table(taken) {
        let decide = || {
            let mut inner = all_left(taken);
            let Some(Opened { inventory, places, orders }) = open(relation, &places, taken, &mut inner)? else {
                return Ok(Vec::new());
            };
            let halving = Halving {
                inventory: &inventory,
                busy: Busy::LeaveAll,
                told: &Became::of,
                is_an_orders: &|failure| !failure.is_cancel && (many::is_an_orders(failure) || failure.is_transient()),
                failed: &|_: &Taken, failure| Ok(Became::failure(&failure)),
            };
            let decided = match halving.decide(&orders) {
                Ok(decided) => decided,
                Err(failure) => orders.iter().map(|_| Became::failure(&failure)).collect(),
            };
            for (at, one) in places.iter().zip(decided) {
                inner[*at] = one;
            }
            Ok(inner)
        };
        let came = match subtransaction::kept(|| false, decide) {
            Ok(came) => came,
            Err(failure) => taken.iter().map(|_| Became::failure(&failure)).collect(),
        };
        for (at, one) in came.into_iter().enumerate() {
            if places.contains(&at) {
                became[at] = one;
            }
        }
    }
    Ok(became)
}
