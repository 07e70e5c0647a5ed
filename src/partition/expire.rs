//! Lets go of expired partitions: archive, empty, drop, each in a transaction of its own.
//!
//! Emptying locks the partition only, and leaves the drop nothing to do but catalogs. What needs a lock that traffic would stand behind asks
//! for it without waiting, and only after many refusals waits for it, for a moment that nobody notices.

use pgrx::prelude::*;

use super::lock_backoff::LockBackoff;
use super::table::{Leaf, Table};
use super::{ledger, make, table};
use crate::error::{self, Result};
use crate::pg::{lock_timeout, relation_locks, security, spi, timeout};
use crate::seal::housekeeping;

/// What can be done for a partition next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Archive,
    Empty,
    Drop,
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Action::Archive => "archive",
            Action::Empty => "empty",
            Action::Drop => "drop",
        }
    }
}

pub enum Outcome {
    Done,
    /// There was nothing to do: the partition is empty, or held since, or gone.
    Needless,
    /// A lock could not be had: on this table.
    Busy(String),
}

/// How long the check of foreign keys that refer to the partition may take, since it holds up the application.
const DROP_MILLISECONDS: i32 = 1_000;

/// Whether the data says, as the clock does, that the partition's time is over: something was written for a time that is past
/// the partition's retention.
pub fn is_confirmed(table: &Table, leaf: &Leaf, now: i64) -> Result<bool> {
    let over = table.rule.retain.after(leaf.range.upper.at);
    lock_timeout::set(lock_timeout::MAINTENANCE);
    for later in table.leaves.iter().rev() {
        let started = later.range.lower.at <= now;
        if started && later.range.lower.at >= over && later.plain && table::has_pages(later.oid)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Calls on_expire as the table's owner, who has to own the partition: else that one's policies would hide rows from it.
pub fn archive(table: &Table, leaf: &Leaf, function: pg_sys::Oid) -> Result<Outcome> {
    if security::relation_owner(leaf.oid) != security::relation_owner(table.oid) {
        return Err(error::state(
            format!("partition {} belongs to another role than {}", leaf.name, table.name),
            "The on_expire function runs as the owner of the table.",
            "ALTER TABLE ... OWNER TO the table's owner.",
        ));
    }
    let call = spi::row(
        "SELECT format('SELECT %I.%I($1::regclass)', n.nspname, p.proname)
           FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = $1",
        &[function.into()],
        |row| row.get::<String>(1),
    )?
    .ok_or_else(|| {
        error::state(
            format!("the on_expire function of {} is gone", table.name),
            "Its expired partitions are kept.",
            "Call bulkhead.manage_partitions() with another function, or without one.",
        )
    })?;
    housekeeping::archive(leaf.oid, table.oid, || spi::run(&call, &[leaf.oid.into()]))?;
    // The function may have taken the partition away itself.
    if security::exists(leaf.oid) {
        ledger::archived(leaf.oid)?;
    }
    Ok(Outcome::Done)
}

/// Takes the locks as far as `backoff` allows: the table that could not be locked, if one could not. Raises 55P03 where it waits, for
/// what `asked` names.
fn lock(leaf: pg_sys::Oid, relations: &[pg_sys::Oid], backoff: &LockBackoff, asked: &mut String) -> Option<String> {
    let mut may_wait = backoff.waits();
    // Waiting for this lock holds up nobody else.
    *asked = security::relation_name(leaf);
    let milliseconds = relation_locks::deadlock_milliseconds() + lock_timeout::BEYOND_DEADLOCK_TIMEOUT;
    relation_locks::wait_for_relation(leaf, relation_locks::Mode::ShareUpdate, milliseconds);
    for relation in relations {
        if relation_locks::try_relation(*relation, relation_locks::Mode::Access) {
            continue;
        }
        // One wait for all of them, while what was locked before holds others up.
        if !std::mem::take(&mut may_wait) {
            return Some(security::relation_name(*relation));
        }
        *asked = security::relation_name(*relation);
        relation_locks::wait_for_relation(*relation, relation_locks::Mode::Access, lock_timeout::MAINTENANCE);
    }
    // What DDL locks beyond these it must not wait for either.
    lock_timeout::set(lock_timeout::MAINTENANCE);
    None
}

/// The table's and the partition's names, now that both are locked: before, they may have come to be another's. None when the partition is held or
/// expired no more, or gone.
fn again(table: &Table, leaf: &Leaf, now: i64) -> Result<Option<(String, String)>> {
    let Some(table) = table::read(table.oid)? else { return Ok(None) };
    let still = table.leaves.iter().find(|still| still.oid == leaf.oid);
    let due = still.filter(|leaf| !leaf.held && !leaf.pending && table.rule.is_expired(&leaf.range, now));
    Ok(due.map(|leaf| (table.name.clone(), leaf.name.clone())))
}

pub fn empty(table: &Table, leaf: &Leaf, now: i64, backoff: &mut LockBackoff, asked: &mut String) -> Result<Outcome> {
    // TRUNCATE refuses what a foreign key refers to, empty or not; the drop checks the rows.
    if !referencing(leaf.oid)?.is_empty() {
        return Ok(Outcome::Needless);
    }
    if let Some(busy) = lock(leaf.oid, &[leaf.oid], backoff, asked) {
        return Ok(Outcome::Busy(busy));
    }
    backoff.got();
    let Some((_, name)) = again(table, leaf, now)? else { return Ok(Outcome::Needless) };
    if !table::has_pages(leaf.oid)? {
        return Ok(Outcome::Needless);
    }
    let truncate = format!("TRUNCATE TABLE {name}");
    security::as_owner(table.oid, || housekeeping::empty(leaf.oid, || spi::run(&truncate, &[])))?;
    Ok(Outcome::Done)
}

pub fn drop(table: &Table, leaf: &Leaf, now: i64, backoff: &mut LockBackoff, asked: &mut String) -> Result<Outcome> {
    let mut relations = vec![table.oid, leaf.oid];
    relations.extend(make::referenced_by(leaf.oid)?);
    relations.extend(referencing(leaf.oid)?);
    if let Some(busy) = lock(leaf.oid, &relations, backoff, asked) {
        return Ok(Outcome::Busy(busy));
    }
    backoff.got();
    let Some((parent, name)) = again(table, leaf, now)? else { return Ok(Outcome::Needless) };
    let statements = [format!("ALTER TABLE {parent} DETACH PARTITION {name}"), format!("DROP TABLE {name}")];
    timeout::within(DROP_MILLISECONDS, || {
        security::as_owner(table.oid, || statements.iter().try_for_each(|statement| spi::run(statement, &[])))
    })?;
    Ok(Outcome::Done)
}

/// Tables whose foreign keys refer to the partition.
fn referencing(leaf: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    spi::rows(
        "SELECT DISTINCT k.conrelid FROM pg_constraint k WHERE k.confrelid = $1 AND k.contype = 'f' AND k.conrelid <> $1 ORDER BY 1",
        &[leaf.into()],
        |row| row.get(1),
    )
}

/// Ends what an interrupted DETACH CONCURRENTLY left.
pub fn finalize(table: &Table, leaf: &Leaf) -> Result<()> {
    // It waits for transactions that may still see the partition, and holds up nothing but other DDL.
    lock_timeout::set(lock_timeout::DDL);
    let statement = format!("ALTER TABLE {} DETACH PARTITION {} FINALIZE", table.name, leaf.name);
    timeout::within(5_000, || security::as_owner(table.oid, || spi::run(&statement, &[])))
}
