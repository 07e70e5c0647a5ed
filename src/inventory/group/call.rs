//! `decrement_now()`: the caller's side.

use pgrx::prelude::*;

use super::super::fold::Answer;
use super::super::table;
use super::body::{self, Fault, Reply, Request};
use crate::error::{self, Result};
use crate::pg::group::{self, Waiter};
use crate::pg::{client, relation_locks, security, transaction, wal};

/// A wait of more than an hour is a mistake: the caller's snapshot keeps VACUUM from what has died since.
const MOST_WAIT: i64 = 60 * 60 * 1_000_000;

/// A worker that has gone is asked for again after so many microseconds.
const RING_AGAIN: i64 = 1_000_000;

/// What a call returns.
pub enum Outcome {
    /// What each line is told.
    Told(Vec<Answer>),
    /// The error that the order met.
    Failed(Fault),
    /// The wait ran out.
    Pending,
}

/// `decrement_now(relation regclass, order_id text, items text[], quantities bigint[], wait interval DEFAULT '5 s')`: has the order decided by the database's worker,
/// and returns when that is durable.
///
/// `wait`: in microseconds. Errors: 22023 a wait that is NULL, negative or longer than an hour, arrays of unequal length or empty; 25001 the transaction has written or locked; 25006 a read-only
/// transaction or a standby; 42501 no tenant, or no right to the table; 53400 no slot became free; 54000 an order larger than a slot; 55000 not registered, not preloaded, or no
/// worker runs in this database; 55P03 the table was locked for as long as the wait; 40P01 somebody waits for a lock of this transaction's; whatever the table's constraints and triggers raise. Locks: ACCESS SHARE on the table while it looks; nothing while it waits.
pub fn ask(
    relation: pg_sys::Oid,
    order: Option<&[u8]>,
    items: &[Option<&[u8]>],
    quantities: &[Option<i64>],
    wait: Option<i64>,
) -> Result<Outcome> {
    client::refuse_read_only(c"decrement_now()");
    let wait = wait
        .filter(|wait| (0..=MOST_WAIT).contains(wait))
        .ok_or_else(|| error::argument("wait must be an interval from 0 to 1 hour", "Leave it out for 5 seconds."))?;
    if items.len() != quantities.len() || items.is_empty() {
        return Err(error::argument(
            format!("items and quantities have {} and {} elements", items.len(), quantities.len()),
            "Pass two arrays of the same length, a line of the order each.",
        ));
    }
    check_place()?;
    check_transaction()?;
    let deadline = group::now() + wait;
    lock_within(relation, deadline)?;
    let inventory = table::for_caller(relation, false)?;
    let tenant = table::tenant(&inventory)?;
    let identity = inventory.identity;
    drop(inventory);
    // Whoever waits to change the table would wait for this transaction, and the worker for them: nobody would see that circle. Locked twice, above.
    relation_locks::let_go(relation);
    relation_locks::let_go(relation);
    let request = Request {
        relation: relation.to_u32(),
        identity,
        tenant: &tenant,
        order,
        items: items.to_vec(),
        quantities: quantities.to_vec(),
    };
    let milliseconds = group::until(deadline);
    let mut waiter = Waiter::claim(security::database(), milliseconds).ok_or_else(crowded)?;
    if !body::write_request(waiter.body(), &request) {
        return Err(error::limit(
            format!("the order has {} lines, and more text than a slot of shared memory holds", items.len()),
            "Use decrement_inventory(), which takes orders of any size.",
        ));
    }
    waiter.publish();
    let desk = super::ring().ok_or_else(|| {
        error::crowded("too many databases have a worker, or wait for one", "decrement_inventory() needs none.")
    })?;
    if !desk.is_quiet() {
        waiter.wait_in_turn();
    } else if milliseconds > 0 {
        waiter.watch();
    }
    wait_for(waiter, deadline)
}

/// ACCESS SHARE on the table, which may take as long as the order's verdict.
fn lock_within(relation: pg_sys::Oid, deadline: i64) -> Result<()> {
    let (mut pause, circle_at) = (1, circle_at());
    while !relation_locks::try_relation_for_reading(relation) {
        if group::now() >= circle_at
            && let Some(what) = group::wanted_of_mine()
        {
            return Err(circle(what));
        }
        let left = group::until(deadline);
        if left <= 0 {
            let table = security::relation_name(relation);
            return Err(error::busy(format!("{table} stayed locked, and the order was not placed")));
        }
        group::sleep(left.min(pause));
        pause = (pause * 2).min(64);
    }
    Ok(())
}

