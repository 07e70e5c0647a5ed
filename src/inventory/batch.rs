//! Deciding a batch: lock the items in key order, then look the orders up, fold, store the verdicts, update.
//!
//! The steps are one after the other, and whoever runs them runs the statements on the user's table: a direct call as its caller, a
//! drain as the table's owner and for each tenant in turn. What needs no statement is done in between.

use std::rc::Rc;

use pgrx::prelude::*;

use super::ledger::{self, Ledger};
use super::section::Section;
use super::table::Inventory;
use crate::error::{self, Result};
use crate::pg::plans::{self, Run, Steps};
use crate::pg::{items, security};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The items of this section are to be locked.
    Lock(usize),
    /// What was taken from this section's items is to be written.
    Update(usize),
    Over,
}

pub struct Batch {
    pub inventory: Rc<Inventory>,
    /// In the order of their tenants, so that two batches lock in the same order.
    pub sections: Vec<Section>,
    stage: Stage,
    /// Orders that another transaction is deciding are left out, and not an error.
    pub leave_busy: bool,
}

impl Batch {
    pub fn new(inventory: Rc<Inventory>, mut sections: Vec<Section>) -> Batch {
        sections.sort_by(|one, other| one.tenant.cmp(&other.tenant));
        Batch { inventory, sections, stage: Stage::Lock(0), leave_busy: false }
    }

    /// The section that the statement which `next` gave is about.
    pub fn section(&self) -> usize {
        match self.stage {
            Stage::Lock(at) | Stage::Update(at) => at,
            Stage::Over => 0,
        }
    }

    fn decide(&mut self) -> Result<()> {
        let ledger = Ledger::open()?;
        for found in ledger.look_up(&self.sections)? {
            if found.is_busy() {
                if !self.leave_busy {
                    return Err(ledger::busy());
                }
                self.sections[found.section].leave(found.order);
                continue;
            }
            let rows = found.rows.into_iter().filter(|row| row.line != ledger::RELEASED).collect();
            self.sections[found.section].is_stored(found.order, rows);
        }
        for section in &mut self.sections {
            section.decide();
        }
        ledger.store(self.inventory.relation, &self.sections)
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
                        let lock = self.inventory.lock.plan(item_type, wanted.len())?;
                        let keys = items::array(item_type, &wanted);
                        return Ok(Run::new(lock, keys, pg_sys::Datum::null()));
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
                        let update = self.inventory.update.plan(item_type, taken.len())?;
                        let keys = items::array(item_type, &taken);
                        return Ok(Run::new(update, keys, items::quantities(&quantities)));
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
                plans::results(|[item, quantity]| {
                    if let Some(item) = item.map(|item| items::read(item_type, item)) {
                        twice |= !section.has(&item, quantity.map(|quantity| quantity.value() as i64));
                    }
                    Ok(())
                })?;
                if twice {
                    return Err(doubled(self.inventory.relation));
                }
                self.stage = Stage::Lock(at + 1);
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
