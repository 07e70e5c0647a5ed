//! Rows of the queue and of what was set aside, by position: sql/inventory.sql says so too.

use std::ffi::CStr;

use pgrx::prelude::*;

use super::super::{columns, items};
use super::{SEGMENTS, Tid, existing};
use crate::error::{self, Result};

// Numbers of the columns, from 0, the same in both.
pub(super) const NUMBER: usize = 0;
pub(super) const RELATION: usize = 1;
pub(super) const QUEUED_AT: usize = 2;
const IDENTITY: usize = 3;
const TENANT: usize = 4;
const ORDER: usize = 5;
const ITEMS: usize = 6;
const QUANTITIES: usize = 7;
/// Columns of the queue.
const QUEUED: usize = 8;
// And of what was set aside.
const SET_ASIDE_AT: usize = 8;
const SQLSTATE: usize = 9;
const REASON: usize = 10;
const COLUMNS: usize = 11;

const OURS: [(&CStr, pg_sys::Oid); COLUMNS] = [
    (c"number", pg_sys::INT8OID),
    (c"relation", pg_sys::REGCLASSOID),
    (c"queued_at", pg_sys::TIMESTAMPTZOID),
    (c"identity", pg_sys::UUIDOID),
    (c"tenant", pg_sys::TEXTOID),
    (c"order_id", pg_sys::TEXTOID),
    (c"items", pg_sys::TEXTARRAYOID),
    (c"quantities", pg_sys::INT8ARRAYOID),
    (c"set_aside_at", pg_sys::TIMESTAMPTZOID),
    (c"sqlstate", pg_sys::TEXTOID),
    (c"reason", pg_sys::TEXTOID),
];

/// A queued order.
#[derive(Clone)]
pub struct Request {
    pub number: i64,
    pub relation: pg_sys::Oid,
    pub queued_at: i64,
    /// What the table was registered as when it was queued: a table's columns, and what has its oid, may be others since.
    pub identity: [u8; 16],
    pub tenant: Vec<u8>,
    pub order: Vec<u8>,
    pub items: Vec<Option<Vec<u8>>>,
    pub quantities: Vec<Option<i64>>,
}

/// Why one was set aside.
pub struct DeadLetter {
    pub set_aside_at: i64,
    pub sqlstate: String,
    pub reason: String,
}

/// A table of the queue, open.
pub struct Segment(pg_sys::Relation);

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: opened by `open`. The lock stays until the transaction ends.
        unsafe { pg_sys::relation_close(self.0, pg_sys::NoLock as i32) };
    }
}

impl Segment {
    /// Opens a table of the queue for writing.
    pub fn open(number: usize) -> Result<Segment> {
        open(SEGMENTS[number], QUEUED)
    }

    pub(super) fn relation(&self) -> pg_sys::Relation {
        self.0
    }

    /// The number of its file.
    pub(super) fn file(&self) -> u32 {
        // SAFETY: the relation is open.
        unsafe { (*(*self.0).rd_rel).relfilenode.to_u32() }
    }

    /// # Safety
    /// `tuple` is a row of this table, pinned.
    pub(super) unsafe fn read<T: FromDatum>(&self, tuple: *mut pg_sys::HeapTupleData, column: usize) -> Option<T> {
        let mut is_null = false;
        // SAFETY: the caller's promise; the column is passed by value.
        unsafe {
            let datum = pg_sys::heap_getattr(tuple, column as i32 + 1, (*self.0).rd_att, &mut is_null);
            T::from_datum(datum, is_null)
        }
    }

