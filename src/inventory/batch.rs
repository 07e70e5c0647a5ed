//! Deciding a batch: lock the items in key order, then look the orders up, fold, store the verdicts, update.
//!
//! The steps are one after the other, and whoever runs them runs the statements on the user's table: a direct call as its caller, a
//! drain as the table's owner and for each tenant in turn (many.rs). What needs no statement is done in between.

use std::rc::Rc;

use pgrx::prelude::*;

use super::section::Section;
use super::table::Inventory;
use super::verdict_store::{self, VerdictStore};
use crate::error::{self, Result};
use crate::pg::prepared::{self, Run, Steps};
use crate::pg::{items, security, wal};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The items of this section are to be locked.
    Lock(usize),
    /// Some of this section's items are locked by others, or are not there: which is it?
    Look(usize),
    /// One of these, by its place among those that are there: is it locked indeed?
    Prove(usize, usize),
    /// What was taken from this section's items is to be written.
    Update(usize),
    Over,
}

/// What a batch does about another transaction that is at the same items and orders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Busy {
    /// Waits for items, and raises 40001 for an order.
    Raise,
    /// Waits for items, and leaves orders out.
    LeaveOrders,
    /// Leaves out orders that another decides, and those of which it has locked an item. Waits for no row.
    LeaveAll,
    /// The same, and tries the lock of each such item once more: one that a policy keeps from being updated looks as if it were locked, for ever.
    LeaveLocked,
}

impl Busy {
    /// No row is waited for.
    pub fn leaves_items(self) -> bool {
        matches!(self, Busy::LeaveAll | Busy::LeaveLocked)
    }
}

pub struct Batch {
    pub inventory: Rc<Inventory>,
    /// In the order of their tenants, so that two batches lock in the same order.
    pub sections: Vec<Section>,
    stage: Stage,
    busy: Busy,
}

impl Batch {
    pub fn new(inventory: Rc<Inventory>, mut sections: Vec<Section>, busy: Busy) -> Batch {
        sections.sort_by(|one, other| one.tenant.cmp(&other.tenant));
        Batch { inventory, sections, stage: Stage::Lock(0), busy }
    }

    /// The section that the statement which `next` gave is about.
    pub fn section(&self) -> usize {
        match self.stage {
            Stage::Lock(at) | Stage::Look(at) | Stage::Prove(at, _) | Stage::Update(at) => at,
            Stage::Over => 0,
        }
    }

    /// The statement that `next` gave may say that its row is locked.
    pub fn is_proving(&self) -> bool {
        matches!(self.stage, Stage::Prove(..))
    }

    /// It has said so.
    pub fn is_locked_indeed(&mut self) {
        if let Stage::Prove(at, place) = self.stage {
            self.stage = Stage::Prove(at, place + 1);
        }
    }

    fn decide(&mut self) -> Result<()> {
        let store = VerdictStore::open()?;
        let mut flush_lsn = 0;
        for found in store.look_up(&self.sections)? {
            if found.is_busy() {
                if self.busy == Busy::Raise {
                    return Err(verdict_store::busy());
                }
                self.sections[found.section].leave(found.order);
                continue;
            }
            flush_lsn = flush_lsn.max(found.durable_at());
            let rows = found.rows.into_iter().filter(|row| row.line != verdict_store::RELEASED).collect();
            self.sections[found.section].is_stored(found.order, rows);
        }
        if self.busy == Busy::Raise && flush_lsn > 0 {
            // A transaction that only repeats orders flushes nothing at its end.
            wal::make_durable(flush_lsn);
        }
        for section in &mut self.sections {
            section.leave_locked();
            section.decide();
        }
        store.store(self.inventory.relation, &self.sections)
    }
}