/// When it is time to look for a circle: the server's own look is for statements that wait for locks.
fn circle_at() -> i64 {
    group::now() + relation_locks::deadlock_milliseconds() * 1_000
}

/// Somebody waits for a lock that this transaction had before, and would keep the worker from deciding: nobody else sees that circle.
fn check_circle(waiter: &Waiter) -> Result<()> {
    match group::wanted_of_mine() {
        Some(what) if waiter.withdraw() => Err(circle(what)),
        _ => Ok(()),
    }
}

fn circle(what: Option<pg_sys::Oid>) -> pgrx::pg_sys::panic::ErrorReport {
    let what = match what {
        Some(table) => format!("a lock on {}", security::relation_name(table)),
        None => "an advisory lock".to_owned(),
    };
    error::deadlock(
        "decrement_now() may be waiting for its own transaction",
        format!(
            "The transaction holds {what}, for which another waits; the order was not decided meanwhile, and is not placed."
        ),
        "Call it first in its transaction, or in one of its own.",
    )
}

fn wait_for(waiter: Waiter, deadline: i64) -> Result<Outcome> {
    let (mut look_at, mut ring_at) = (circle_at(), group::now() + RING_AGAIN);
    while !waiter.is_done() {
        if group::now() >= look_at {
            check_circle(&waiter)?;
            look_at = circle_at();
        }
        let left = group::until(deadline);
        if left <= 0 {
            // Where no worker comes, what is left behind must not take every database's slots.
            if group::memory::is_littered() && waiter.withdraw() {
                return Err(error::crowded(
                    "the worker of this database does not keep up, and the order was not placed",
                    "Look into the server's log for why, and try again with the same order_id.",
                ));
            }
            return match waiter.leave() {
                Some(waiter) => read(waiter),
                None => Ok(Outcome::Pending),
            };
        }
        waiter.sleep(left);
        if group::now() >= ring_at {
            super::ring();
            ring_at = group::now() + RING_AGAIN;
        }
    }
    read(waiter)
}

/// The slot is given back before standbys are waited for: they may be long.
fn read(mut waiter: Waiter) -> Result<Outcome> {
    let flush_lsn = waiter.flush_lsn();
    let reply = body::read_reply(waiter.body());
    drop(waiter);
    if flush_lsn > 0 {
        wal::wait_for_standbys(flush_lsn);
    }
    match reply {
        Some(Reply::Told(answers)) => Ok(Outcome::Told(answers)),
        Some(Reply::Failed(fault)) => Ok(Outcome::Failed(fault)),
        None => Err(error::internal("a worker has left no answer")),
    }
}

/// Whether there is, or could be, a worker.
fn check_place() -> Result<()> {
    const INSTEAD: &str = "decrement_inventory() needs neither.";
    if !group::memory::is_there() {
        return Err(error::state(
            "decrement_now() needs bulkhead in shared_preload_libraries",
            "Callers and the worker that commits for them meet in shared memory.",
            format!("Add it there and restart the server. {INSTEAD}"),
        ));
    }
    if !super::is_wanted_here() {
        return Err(error::state(
            "no worker runs in this database",
            "bulkhead.drain_databases does not name it.",
            format!("Add the database to bulkhead.drain_databases, or set that to '*', and reload. {INSTEAD}"),
        ));
    }
    Ok(())
}

/// What is decided stands outside of the transaction: it must not have begun to change anything, and the worker must never wait for it.
fn check_transaction() -> Result<()> {
    const HINT: &str =
        "Call it first in its transaction, or use decrement_inventory(), which is part of the transaction.";
    if transaction::has_written() {
        return Err(error::transaction(
            "decrement_now() cannot be called in a transaction that has written",
            "It commits by itself, whatever becomes of this transaction.",
            HINT,
        ));
    }
    if let Some(table) = group::locked_table() {
        return Err(error::transaction(
            format!(
                "decrement_now() cannot be called in a transaction that has locked {}",
                security::relation_name(table)
            ),
            "Another process decides, and could wait for this transaction, which waits for it.",
            HINT,
        ));
    }
    Ok(())
}

fn crowded() -> pgrx::pg_sys::panic::ErrorReport {
    error::crowded(
        "all slots of decrement_now() are taken",
        "Raise bulkhead.decrement_slots, or try again with the same order_id.",
    )
}
