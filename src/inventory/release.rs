//! `release_order()`: what an order took is given back, once.

use std::rc::Rc;

use pgrx::prelude::*;

use super::fold::Verdict;
use super::item::Item;
use super::section::Section;
use super::table::{self, Inventory};
use super::verdict_store::{self, Found, VerdictStore};
use crate::error::{self, Result};
use crate::idempotency::key::shown;
use crate::pg::prepared::{self, Run, Steps};
use crate::pg::{client, items, security};

enum Stage {
    Lock,
    Update,
    Over,
}

/// A release, from its arguments to the number of lines that were given back.
///
/// Errors: 22023 no order; 42501 no tenant, or no right to the table; 55000 not registered, or the order has no verdict; 40001 the order is being decided or
/// released by another transaction; 25006 read-only; whatever the table's constraints and triggers raise. Locks: as a decrement of the same lines.
pub struct Release {
    inventory: Rc<Inventory>,
    sections: Vec<Section>,
    /// What was accepted.
    taken: Vec<(Item, i64)>,
    /// The items that are still there.
    present: Vec<Item>,
    stage: Stage,
    given_back: i32,
}

impl Release {
    pub fn new(relation: pg_sys::Oid, order: Option<&[u8]>) -> Result<Release> {
        client::refuse_read_only(c"release_order()");
        let order = given(order)?;
        let inventory = table::for_caller(relation, true)?;
        let tenant = table::tenant(&inventory)?;
        let mut section = Section::new(tenant, inventory.identity, inventory.item_type, 1);
        section.order(Some(order));
        let sections = vec![section];
        let found = known(&VerdictStore::open()?, &sections, order)?;
        let taken: Vec<(Item, i64)> = found
            .rows
            .iter()
            .filter(|row| row.line != verdict_store::RELEASED && row.verdict == Verdict::Accepted.letter())
            .filter_map(|row| Some((inventory.item_type.parse(row.item.as_deref()?), row.quantity?)))
            // What the column, of another type since, has no value for cannot be in the table.
            .filter(|(item, _)| !matches!(item, Item::Foreign(_)))
            .collect();
        let released = found.rows.iter().any(|row| row.line == verdict_store::RELEASED && !row.is_uncommitted);
        let stage = if released || taken.is_empty() { Stage::Over } else { Stage::Lock };
        Ok(Release { inventory, sections, taken, present: Vec::new(), stage, given_back: 0 })
    }

    pub fn given_back(&self) -> i32 {
        self.given_back
    }

    /// Rows that are not there take nothing back. Those that are, and that the role cannot change, or the transaction not see, must not be taken for such.
    fn refuse_hidden(&self, missing: &[(Item, i64)]) -> Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        let (table, order) = (security::relation_name(self.inventory.relation), self.sections[0].id(0));
        if security::has_transaction_snapshot() {
            return Err(error::state(
                format!("order {} cannot be given back in this transaction", shown(order)),
                "Rows of its items are not in the transaction's snapshot, and may be there by now.",
                "Call release_order() in a READ COMMITTED transaction.",
            ));
        }
        let hidden = self.inventory.hidden(&missing.iter().map(|(item, _)| item).collect::<Vec<_>>())?;
        if hidden.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = hidden.iter().take(10).map(|item| shown(item)).collect();
        let (items, are) = (if hidden.len() == 1 { "item" } else { "items" }, hidden.len());
        Err(error::denied(
            format!("order {} cannot be given back: {are} {items} of {table} may not be changed", shown(order)),
            format!("A policy of the table's keeps from this role: {}. Nothing was given back.", names.join(", ")),
            "Let a role call that may change them.",
        ))
    }

    /// Under the items' locks; false when somebody else has given it back.
    fn mark(&self) -> Result<bool> {
        let store = VerdictStore::open()?;
        let found = known(&store, &self.sections, self.sections[0].id(0))?;
        match found.rows.iter().find(|row| row.line == verdict_store::RELEASED) {
            Some(row) if row.is_uncommitted => Err(busy()),
            Some(_) => Ok(false),
            None if store.release(self.inventory.relation, &found, &self.sections[0]) => Ok(true),
            None => Err(busy()),
        }
    }
}

/// An order's id. Errors: 22023.
pub fn given(order: Option<&[u8]>) -> Result<&[u8]> {
    order
        .filter(|order| !order.is_empty())
        .ok_or_else(|| error::argument("order_id must not be empty", "Pass the id that the order was placed with."))
}

fn known(store: &VerdictStore, sections: &[Section], order: &[u8]) -> Result<Found> {
    let found = store.look_up(sections)?.into_iter().next().ok_or_else(|| {
        error::state(
            format!("order {} has no verdict", shown(order)),
            "It was never placed, still waits in the queue, or its verdict is older than bulkhead.order_retention.",
            "SELECT * FROM bulkhead.order_verdicts(...) shows an order's verdict.",
        )
    })?;
    if found.is_busy() {
        return Err(verdict_store::busy());
    }
    Ok(found)
}

fn busy() -> pgrx::pg_sys::panic::ErrorReport {
    error::retry("the order is being released by another transaction", "An order is given back once.")
}

impl Steps for Release {
    fn next(&mut self) -> Result<Run> {
        let item_type = self.inventory.item_type;
        match self.stage {
            Stage::Lock => {
                let wanted: Vec<&Item> = self.taken.iter().map(|(item, _)| item).collect();
                Ok(Run::new(
                    self.inventory.lock.plan(item_type, wanted.len())?,
                    items::array(item_type, &wanted),
                    pg_sys::Datum::null(),
                ))
            }
            Stage::Update => {
                let (taken, missing): (Vec<_>, Vec<_>) =
                    std::mem::take(&mut self.taken).into_iter().partition(|(item, _)| self.present.contains(item));
                self.refuse_hidden(&missing)?;
                self.taken = taken;
                // What can take nothing back now is not marked as given back.
                if self.taken.is_empty() || !self.mark()? {
                    self.stage = Stage::Over;
                    return Ok(Run::NONE);
                }
                let wanted: Vec<&Item> = self.taken.iter().map(|(item, _)| item).collect();
                let back: Vec<i64> = self.taken.iter().map(|(_, quantity)| -quantity).collect();
                Ok(Run::new(
                    self.inventory.update.plan(item_type, wanted.len())?,
                    items::array(item_type, &wanted),
                    items::quantities(&back),
                ))
            }
            Stage::Over => Ok(Run::NONE),
        }
    }

    fn done(&mut self, rows: u64) -> Result<()> {
        match self.stage {
            Stage::Lock => {
                let item_type = self.inventory.item_type;
                prepared::results(|[item, _]| {
                    self.present.extend(item.map(|item| items::read(item_type, item)));
                    Ok(())
                })?;
                self.stage = Stage::Update;
            }
            Stage::Update => {
                let expected = self.taken.len() as u64;
                if rows != expected {
                    return Err(super::batch::not_written(self.inventory.relation, rows, expected));
                }
                self.given_back = rows as i32;
                self.stage = Stage::Over;
            }
            Stage::Over => {}
        }
        Ok(())
    }
}
