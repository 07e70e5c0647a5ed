//! The queue of orders: four tables, written and read in place.
//!
//! A request goes to the table that its number says: 65,536 numbers to one, then to the next. A table without an index that nobody is adding
//! to any more, and of which all rows are drained, is emptied by TRUNCATE. So the queue needs no VACUUM, is as large after five million requests as after a hundred
//! thousand, and an old snapshot does not keep what is drained: dead rows and dead index entries, which a DELETE leaves and an old snapshot keeps, are what slows such queues
//! down.
//!
//! A drain has to find the waiting rows without reading the drained ones again and again (pages.rs). One drain at a time works on an inventory, so it takes
//! requests in the order of their numbers; one that is committed late is taken when it is there. Orders that nobody drains are moved on to the table of the present
//! numbers, so that the one in which they lie can be emptied: all at once where they are few, a thousand a batch where they are many.

mod pages;
mod rows;
mod sample;

pub use pages::{Seen, Tid, scan};
pub use rows::{DeadLetter, Request, Segment, add, dead_letters, each_dead_letter, each_waiting, set_aside};
pub use sample::{sample_poisoned, sample_waiting};

use std::ffi::{CStr, c_char};

use pgrx::prelude::*;

use super::scan;
use crate::error::{self, Result};

/// The tables.
pub const SEGMENTS: [&CStr; 4] =
    [c"inventory_queue_0", c"inventory_queue_1", c"inventory_queue_2", c"inventory_queue_3"];

/// So many numbers go to one table before the next one's turn: 2 to this power.
const TURN: u32 = 16;

/// The table that a number belongs to.
pub fn segment_of(number: i64) -> usize {
    (number >> TURN) as usize % SEGMENTS.len()
}

/// Pages that a table has to have to be emptied: less is not worth a TRUNCATE.
const LEAST_PAGES: u32 = 256;

/// Whether a table is large, and not the one that requests are added to now.
pub fn is_worth_emptying(segment: &Segment, number: usize) -> Result<bool> {
    if segment.pages() < LEAST_PAGES {
        return Ok(false);
    }
    let now = segment_of(last_number(c"inventory_request_number")?);
    Ok(number != now)
}

/// Whether it is the table that requests will be added to next.
pub fn is_next(number: usize) -> Result<bool> {
    let now = segment_of(last_number(c"inventory_request_number")?);
    Ok(number == (now + 1) % SEGMENTS.len())
}

/// Adds a request again, with its number, to the table of the present numbers.
pub fn move_on(request: &Request) -> Result<()> {
    let now = segment_of(last_number(c"inventory_request_number")?);
    Segment::open(now)?.add(request);
    Ok(())
}

/// The last number that a sequence has given, or one a little later.
fn last_number(sequence: &CStr) -> Result<i64> {
    let sequence = existing(sequence)?;
    // SAFETY: the sequence's only row, read while it is open; its first column is the last value, or one that is reserved by then.
    unsafe {
        let relation = pg_sys::relation_open(sequence, pg_sys::AccessShareLock as i32);
        let none = std::ptr::null_mut();
        let mut snapshot =
            pg_sys::SnapshotData { snapshot_type: pg_sys::SnapshotType::SNAPSHOT_ANY, ..std::mem::zeroed() };
        let scan = pg_sys::systable_beginscan(relation, pg_sys::InvalidOid, false, &mut snapshot, 0, none);
        let tuple = pg_sys::systable_getnext(scan);
        let mut number = 0;
        if !tuple.is_null() {
            let mut is_null = false;
            let datum = pg_sys::heap_getattr(tuple, 1, (*relation).rd_att, &mut is_null);
            number = i64::from_datum(datum, is_null).unwrap_or(0);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::relation_close(relation, pg_sys::AccessShareLock as i32);
        Ok(number)
    }
}

fn existing(name: &CStr) -> Result<pg_sys::Oid> {
    match scan::table(name) {
        pg_sys::InvalidOid => Err(error::state(
            "extension bulkhead is not installed in this database, or is older than the library",
            format!("There is no {} in its schema.", name.to_string_lossy()),
            "CREATE EXTENSION bulkhead, or ALTER EXTENSION bulkhead UPDATE.",
        )),
        table => Ok(table),
    }
}

// Of these, pgrx has no bindings.
unsafe extern "C-unwind" {
    fn nextval_internal(sequence: pg_sys::Oid, check_permissions: bool) -> i64;
    fn Async_Notify(channel: *const c_char, payload: *const c_char);
}

/// The next number of a sequence of the extension's, whatever the role.
pub fn next_number(sequence: &CStr) -> Result<i64> {
    let sequence = existing(sequence)?;
    // SAFETY: an existing sequence; an error becomes one of pgrx's at this boundary.
    Ok(unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| nextval_internal(sequence, false)) })
}

/// NOTIFY, when the transaction commits.
pub fn notify(channel: &CStr, payload: &CStr) {
    // SAFETY: both strings are copied.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| Async_Notify(channel.as_ptr(), payload.as_ptr())) };
}
