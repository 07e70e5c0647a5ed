//! The worker of a database: rounds for those who wait, batches of the queue in between, and sleep.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use pgrx::prelude::*;

use super::super::sweep::{Rest, Sweep};
use super::body::Fault;
use super::is_wanted_here;
use super::round::{self, LAST_DELAY, Rounds};
use crate::pg::counters::{self, Counter};
use crate::pg::group::memory::{self, Desk};
use crate::pg::group::{self, processes};
use crate::pg::inventory::all_registered;
use crate::pg::subtransaction::Failure;
use crate::pg::{scan, security, version};

/// A worker that was sent for ends when nobody has asked anything of it for so many microseconds.
const IDLE: i64 = 60_000_000;

/// A queue of which something is locked is looked at again after so long, at the longest; one that cannot be drained, for an error that is no order's fault, later.
const LAST_LOOK: i64 = 1_000_000;
const LAST_TRY: i64 = 60_000_000;

/// An inventory whose queue is to be drained.
struct Due {
    at: i64,
    delay: i64,
    sweep: Sweep,
}

/// Why a worker ends.
enum End {
    /// It was told to, or nothing is to be done.
    Quietly,
    /// There is nothing here to work on.
    Gone,
    /// The setting does not name the database any more.
    Unwanted,
}

/// The worker's whole life, at the desk of its database.
pub fn work(desk: &Desk) {
    let database = security::database();
    let mut rounds = Rounds::begin(database);
    let mut queues: HashMap<u32, Due> = HashMap::new();
    desk.note_all();
    desk.was_looked_at.store(true, Ordering::SeqCst);
    desk.has_nothing.store(false, Ordering::SeqCst);
    desk.sit_down();
    let mut idle_since = group::now();
    let (mut was_busy, mut is_new) = (false, true);
    let mut look_at = 0;
    // By its present name: it may have been renamed since somebody was sent for.
    let is_wanted = || {
        desk.rename(&memory::database_name(database));
        Ok(is_wanted_here())
    };
    let end = loop {
        let is_reloaded = processes::catch_up();
        if desk.leave.swap(false, Ordering::SeqCst) {
            desk.was_sent_away.store(true, Ordering::SeqCst);
            break End::Quietly;
        }
        if (std::mem::take(&mut is_new) || is_reloaded) && !processes::transaction(is_wanted).unwrap_or(true) {
            break End::Unwanted;
        }
        let decided = rounds.decide(desk);
        let was_rung = desk.is_rung();
        if look_at <= group::now() {
            look_at = if note(desk, &mut queues) { 0 } else { group::now() + LAST_LOOK };
        }
        let has_noted = was_rung && !desk.is_rung();
        let drained = drain(&mut queues);
        // No sleep after a transaction without another look: a wait for a lock in it may have taken a wake-up.
        if decided || drained || has_noted {
            was_busy = !rounds.has_failed();
            if was_busy {
                idle_since = group::now();
                continue;
            }
        }
        // Not after each call: whoever drops the extension wakes us, and so does whoever was refused for that.
        if !std::mem::take(&mut was_busy) {
            if !processes::transaction(|| Ok(is_installed())).unwrap_or(true) {
                break End::Gone;
            }
            was_busy = true;
            continue;
        }
        let dues = rounds.due().into_iter().chain(queues.values().map(|due| due.at));
        let due = dues.chain((look_at > 0).then_some(look_at)).min();
        let until = due.unwrap_or(idle_since + IDLE);
        if due.is_none() && until <= group::now() && !processes::is_kept() {
            desk.stand_up();
            if !desk.is_rung() && !round::is_anybody_waiting(database) {
                break End::Quietly;
            }
            desk.sit_down();
            continue;
        }
        let milliseconds = if due.is_none() && processes::is_kept() { -1 } else { group::until(until).max(1) };
        processes::rest(milliseconds);
    };
    desk.stand_up();
    if !matches!(end, End::Quietly) {
        desk.take_queued();
    }
    if matches!(end, End::Unwanted) {
        rounds.put_away(desk);
    }
    match end {
        End::Quietly => {}
        End::Gone => {
            desk.has_nothing.store(true, Ordering::SeqCst);
            rounds.refuse(&fault("extension bulkhead is not installed in this database", "CREATE EXTENSION bulkhead."));
            processes::end_in_vain(desk);
        }
        End::Unwanted => {
            rounds.refuse(&fault("no worker runs in this database", "bulkhead.drain_databases does not name it."));
            processes::end_in_vain(desk);
        }
    }
}

fn fault(message: &str, hint: &str) -> Fault {
    let sqlstate = PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE as i32;
    Fault { sqlstate, message: message.into(), detail: None, hint: Some(hint.into()) }
}

pub fn is_installed() -> bool {
    security::catch_up();
    scan::table(c"inventory") != pg_sys::InvalidOid && version::require().is_ok()
}

/// What the bells say is due at once. False when the list of inventories could not be read.
fn note(desk: &Desk, queues: &mut HashMap<u32, Due>) -> bool {
    if !desk.is_rung() {
        return true;
    }
    let relations = match desk.take_queued() {
        Some(relations) => relations,
        None => match processes::transaction(|| Ok(all_registered())) {
            Ok(relations) => relations.into_iter().map(pg_sys::Oid::to_u32).collect(),
            Err(_) => {
                desk.note_all();
                return false;
            }
        },
    };
    for relation in relations {
        let due = queues.entry(relation).or_insert_with(|| Due { at: 0, delay: 0, sweep: Sweep::new(relation.into()) });
        (due.at, due.delay) = (0, 0);
    }
    true
}

/// A batch of the queue that is due for the longest. False when none is.
fn drain(queues: &mut HashMap<u32, Due>) -> bool {
    let now = group::now();
    let Some((relation, due)) = queues.iter_mut().filter(|(_, due)| due.at <= now).min_by_key(|(_, due)| due.at) else {
        return false;
    };
    let relation = *relation;
    let went = processes::transaction(|| due.sweep.batch());
    if went.is_ok() {
        counters::add(Counter::Drained, due.sweep.done());
    }
    match went {
        // One that may have waited for locks lets the others have their turn.
        Ok(true) if due.sweep.is_hindered() => due.at = now + 3 * (group::now() - now),
        Ok(true) => due.at = now,
        Ok(false) => match due.sweep.end() {
            Rest::Nothing => {
                queues.remove(&relation);
            }
            // Something of it is locked.
            Rest::Busy => due.put_off(LAST_DELAY / 16, LAST_LOOK),
            Rest::Failed(failure) => due.failed(relation, &failure),
        },
        Err(failure) => {
            due.sweep.end();
            due.failed(relation, &failure);
        }
    }
    true
}

impl Due {
    fn put_off(&mut self, first: i64, last: i64) {
        self.delay = (self.delay * 2).clamp(first, last);
        self.at = group::now() + self.delay;
    }

    fn failed(&mut self, relation: u32, failure: &Failure) {
        if failure.is_transient() {
            return self.put_off(LAST_DELAY, LAST_LOOK);
        }
        processes::log(&format!("bulkhead cannot drain the queue of relation {relation}: {}", failure.message));
        self.put_off(LAST_DELAY, LAST_TRY);
    }
}
