//! A round of the worker: everybody who waits, decided in one transaction.

use std::collections::HashMap;

use pgrx::prelude::*;

use super::super::many::Order;
use super::super::queue;
use super::became::Became;
use super::body::{self, Fault, Request};
use super::share::{Shares, Waiting};
use super::{bisect, tables};
use crate::pg::counters::{self, Counter};
use crate::pg::group::memory::{self, Desk, Slot};
use crate::pg::group::{self, processes};
use crate::pg::wal::{self, Lsn};

/// What could not be decided is tried again after so many microseconds, then after twice as many, up to the last; and what failed in a way that may pass, at least as often as this.
const FIRST_DELAY: i64 = 1_000;
pub const LAST_DELAY: i64 = 64_000;
const LAST_DELAY_OF_SUSPECTS: i64 = 1_000_000;

/// Orders of a tenant of which one has failed are decided apart from all others for so long.
const SUSPICION: i64 = 1_000_000;

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
    bisect_at: i64,
    bisected: usize,
    has_failed: bool,
    shares: Shares,
}

impl Rounds {
    /// What a former worker had taken waits again: it was decided or it was not, and is told the same.
    pub fn begin(database: u32) -> Rounds {
        for slot in memory::all_slots() {
            slot.word().give_back(database);
        }
        Rounds {
            database,
            later: HashMap::new(),
            suspects: HashMap::new(),
            bisect_at: 0,
            bisected: 0,
            has_failed: false,
            shares: Shares::default(),
        }
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
        taken = self.share_out(taken);
        if !taken.is_empty() {
            match processes::transaction(|| tables::together(&taken)) {
                Ok(became) => self.tell(taken, became, desk),
                // One of them may be the reason.
                Err(_) => suspects.extend(taken),
            }
        }
        if !suspects.is_empty() {
            self.bisect(suspects, desk);
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
                self.answer(slot, &Became::Failed(unreadable()), 0);
                continue;
            };
            let one = Taken { slot, ticket: slot.ticket(), delay, request };
            if self.suspects.is_empty() || !self.suspects.contains_key(&one.party()) {
                taken.push(one);
            } else if self.bisect_at <= now {
                suspects.push(one);
            } else {
                self.put_off_until(&one, self.bisect_at, delay);
            }
        }
        (taken, suspects)
    }

    /// Everybody, or of several tenants the first of each: the others wait for the next round.
    fn share_out(&mut self, taken: Vec<Taken>) -> Vec<Taken> {
        let waiting: Vec<Waiting> =
            taken.iter().map(|one| Waiting { tenant: one.request.tenant, was_left: one.delay > 0 }).collect();
        let Some(chosen) = self.shares.choose(group::now(), &waiting) else { return taken };
        let mut now = Vec::new();
        for (one, is_chosen) in taken.into_iter().zip(chosen) {
            if is_chosen { now.push(one) } else { self.put_off_until(&one, 0, one.delay) }
        }
        now
    }

    /// Decides orders of which one has failed: in a transaction apart, which is not for long, and not too often.
    fn bisect(&mut self, mut suspects: Vec<Taken>, desk: &Desk) {
        self.has_failed = true;
        // A tenant's orders together, and another tenant's first each time: there may not be time for all.
        suspects.sort_unstable_by(|one, other| {
            let key = |taken: &Taken| (taken.request.relation, taken.ticket);
            let by_tenant = || one.request.tenant.cmp(other.request.tenant);
            key(one).0.cmp(&key(other).0).then_with(by_tenant).then_with(|| key(one).1.cmp(&key(other).1))
        });
        let begins = |at: &usize| *at == 0 || suspects[*at].party() != suspects[*at - 1].party();
        let parties: Vec<usize> = (0..suspects.len()).filter(begins).collect();
        self.bisected = self.bisected.wrapping_add(1);
        suspects.rotate_left(parties[self.bisected % parties.len()]);
        let begun = group::now();
        let became = processes::transaction(|| bisect::one_by_one(&suspects))
            .unwrap_or_else(|failure| Became::nobodys(&failure, suspects.len()));
        let now = group::now();
        self.bisect_at = now + 2 * (now - begun);
        for (taken, became) in suspects.iter().zip(&became) {
            if matches!(became, Became::Failed(_) | Became::Stuck) {
                self.suspects.insert(taken.party(), now + SUSPICION);
            }
        }
        self.tell(suspects, became, desk);
    }

    /// Tells what became of them, and puts off or away what nothing became of.
    fn tell(&mut self, taken: Vec<Taken>, became: Vec<Became>, desk: &Desk) {
        counters::add(Counter::Batches, 1);
        counters::add(Counter::Orders, became.iter().filter(|became| matches!(became, Became::Told(_))).count());
        desk.note_round(taken.len());
        let shares = shares(&taken);
        let (mut told, mut orphans) = (Vec::with_capacity(taken.len()), Vec::new());
        for ((taken, became), share) in taken.into_iter().zip(became).zip(shares) {
            match became {
                Became::Told(_) => told.push((share, taken.slot, became)),
                Became::Untried => self.put_off_until(&taken, 0, taken.delay),
                // Nobody is there to try again: the order goes where it is not forgotten, and its slot is another's.
                _ if taken.slot.word().is_left() && taken.request.order.is_some() => orphans.push(taken),
                Became::Failed(_) => told.push((share, taken.slot, became)),
                Became::Left | Became::Stuck => self.put_off(&taken),
            }
        }
        // The processors are shared out in the order in which sessions are woken: who asks for little is not to stand behind who asks for much.
        told.sort_by_key(|(share, ..)| *share);
        // One flush for all of them, while no row is locked. Nobody is told anything before.
        let flush_lsn = wal::end();
        if told.iter().any(|(.., became)| matches!(became, Became::Told(_))) {
            let begun = group::now();
            wal::flush(flush_lsn);
            self.shares.note_flush(group::now() - begun);
        }
        for (_, slot, became) in told {
            self.answer(slot, &became, flush_lsn);
        }
        self.queue(orphans, desk);
    }

    /// Hands an answer over, and wakes who waits for it.
    fn answer(&mut self, slot: Slot, became: &Became, flush_lsn: Lsn) {
        self.later.remove(&slot.0);
        match became {
            Became::Told(answers) => body::write_answers(slot.body(), answers),
            Became::Failed(fault) => body::write_fault(slot.body(), fault),
            Became::Left | Became::Stuck | Became::Untried => return,
        };
        slot.set_flush_lsn(if matches!(became, Became::Told(_)) { flush_lsn } else { 0 });
        if slot.word().finish(self.database) { slot.wake() } else { memory::freed() }
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
                self.answer(taken.slot, &Became::Told(Vec::new()), 0);
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
                None => self.answer(slot, &Became::Told(Vec::new()), 0),
            }
        }
        self.queue(orphans, desk);
    }

    /// Tells everybody who waits that nothing will come of it.
    pub fn refuse(&mut self, fault: &Fault) {
        for slot in memory::all_slots() {
            if slot.word().take(self.database) {
                self.answer(slot, &Became::Failed(fault.clone()), 0);
            }
        }
    }
}

/// For each, how many there are of its table and tenant.
fn shares(taken: &[Taken]) -> Vec<usize> {
    let party = |taken: &Taken| (taken.request.relation, taken.request.tenant);
    let mut counts = HashMap::new();
    taken.iter().for_each(|one| *counts.entry(party(one)).or_insert(0) += 1);
    taken.iter().map(|one| counts.get(&party(one)).copied().unwrap_or(0)).collect()
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