impl Steps for Batch {
    fn next(&mut self) -> Result<Run> {
        let item_type = self.inventory.item_type;
        loop {
            match self.stage {
                Stage::Lock(at) if at < self.sections.len() => {
                    let wanted = self.sections[at].wanted();
                    if !wanted.is_empty() {
                        let keys = items::array(item_type, &wanted);
                        let lock =
                            if self.busy.leaves_items() { &self.inventory.lock_free } else { &self.inventory.lock };
                        return Ok(Run::new(lock.plan(item_type, wanted.len())?, keys, pg_sys::Datum::null()));
                    }
                    self.stage = Stage::Lock(at + 1);
                }
                Stage::Look(at) => {
                    let missing = self.sections[at].missing();
                    if !missing.is_empty() {
                        let keys = items::array(item_type, &missing);
                        return Ok(Run::new(
                            self.inventory.look.plan(item_type, missing.len())?,
                            keys,
                            pg_sys::Datum::null(),
                        ));
                    }
                    self.stage = Stage::Lock(at + 1);
                }
                Stage::Prove(at, place) => {
                    if let Some(item) = self.sections[at].locked(place) {
                        let keys = items::array(item_type, &[item]);
                        return Ok(Run::new(self.inventory.prove.plan(item_type, 1)?, keys, pg_sys::Datum::null()));
                    }
                    self.stage = Stage::Lock(at + 1);
                }
                Stage::Lock(_) => {
                    self.decide()?;
                    self.stage = Stage::Update(0);
                }
                Stage::Update(at) if at < self.sections.len() => {
                    let (taken, quantities): (Vec<_>, Vec<_>) = self.sections[at].taken().into_iter().unzip();
                    if !taken.is_empty() {
                        let keys = items::array(item_type, &taken);
                        return Ok(Run::new(
                            self.inventory.update.plan(item_type, taken.len())?,
                            keys,
                            items::quantities(&quantities),
                        ));
                    }
                    self.stage = Stage::Update(at + 1);
                }
                Stage::Update(_) => self.stage = Stage::Over,
                Stage::Over => return Ok(Run::NONE),
            }
        }
    }

    fn done(&mut self, rows: u64) -> Result<()> {
        match self.stage {
            Stage::Lock(at) => {
                let item_type = self.inventory.item_type;
                let section = &mut self.sections[at];
                let mut twice = false;
                prepared::results(|[item, quantity]| {
                    if let Some(item) = item.map(|item| items::read(item_type, item)) {
                        twice |= !section.has(&item, quantity.map(|quantity| quantity.value() as i64));
                    }
                    Ok(())
                })?;
                if twice {
                    return Err(doubled(self.inventory.relation));
                }
                self.stage = if self.busy.leaves_items() { Stage::Look(at) } else { Stage::Lock(at + 1) };
            }
            Stage::Look(at) => {
                // A later snapshot than that of the lock sees the row of an item that was only locked.
                let item_type = self.inventory.item_type;
                let section = &mut self.sections[at];
                prepared::results(|[item]| {
                    if let Some(item) = item {
                        section.is_locked(&items::read(item_type, item));
                    }
                    Ok(())
                })?;
                self.stage = if self.busy == Busy::LeaveLocked { Stage::Prove(at, 0) } else { Stage::Lock(at + 1) };
            }
            Stage::Prove(at, place) => {
                // No error: it is free by now, and locked by us, or not to be had for whoever asks.
                let mut quantity = None;
                prepared::results(|[_, found]| {
                    quantity = Some(found.map(|quantity| quantity.value() as i64));
                    Ok(())
                })?;
                self.sections[at].is_not_locked(place, quantity);
            }
            Stage::Update(at) => {
                let expected = self.sections[at].taken().len() as u64;
                if rows != expected {
                    return Err(not_written(self.inventory.relation, rows, expected));
                }
                self.stage = Stage::Update(at + 1);
            }
            Stage::Over => {}
        }
        Ok(())
    }
}

fn doubled(relation: pg_sys::Oid) -> pgrx::pg_sys::panic::ErrorReport {
    let table = security::relation_name(relation);
    error::state(
        format!("two rows of {table} are the same item"),
        "An item's quantity has to stand in one row.",
        "Give the item column a unique index again, together with the tenant column if there is one.",
    )
}

/// What an error says of rows that were locked and not written: by this a drain knows it.
pub const NOT_WRITTEN: &str = "They were locked, and something keeps the others from being written: a trigger that returns NULL, a rule, or a policy for UPDATE.";

pub fn not_written(relation: pg_sys::Oid, rows: u64, expected: u64) -> pgrx::pg_sys::panic::ErrorReport {
    let table = security::relation_name(relation);
    error::state(
        format!("only {rows} of {expected} rows of {table} could be updated"),
        NOT_WRITTEN,
        "Take that away, or let the role that calls pass it. Nothing was changed.",
    )
}
