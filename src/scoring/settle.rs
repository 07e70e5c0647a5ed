//! A batch of a tenant's, whatever its rows are like.
//!
//! Nearly always one statement writes all of them. Where it fails for a row (a constraint, a trigger's error), or leaves one unwritten (a trigger that returns NULL),
//! the rows are found by halving; each that cannot be written is marked as failed, and where that cannot be written either it is stepped over until the
//! call ends. So none holds back those behind it.

use std::cell::RefCell;

use pgrx::prelude::*;

use super::attach::Attached;
use super::statement::{self, Action};
use crate::context::acting::acting_for;
use crate::context::state;
use crate::error::{self, Result};
use crate::pg::cell::PerBackend;
use crate::pg::subtransaction::{self, Failure};
use crate::pg::{security, settings, spi};

/// Rows of a tenant that a call steps over; where there are more, the tenant waits for the next call.
const MOST_LEFT: usize = 10_000;

/// What a batch did.
#[derive(Default)]
pub struct Done {
    pub scored: i64,
    /// Rows that were marked as failed.
    pub failed: i64,
    /// Rows that could not be written, and are stepped over from now on.
    pub left: i64,
    pub error: Option<String>,
}

/// A batch of a call.
pub struct Call<'c> {
    pub table: &'c Attached,
    pub action: Action,
    /// Empty where the table has none.
    pub tenant: &'c str,
    pub size: i32,
    /// When the call began, which tells it from other calls of this session.
    pub started: TimestampWithTimeZone,
}

/// Where a row lies: its table and its place there, as the server prints it.
type RowId = (pg_sys::Oid, String);

/// The rows that a call steps over, of each tenant.
struct Left {
    of: (pg_sys::Oid, Action, TimestampWithTimeZone),
    tenants: Vec<(String, Vec<RowId>)>,
}

/// It is a hint: what is on it by mistake, because the transaction was rolled back for example, has its turn with the next call.
static LEFT: PerBackend<RefCell<Option<Left>>> = PerBackend::new(RefCell::new(None));

/// The call has ended.
pub fn forget() {
    LEFT.replace(None);
}

fn left(call: &Call) -> Vec<RowId> {
    let of = (call.table.oid, call.action, call.started);
    let left = LEFT.borrow();
    let tenants = left.as_ref().filter(|left| left.of == of).map_or(&[][..], |left| &left.tenants);
    tenants.iter().find(|(tenant, _)| tenant == call.tenant).map_or_else(Vec::new, |(_, places)| places.clone())
}

fn leave(call: &Call, places: Vec<RowId>) {
    let of = (call.table.oid, call.action, call.started);
    let mut left = LEFT.borrow_mut();
    if left.as_ref().is_none_or(|left| left.of != of) {
        *left = Some(Left { of, tenants: Vec::new() });
    }
    let Some(left) = left.as_mut() else { return };
    match left.tenants.iter_mut().find(|(tenant, _)| tenant == call.tenant) {
        Some((_, known)) => known.extend(places),
        None => left.tenants.push((call.tenant.to_owned(), places)),
    }
}

/// One batch of the tenant's. An error that is no row's fault is in `Done`, and nothing was done.
pub fn batch(call: &Call) -> Done {
    let left = left(call);
    if left.len() >= MOST_LEFT {
        return Done::default();
    }
    let mut done = Done::default();
    // Past what is stepped over, rows are looked for by another statement.
    if left.is_empty() {
        match subtransaction::kept(|| false, || whole(call)) {
            Ok((written, failed, picked)) => {
                done = Done { scored: written - failed, failed, ..done };
                if written == picked {
                    return done;
                }
            }
            Err(failure) if failure.is_of_the_row() && call.action != Action::Forget => {}
            Err(failure) => return Done { error: Some(failure.message), ..done },
        }
    }
    match subtransaction::kept(|| false, || one_by_one(call, &left)) {
        Ok((careful, places)) => {
            leave(call, places);
            Done {
                scored: done.scored + careful.scored,
                failed: done.failed + careful.failed,
                left: careful.left,
                error: careful.error,
            }
        }
        Err(failure) => Done { error: Some(failure.message), ..done },
    }
}