    pub fn pages(&self) -> u32 {
        // SAFETY: the relation is open.
        unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.0, pg_sys::ForkNumber::MAIN_FORKNUM) }
    }

    pub fn add(&self, request: &Request) {
        self.insert(request, None);
    }

    /// The row, if it is still there and has this number.
    pub fn request(&self, tid: Tid, number: i64) -> Option<Request> {
        // SAFETY: the table is open; the row is pinned while it is copied.
        unsafe {
            let mut snapshot =
                pg_sys::SnapshotData { snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY, ..std::mem::zeroed() };
            let mut tuple = pg_sys::HeapTupleData::default();
            pgrx::itemptr::item_pointer_set_all(&mut tuple.t_self, tid.block, tid.offset);
            let mut buffer = 0;
            #[cfg(feature = "pg14")]
            let found = pg_sys::heap_fetch(self.0, &mut snapshot, &mut tuple, &mut buffer);
            #[cfg(not(feature = "pg14"))]
            let found = pg_sys::heap_fetch(self.0, &mut snapshot, &mut tuple, &mut buffer, false);
            if !found {
                return None;
            }
            let request = Row::new(&mut tuple, (*self.0).rd_att).request();
            pg_sys::ReleaseBuffer(buffer);
            request.filter(|request| request.number == number)
        }
    }

    /// Takes a row away. Nobody else does, under the inventory's drain lock.
    pub fn delete(&self, tid: Tid) {
        let mut at = pg_sys::ItemPointerData::default();
        pgrx::itemptr::item_pointer_set_all(&mut at, tid.block, tid.offset);
        // SAFETY: the table is open for writing.
        unsafe { pg_sys::simple_heap_delete(self.0, &mut at) };
    }

    /// Rows of anybody's that wait, up to `limit` of them, each with its place; None when one is about to be added or taken away.
    pub fn waiting(&self, limit: usize) -> Option<Vec<(Request, Tid)>> {
        let (mut waiting, mut is_known) = (Vec::new(), true);
        self.each_present(|row, tid, is_busy| {
            match row.request().filter(|_| !is_busy) {
                Some(request) => waiting.push((request, tid)),
                None => is_known = false,
            }
            is_known && waiting.len() < limit
        });
        is_known.then_some(waiting)
    }

    /// The places of rows of a relation that nobody is at work on, whatever the statement's snapshot, with their numbers.
    pub fn of_relation(&self, relation: pg_sys::Oid) -> Vec<(i64, Tid)> {
        let mut found = Vec::new();
        self.each_present(|row, tid, is_busy| {
            if !is_busy && row.value(RELATION) == Some(relation) {
                found.extend(row.value(NUMBER).map(|number| (number, tid)));
            }
            true
        });
        found
    }

    /// Sessions that know where rows of this table lie look again, once this is committed.
    pub fn announce(&self) {
        // SAFETY: the relation is open.
        unsafe { pg_sys::CacheInvalidateRelcache(self.0) };
    }

    pub fn oid(&self) -> pg_sys::Oid {
        // SAFETY: the relation is open.
        unsafe { (*self.0).rd_id }
    }
}

fn open(name: &CStr, number_of_columns: usize) -> Result<Segment> {
    let table = existing(name)?;
    // SAFETY: opens an existing table, and looks at what it is.
    let (segment, is_ours) = unsafe {
        let relation = pg_sys::relation_open(table, pg_sys::RowExclusiveLock as i32);
        let is_ours = columns::are((*relation).rd_att, &OURS[..number_of_columns])
            && (*relation).trigdesc.is_null()
            && !(*(*relation).rd_rel).relhasindex;
        (Segment(relation), is_ours)
    };
    if is_ours {
        return Ok(segment);
    }
    Err(error::state(
        format!("bulkhead.{} is not as it needs to be", name.to_string_lossy()),
        "Its rows are read and written by position: it needs the columns that CREATE EXTENSION gave it, no index and no trigger.",
        "Undo what was changed.",
    ))
}

/// Adds a request to the table of its number.
pub fn add(request: &Request) -> Result<()> {
    Segment::open(super::segment_of(request.number))?.insert(request, None);
    Ok(())
}

/// The table of what was set aside. The caller holds the drain lock of the inventory whose rows it touches.
pub fn dead_letters() -> Result<Segment> {
    open(c"inventory_poison", COLUMNS)
}

/// Sets a request aside.
pub fn set_aside(request: &Request, letter: &DeadLetter) -> Result<()> {
    dead_letters()?.insert(request, Some(letter));
    Ok(())
}

/// Calls `each` with what was set aside, as the statement sees it.
pub fn each_dead_letter(mut each: impl FnMut(Request, DeadLetter)) -> Result<()> {
    dead_letters()?.each_row(|row| {
        if let Some((request, letter)) = row.request().zip(row.dead_letter()) {
            each(request, letter);
        }
    });
    Ok(())
}

/// Calls `each` with the inventory of every order that waits, and when it was queued, as the statement sees it.
pub fn each_waiting(mut each: impl FnMut(pg_sys::Oid, i64)) -> Result<()> {
    for number in 0..SEGMENTS.len() {
        Segment::open(number)?.each_row(|row| {
            if let Some((relation, queued_at)) = row.value(RELATION).zip(row.value(QUEUED_AT)) {
                each(relation, queued_at);
            }
        });
    }
    Ok(())
}

impl Segment {
    pub(super) fn each_row(&self, each: impl FnMut(&Row)) {
        self.each_row_of(None, each);
    }

    /// `pages`: the first and how many; None for all.
    pub(super) fn each_row_of(&self, pages: Option<(u32, u32)>, mut each: impl FnMut(&Row)) {
        // SAFETY: the table is open while it is scanned; a function runs under an active snapshot; each row is read before the next is
        // fetched. The server looks for interrupts at each page. A scan without an index is one of the heap's, and not synchronised with others, so its pages can be chosen.
        unsafe {
            let (snapshot, none) = (pg_sys::GetActiveSnapshot(), std::ptr::null_mut());
            let scan = pg_sys::systable_beginscan(self.0, pg_sys::InvalidOid, false, snapshot, 0, none);
            if let Some((first, count)) = pages {
                pg_sys::heap_setscanlimits((*scan).scan, first, count);
            }
            loop {
                let tuple = pg_sys::systable_getnext(scan);
                if tuple.is_null() {
                    break;
                }
                each(&Row::new(tuple, (*self.0).rd_att));
            }
            pg_sys::systable_endscan(scan);
        }
    }

