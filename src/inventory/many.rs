//! Deciding orders of several tenants at once, on others' account: what a drain and a group commit have in common.
//!
//! Nothing is lifted for it: the statements on the table run as its owner in a restricted security context, each under the context of the tenant whose orders it is
//! about, so triggers and policies see what they would see of a client of that tenant. An order that the table's constraints or triggers refuse is found by
//! halving the batch.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use pgrx::prelude::*;

use super::batch::{self, Batch, Busy};
use super::fold::Answer;
use super::section::Section;
use super::table::Inventory;
use crate::context::acting::acting_for;
use crate::error::Result;
use crate::pg::prepared::{self, Run, Steps};
use crate::pg::subtransaction::{self, Failure};
use crate::pg::{security, settings};

/// An order, whoever brings it.
pub trait Order {
    /// Empty for a table without tenants.
    fn tenant(&self) -> &[u8];
    fn id(&self) -> Option<&[u8]>;
    fn each_line(&self, line: impl FnMut(Option<&[u8]>, Option<i64>));
}

/// A batch that is decided.
pub struct Decided {
    batch: Batch,
    /// Of each order, the section and the number in it.
    places: Vec<(usize, usize)>,
}

impl Decided {
    /// What the lines of an order are told; None when another transaction was at it, and it is to be tried again.
    pub fn answers(&self, number: usize) -> Option<&[Answer]> {
        let (section, order) = self.places[number];
        let section = &self.batch.sections[section];
        (!section.is_left(order)).then(|| section.answers_of(order))
    }

    /// Whether something was taken for an order now: its row was written, and whatever triggers the table has have run.
    pub fn took(&self, number: usize) -> bool {
        let (section, order) = self.places[number];
        self.batch.sections[section].took(order)
    }
}

/// Decides the orders, in the order given, in the current transaction.
///
/// Errors: whatever the table raises; 40001 where an order meets another transaction in the index of verdicts. Locks: as decrement_inventory().
pub fn attempt<O: Order>(inventory: &Rc<Inventory>, orders: &[&O], busy: Busy) -> Result<Decided> {
    let mut counts: HashMap<&[u8], usize> = HashMap::new();
    for order in orders {
        *counts.entry(order.tenant()).or_default() += 1;
    }
    let mut sections: Vec<Section> = Vec::with_capacity(counts.len());
    let mut numbers: HashMap<&[u8], usize> = HashMap::with_capacity(counts.len());
    let mut places: Vec<(usize, usize)> = Vec::with_capacity(orders.len());
    for order in orders {
        let at = *numbers.entry(order.tenant()).or_insert_with(|| {
            let (identity, item_type) = (inventory.identity, inventory.item_type);
            let capacity = counts.get(order.tenant()).copied().unwrap_or_default();
            sections.push(Section::new(order.tenant().to_vec(), identity, item_type, capacity));
            sections.len() - 1
        });
        places.push((at, sections[at].order(order.id())));
        order.each_line(|item, quantity| sections[at].line(item, quantity));
    }
    let mut batch = Batch::new(Rc::clone(inventory), sections, busy);
    run(&mut batch)?;
    // The batch has sorted its sections.
    let mut now_at = vec![0; batch.sections.len()];
    for (at, section) in batch.sections.iter().enumerate() {
        if let Some(number) = numbers.get(section.tenant.as_slice()) {
            now_at[*number] = at;
        }
    }
    for (section, _) in &mut places {
        *section = now_at[*section];
    }
    Ok(Decided { batch, places })
}

/// Runs the batch's statements, each for its tenant; what comes one after the other for the same tenant without changing the context in between.
fn run(batch: &mut Batch) -> Result<()> {
    prepared::connected(|| {
        // As the owner from the beginning: a statement is planned for the role that runs it.
        let relation = batch.inventory.relation;
        let mut next = security::as_owner(relation, || batch.next())?;
        while !next.is_none() {
            let section = batch.section();
            let tenant = batch.sections[section].tenant.clone();
            next = acting_for(&tenant, || {
                settings::pin_search_path();
                security::as_owner(relation, || {
                    while !next.is_none() && batch.section() == section {
                        step(batch, next)?;
                        next = batch.next()?;
                    }
                    Ok::<_, pgrx::pg_sys::panic::ErrorReport>(next)
                })
            })?;
        }
        Ok(())
    })
}

/// Runs a statement; that the row which it asks for is locked may be its answer.
fn step(batch: &mut Batch, next: Run) -> Result<()> {
    if !batch.is_proving() {
        return prepared::run_guarded(batch, next);
    }
    match subtransaction::kept(|| false, || prepared::run_guarded(batch, next)) {
        Err(failure) if failure.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => {
            batch.is_locked_indeed();
            Ok(())
        }
        done => done.map_err(Failure::into_report),
    }
}

/// What comes of orders that are found out by bisection.
pub struct Bisection<'a, O, T> {
    pub inventory: &'a Rc<Inventory>,
    pub busy: Busy,
    /// What came of an order of a batch that went through.
    pub told: &'a dyn Fn(&Decided, usize) -> T,
    /// Whether a failure may be that of a single order.
    pub is_an_orders: &'a dyn Fn(&Failure) -> bool,
    /// What comes of the one order that fails.
    #[allow(clippy::type_complexity)]
    pub failed: &'a dyn Fn(&O, Failure) -> std::result::Result<T, Failure>,
    /// When that has become so and one order at least is judged, nothing more is tried, and `untried` comes of the rest.
    pub is_over: &'a dyn Fn() -> bool,
    pub untried: &'a dyn Fn() -> T,
    pub has_judged: Cell<bool>,
}

impl<O: Order, T> Bisection<'_, O, T> {
    /// Decides the orders, each half in a subtransaction when the whole fails. Nothing is done when this fails.
    pub fn decide(&self, orders: &[&O]) -> std::result::Result<Vec<T>, Failure> {
        if orders.is_empty() || self.has_judged.get() && (self.is_over)() {
            return Ok(orders.iter().map(|_| (self.untried)()).collect());
        }
        let attempt = || {
            let decided = attempt(self.inventory, orders, self.busy)?;
            Ok((0..orders.len()).map(|number| (self.told)(&decided, number)).collect())
        };
        let failure = match subtransaction::kept(|| false, attempt) {
            Ok(told) => {
                self.has_judged.set(true);
                return Ok(told);
            }
            Err(failure) => failure,
        };
        if !(self.is_an_orders)(&failure) {
            return Err(failure);
        }
        if let [only] = orders {
            self.has_judged.set(true);
            return Ok(vec![(self.failed)(only, failure)?]);
        }
        // When the second half fails, what the first one did must not stay either.
        subtransaction::kept(
            || false,
            || {
                // The first half first: the order of arrival stays.
                let (first, second) = orders.split_at(orders.len() / 2);
                let mut told = self.decide(first).map_err(Failure::into_report)?;
                told.extend(self.decide(second).map_err(Failure::into_report)?);
                Ok(told)
            },
        )
    }
}

/// Where nobody is to be kept waiting, a batch that fails is taken apart for so long at a time.
pub const BISECTION_TIME: Duration = Duration::from_millis(50);

/// An error that need not be every order's: it has nothing to do with the server's memory, disks, or end.
pub fn may_be_an_orders(failure: &Failure) -> bool {
    !failure.is_cancel && !failure.is_of_the_server()
}

/// An error of the order's: of the rows that it asks for, or that a row was not written, by a trigger that returns NULL.
pub fn is_an_orders(failure: &Failure) -> bool {
    failure.is_of_the_row() || failure.detail.as_deref() == Some(batch::NOT_WRITTEN)
}
