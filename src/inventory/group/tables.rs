//! The requests of a round by their tables.

use std::rc::Rc;

use pgrx::prelude::*;

use super::super::batch::Busy;
use super::super::{drain, many, table};
use super::became::Became;
use super::body::Fault;
use super::round::{LAST_DELAY, Taken};
use super::work;
use crate::error::{self, Result};
use crate::pg::{constraints, relation_locks, security};

/// The requests by their tables, those of one in the order of arrival: their places in `taken`.
pub fn by_table(taken: &[Taken]) -> Vec<(pg_sys::Oid, Vec<usize>)> {
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
pub struct Opened<'a> {
    pub inventory: Rc<table::Inventory>,
    pub places: Vec<usize>,
    pub orders: Vec<&'a Taken>,
}

/// The table, if it needs no waiting; and of the requests those that still fit it.
pub fn open<'a>(
    relation: pg_sys::Oid,
    places: &[usize],
    taken: &'a [Taken],
    became: &mut [Became],
) -> Result<Option<Opened<'a>>> {
    if !relation_locks::try_relation_for_statement(relation) {
        return Ok(None);
    }
    let inventory = table::inventory(relation).map_err(|report| {
        if work::is_installed() {
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

pub fn all_left(taken: &[Taken]) -> Vec<Became> {
    taken.iter().map(|_| Became::Left).collect()
}

/// Where an order has waited for long, what it waits for is looked into.
pub fn busy(orders: &[&Taken]) -> Busy {
    if orders.iter().any(|taken| taken.delay >= LAST_DELAY) { Busy::LeaveLocked } else { Busy::LeaveAll }
}

/// Everything at once, as nearly always.
pub fn together(taken: &[Taken]) -> Result<Vec<Became>> {
    constraints::immediate();
    let mut became = all_left(taken);
    for (relation, places) in by_table(taken) {
        let came = whole(relation, &places, taken)?;
        put(&mut became, &places, came);
    }
    Ok(became)
}

/// The requests for a table at once.
pub fn whole(relation: pg_sys::Oid, places: &[usize], taken: &[Taken]) -> Result<Vec<Became>> {
    let mut became = all_left(taken);
    if let Some(Opened { inventory, places, orders }) = open(relation, places, taken, &mut became)? {
        let decided = many::attempt(&inventory, &orders, busy(&orders))?;
        for (number, at) in places.into_iter().enumerate() {
            became[at] = Became::of(&decided, number);
        }
    }
    Ok(became)
}

/// Takes over what came of these.
pub fn put(became: &mut [Became], places: &[usize], mut came: Vec<Became>) {
    for at in places {
        became[*at] = std::mem::replace(&mut came[*at], Became::Left);
    }
}