    /// Calls `each` with every row that is not deleted, committed or not: its place, and whether another transaction is at work on it. False ends it.
    fn each_present(&self, mut each: impl FnMut(&Row, Tid, bool) -> bool) {
        // SAFETY: the table is open while it is scanned; each row is read before the next is fetched.
        unsafe {
            let mut snapshot =
                pg_sys::SnapshotData { snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY, ..std::mem::zeroed() };
            let none = std::ptr::null_mut();
            let scan = pg_sys::systable_beginscan(self.0, pg_sys::InvalidOid, false, &mut snapshot, 0, none);
            loop {
                let tuple = pg_sys::systable_getnext(scan);
                if tuple.is_null() {
                    break;
                }
                let (block, offset) = pgrx::itemptr::item_pointer_get_both((*tuple).t_self);
                let nobody = pg_sys::InvalidTransactionId;
                let is_busy = snapshot.xmin != nobody || snapshot.xmax != nobody;
                if !each(&Row::new(tuple, (*self.0).rd_att), Tid { block, offset }, is_busy) {
                    break;
                }
            }
            pg_sys::systable_endscan(scan);
        }
    }

    fn insert(&self, request: &Request, letter: Option<&DeadLetter>) {
        let mut values = [pg_sys::Datum::null(); COLUMNS];
        let mut nulls = [true; COLUMNS];
        let mut set = |column: usize, value: Option<pg_sys::Datum>| {
            nulls[column] = value.is_none();
            values[column] = value.unwrap_or(pg_sys::Datum::null());
        };
        let texts: Vec<Option<&[u8]>> = request.items.iter().map(Option::as_deref).collect();
        set(NUMBER, request.number.into_datum());
        set(RELATION, Some(request.relation.into()));
        set(QUEUED_AT, request.queued_at.into_datum());
        set(IDENTITY, pgrx::Uuid::from_bytes(request.identity).into_datum());
        set(TENANT, request.tenant.as_slice().into_datum());
        set(ORDER, request.order.as_slice().into_datum());
        set(ITEMS, Some(items::texts(&texts)));
        set(QUANTITIES, Some(items::nullable_quantities(&request.quantities)));
        if let Some(letter) = letter {
            set(SET_ASIDE_AT, letter.set_aside_at.into_datum());
            set(SQLSTATE, letter.sqlstate.as_str().into_datum());
            set(REASON, letter.reason.as_str().into_datum());
        }
        // SAFETY: the values have the columns' types: a text lies in memory as a bytea does; the table is open for writing and has no index.
        unsafe {
            let tuple = pg_sys::heap_form_tuple((*self.0).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::simple_heap_insert(self.0, tuple);
            pg_sys::heap_freetuple(tuple);
        }
    }
}

/// A row that was found, taken apart.
pub(super) struct Row {
    values: [pg_sys::Datum; COLUMNS],
    nulls: [bool; COLUMNS],
}

impl Row {
    /// # Safety
    /// `tuple` is a row with that description, of our columns or the first of them; it stays in place while the result is used.
    unsafe fn new(tuple: *mut pg_sys::HeapTupleData, description: pg_sys::TupleDesc) -> Row {
        let mut row = Row { values: [pg_sys::Datum::null(); COLUMNS], nulls: [true; COLUMNS] };
        // SAFETY: the caller's promise; there are no more columns than these.
        unsafe { pg_sys::heap_deform_tuple(tuple, description, row.values.as_mut_ptr(), row.nulls.as_mut_ptr()) };
        row
    }

    pub(super) fn value<T: FromDatum>(&self, column: usize) -> Option<T> {
        // SAFETY: the column's value, of the column's type.
        unsafe { T::from_datum(self.values[column], self.nulls[column]) }
    }

    fn bytes(&self, column: usize) -> Option<Vec<u8>> {
        self.value::<&[u8]>(column).map(<[u8]>::to_vec)
    }

    fn request(&self) -> Option<Request> {
        let there = |column: usize| (!self.nulls[column]).then_some(self.values[column]);
        // SAFETY: arrays of these types.
        let (items, quantities) =
            unsafe { (items::read_texts(there(ITEMS)?), items::read_quantities(there(QUANTITIES)?)) };
        Some(Request {
            number: self.value(NUMBER)?,
            relation: self.value(RELATION)?,
            queued_at: self.value(QUEUED_AT)?,
            identity: *self.value::<pgrx::Uuid>(IDENTITY)?.as_bytes(),
            tenant: self.bytes(TENANT)?,
            order: self.bytes(ORDER)?,
            items,
            quantities,
        })
    }

    fn dead_letter(&self) -> Option<DeadLetter> {
        Some(DeadLetter {
            set_aside_at: self.value(SET_ASIDE_AT)?,
            sqlstate: self.value(SQLSTATE)?,
            reason: self.value(REASON)?,
        })
    }
}