/// Runs `work` as the table's owner, and with the tenant as the context. Its statements name the table: 40001 when that is another's name by now.
fn acting<T>(call: &Call, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let work = || security::as_owner(call.table.oid, work);
    let is_in_force = state::with_tenant(|now| now.id() == call.tenant.as_bytes());
    let done = if call.table.tenant.is_none() || is_in_force {
        settings::kept(work)
    } else {
        acting_for(call.tenant.as_bytes(), work)
    }?;
    // Until it was run, no lock kept the table from being renamed, and none does its schema.
    if security::relation_name(call.table.oid) == call.table.name {
        return Ok(done);
    }
    Err(error::retry(
        format!("{} was renamed while its rows were being scored", call.table.name),
        "The statement may have met another table of the former name, and what it did is undone.",
    ))
}

/// How many rows were written, how many of these failed, and how many were picked.
fn whole(call: &Call) -> Result<(i64, i64, i64)> {
    let sql = statement::whole(call.table, call.action, call.size);
    let arguments = [call.table.rule_set.as_str().into(), call.tenant.into()];
    let counts = acting(call, || spi::kept_row(&sql, &arguments, |row| Ok((row.get(1)?, row.get(2)?, row.get(3)?))))?;
    Ok(counts.unwrap_or((0, 0, 0)))
}

/// Runs a statement about places.
fn about<T>(call: &Call, sql: &str, places: &[RowId], read: impl Fn(spi::Row) -> Result<T>) -> Result<Vec<T>> {
    let (parts, places): (Vec<pg_sys::Oid>, Vec<String>) = places.iter().cloned().unzip();
    let arguments = [call.table.rule_set.as_str().into(), call.tenant.into(), parts.into(), places.into()];
    // Planned for these very places: how many there are makes the plan.
    acting(call, || spi::rows(sql, &arguments, read))
}

/// The same batch, past the rows that are stepped over, without those that cannot be written: what was done, and where these are.
fn one_by_one(call: &Call, left: &[RowId]) -> Result<(Done, Vec<RowId>)> {
    let pick = statement::pick(call.table, call.action, call.size, !left.is_empty());
    let picked = about(call, &pick, left, |row| Ok((row.get(1)?, row.get(2)?)))?;
    let mut scored = Settled::default();
    let write = statement::at_places(call.table, call.action);
    write_bisecting(call, &write, &picked, &mut scored).map_err(Failure::into_report)?;
    let mut marked = Settled::default();
    let refused = std::mem::take(&mut scored.refused);
    if !refused.is_empty() {
        let mark = statement::mark(call.table, call.action);
        write_bisecting(call, &mark, &refused, &mut marked).map_err(Failure::into_report)?;
    }
    let silent = || {
        format!(
            "{} rows of {} were not written: a trigger, a rule or a policy keeps them as they are",
            refused.len(),
            call.table.name
        )
    };
    let done = Done {
        scored: scored.done - scored.failed,
        failed: scored.failed + marked.done,
        left: marked.refused.len() as i64,
        error: scored.error.or(marked.error).or_else(|| (!refused.is_empty()).then(silent)),
    };
    Ok((done, marked.refused))
}

#[derive(Default)]
struct Settled {
    done: i64,
    failed: i64,
    refused: Vec<RowId>,
    /// What was raised for a row.
    error: Option<String>,
}

/// Runs the statement for these places, and for half of them where it fails for a row.
fn write_bisecting(
    call: &Call,
    sql: &str,
    places: &[RowId],
    settled: &mut Settled,
) -> std::result::Result<(), Failure> {
    if places.is_empty() {
        return Ok(());
    }
    let run = || {
        about(call, sql, places, |row| {
            let place: RowId = (row.get(1)?, row.get(2)?);
            Ok((place, row.get::<bool>(3)?, row.get::<bool>(4)?))
        })
    };
    match subtransaction::kept(|| false, run) {
        Ok(rows) => {
            for (place, is_done, has_failed) in rows {
                if is_done {
                    settled.done += 1;
                    settled.failed += i64::from(has_failed);
                } else {
                    settled.refused.push(place);
                }
            }
            Ok(())
        }
        Err(failure) if !failure.is_of_the_row() => Err(failure),
        Err(failure) => {
            if let [only] = places {
                settled.refused.push(only.clone());
                settled.error = Some(failure.message);
                return Ok(());
            }
            let (first, second) = places.split_at(places.len() / 2);
            write_bisecting(call, sql, first, settled)?;
            write_bisecting(call, sql, second, settled)
        }
    }
}
