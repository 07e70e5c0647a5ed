//! What drains set aside: who sees it, and how it is queued again or forgotten.

use std::ffi::CStr;

use pgrx::prelude::*;

use super::table;
use crate::error::Result;
use crate::pg::group::ringing;
use crate::pg::queue::{self, DeadLetter, Request};
use crate::pg::{client, keys, own_locks, version};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn time(time: i64) -> TimestampWithTimeZone {
    TimestampWithTimeZone::try_from(time).unwrap_or_else(|_| TimestampWithTimeZone::positive_infinity())
}

fn items(request: &Request) -> Vec<Option<String>> {
    request.items.iter().map(|item| item.as_deref().map(text)).collect()
}

/// `poisoned_orders(relation regclass)`: the queued orders of the tenant that a drain set aside, and why. None that was queued for a dropped table of the same oid, or for
/// tenants by another column.
///
/// Errors: 42501 no tenant, or no right to the table; 55000 not registered. Reads every order that was set aside.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn poisoned_orders(
    relation: Option<pg_sys::Oid>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(number, i64),
            name!(order_id, String),
            name!(items, Vec<Option<String>>),
            name!(quantities, Vec<Option<i64>>),
            name!(queued_at, TimestampWithTimeZone),
            name!(set_aside_at, TimestampWithTimeZone),
            name!(sqlstate, String),
            name!(reason, String),
        ),
    >,
> {
    version::require()?;
    let relation = table::given(relation)?;
    let inventory = table::for_caller(relation, false)?;
    let tenant = table::tenant(&inventory)?;
    let letters = collect(|request| {
        request.relation == relation && request.identity == inventory.identity && request.tenant == tenant
    })?;
    Ok(TableIterator::new(letters.into_iter().map(|(request, letter)| {
        (
            request.number,
            text(&request.order),
            items(&request),
            request.quantities,
            time(request.queued_at),
            time(letter.set_aside_at),
            letter.sqlstate,
            letter.reason,
        )
    })))
}

/// `all_poisoned_orders(relation regclass DEFAULT NULL)`: the same for all tenants, of one table or of all: also what belongs to no tenant of its table any more, and
/// what waited for a table that was dropped, which shows as its number.
///
/// The privilege is EXECUTE. Reads every order that was set aside. No locks but ROW EXCLUSIVE on the extension's table.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn all_poisoned_orders(
    relation: Option<pg_sys::Oid>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(relation, pg_sys::Oid),
            name!(tenant, String),
            name!(number, i64),
            name!(order_id, String),
            name!(items, Vec<Option<String>>),
            name!(quantities, Vec<Option<i64>>),
            name!(queued_at, TimestampWithTimeZone),
            name!(set_aside_at, TimestampWithTimeZone),
            name!(sqlstate, String),
            name!(reason, String),
        ),
    >,
> {
    version::require()?;
    let letters = collect(|request| relation.is_none_or(|relation| request.relation == relation))?;
    Ok(TableIterator::new(letters.into_iter().map(|(request, letter)| {
        (
            request.relation,
            text(&request.tenant),
            request.number,
            text(&request.order),
            items(&request),
            request.quantities,
            time(request.queued_at),
            time(letter.set_aside_at),
            letter.sqlstate,
            letter.reason,
        )
    })))
}

/// In the order of arrival.
fn collect(is_asked: impl Fn(&Request) -> bool) -> Result<Vec<(Request, DeadLetter)>> {
    let mut letters = Vec::new();
    queue::each_dead_letter(|request, letter| {
        if is_asked(&request) {
            letters.push((request, letter));
        }
    })?;
    letters.sort_by_key(|(request, _)| request.number);
    Ok(letters)
}

/// `requeue_poisoned(relation regclass, numbers bigint[] DEFAULT NULL)`: queues again, behind everybody, what a drain set aside of the table, for all tenants; or
/// those of the numbers. How many; a second call finds none. What belongs to no tenant of the table as it is now stays where it is.
///
/// The privilege is EXECUTE. Errors: 22023; 55000 not registered; 25006 read-only. Locks: the inventory's drain lock, for which it waits, until the transaction ends.
#[pg_extern(sql = false)]
fn requeue_poisoned(relation: Option<pg_sys::Oid>, numbers: Option<Vec<Option<i64>>>) -> Result<i64> {
    let relation = begin(relation, c"requeue_poisoned()")?;
    let inventory = table::inventory(relation)?;
    let count = take(relation, numbers.as_deref(), |request| {
        if inventory.is_stray(request.identity, &request.tenant) {
            return Ok(false);
        }
        let number = queue::next_number(c"inventory_request_number")?;
        queue::add(&Request { number, queued_at: keys::now(), ..request })?;
        Ok(true)
    })?;
    if count > 0 {
        ringing::queued(relation);
    }
    Ok(count)
}

/// `forget_poisoned(relation regclass, numbers bigint[] DEFAULT NULL)`: deletes what was set aside of the table, for all tenants; or those of the numbers. How many.
/// A table that was dropped is named by its number.
///
/// The privilege is EXECUTE. Errors: 22023; 25006 read-only. Locks: as requeue_poisoned().
#[pg_extern(sql = false)]
fn forget_poisoned(relation: Option<pg_sys::Oid>, numbers: Option<Vec<Option<i64>>>) -> Result<i64> {
    let relation = begin(relation, c"forget_poisoned()")?;
    take(relation, numbers.as_deref(), |_| Ok(true))
}

/// What comes before anything is taken away: nobody else drains the table until the transaction ends.
fn begin(relation: Option<pg_sys::Oid>, call: &CStr) -> Result<pg_sys::Oid> {
    version::require()?;
    let relation = table::given(relation)?;
    client::refuse_read_only(call);
    own_locks::begin_draining(relation);
    Ok(relation)
}

/// Takes away what `done` says is done with, in the order of arrival. Whoever else does, or sets aside, holds the drain lock.
fn take(
    relation: pg_sys::Oid,
    numbers: Option<&[Option<i64>]>,
    mut done: impl FnMut(Request) -> Result<bool>,
) -> Result<i64> {
    let table = queue::dead_letters()?;
    let mut found = table.of_relation(relation);
    if let Some(numbers) = numbers {
        let asked: std::collections::HashSet<i64> = numbers.iter().copied().flatten().collect();
        found.retain(|(number, _)| asked.contains(number));
    }
    found.sort_unstable_by_key(|(number, _)| *number);
    let mut count = 0;
    for (number, place) in found {
        pgrx::check_for_interrupts!();
        let Some(request) = table.request(place, number) else { continue };
        if done(request)? {
            table.delete(place);
            count += 1;
        }
    }
    Ok(count)
}
