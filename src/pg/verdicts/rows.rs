//! Rows of the table of verdicts, by position: sql/inventory.sql says so too.

use std::ffi::CStr;

use pgrx::PgMemoryContexts;
use pgrx::prelude::*;

use super::super::partitions::Leaf;
use super::super::wal::{self, Lsn};

const COLUMNS: usize = 10;
// Numbers of the columns, from 0.
const DIGEST: usize = 0;
const DECIDED_AT: usize = 1;
const QUANTITY: usize = 2;
const REMAINING: usize = 3;
const RELATION: usize = 4;
const LINE: usize = 5;
const VERDICT: usize = 6;
const TENANT: usize = 7;
const ORDER: usize = 8;
const ITEM: usize = 9;

/// The columns of the primary key, counted from 1.
pub(super) const KEY: [i16; 2] = [DIGEST as i16 + 1, LINE as i16 + 1];

/// Names and types of the columns, in their order.
pub(super) const OURS: [(&CStr, pg_sys::Oid); COLUMNS] = [
    (c"digest", pg_sys::UUIDOID),
    (c"decided_at", pg_sys::TIMESTAMPTZOID),
    (c"quantity", pg_sys::INT8OID),
    (c"remaining", pg_sys::INT8OID),
    (c"relation", pg_sys::REGCLASSOID),
    (c"line", pg_sys::INT4OID),
    (c"verdict", pg_sys::CHAROID),
    (c"tenant", pg_sys::TEXTOID),
    (c"order_id", pg_sys::TEXTOID),
    (c"item", pg_sys::TEXTOID),
];

/// A row that is new. Texts are in the server's encoding.
pub struct NewRow<'a> {
    pub digest: &'a [u8; 16],
    pub decided_at: i64,
    pub quantity: Option<i64>,
    pub remaining: Option<i64>,
    pub relation: pg_sys::Oid,
    pub line: i32,
    pub verdict: u8,
    pub tenant: &'a [u8],
    pub order: &'a [u8],
    pub item: Option<&'a [u8]>,
}

/// A row that was found, copied.
pub struct Row {
    /// How far the log has to be on disk before it may be told; 0 where it is.
    pub flush_lsn: Lsn,
    pub decided_at: i64,
    pub quantity: Option<i64>,
    pub remaining: Option<i64>,
    pub line: i32,
    pub verdict: u8,
    pub tenant: Vec<u8>,
    pub order: Vec<u8>,
    pub item: Option<Vec<u8>>,
    /// Another transaction has written it and has not ended.
    pub is_uncommitted: bool,
}

/// A partition that is open.
pub struct Table {
    relation: pg_sys::Relation,
    index: pg_sys::Relation,
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: opened by `open`. The locks stay until the transaction ends.
        unsafe {
            pg_sys::index_close(self.index, pg_sys::NoLock as i32);
            pg_sys::relation_close(self.relation, pg_sys::NoLock as i32);
        }
    }
}

impl Table {
    /// None when the partition is gone. `writes`: rows will be added.
    pub fn open(leaf: &Leaf, writes: bool) -> Option<Table> {
        let lock = if writes { pg_sys::RowExclusiveLock } else { pg_sys::AccessShareLock };
        // SAFETY: opens a table if it is still there, and then its index, which cannot go away any more; closed on drop.
        unsafe {
            let relation = pg_sys::try_relation_open(leaf.table, lock as i32);
            if relation.is_null() {
                return None;
            }
            let index = pg_sys::try_relation_open(leaf.index, lock as i32);
            if index.is_null() {
                pg_sys::relation_close(relation, pg_sys::NoLock as i32);
                return None;
            }
            Some(Table { relation, index })
        }
    }

    /// Whether anything was ever written to it since it was emptied last.
    pub fn is_empty(&self) -> bool {
        // SAFETY: the relation is open.
        unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.relation, pg_sys::ForkNumber::MAIN_FORKNUM) == 0 }
    }

    /// The number of the index's file: another when it was built anew.
    pub fn index_file(&self) -> u32 {
        // SAFETY: the index is open.
        unsafe { (*(*self.index).rd_rel).relfilenode.to_u32() }
    }

    /// About how many rows there are, more rather than less.
    pub fn rows_by_size(&self) -> usize {
        // A page of the index has at most so many entries.
        const ENTRIES: usize = 204;
        // SAFETY: the index is open.
        let pages = unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.index, pg_sys::ForkNumber::MAIN_FORKNUM) };
        pages as usize * ENTRIES
    }

    /// Calls `each` with the digest of every entry of the index, of rows that are dead or were never committed as well.
    pub fn each_digest(&self, mut each: impl FnMut(&[u8; 16])) {
        // SAFETY: table and index are open; no row is looked at, so the snapshot judges nothing; an entry is read before the next is fetched, and
        // its first column is a digest of 16 bytes.
        unsafe {
            let mut snapshot =
                pg_sys::SnapshotData { snapshot_type: pg_sys::SnapshotType::SNAPSHOT_ANY, ..std::mem::zeroed() };
            #[cfg(not(feature = "pg18"))]
            let scan = pg_sys::index_beginscan(self.relation, self.index, &mut snapshot, 0, 0);
            #[cfg(feature = "pg18")]
            let scan = pg_sys::index_beginscan(self.relation, self.index, &mut snapshot, std::ptr::null_mut(), 0, 0);
            (*scan).xs_want_itup = true;
            pg_sys::index_rescan(scan, std::ptr::null_mut(), 0, std::ptr::null_mut(), 0);
            let mut read = 0_u32;
            while !pg_sys::index_getnext_tid(scan, pg_sys::ScanDirection::ForwardScanDirection).is_null() {
                read = read.wrapping_add(1);
                if read.is_multiple_of(4096) {
                    pgrx::check_for_interrupts!();
                }
                // No column is NULL, so the values begin right behind the entry's header.
                let entry = (*scan).xs_itup.cast::<u8>().add(size_of::<pg_sys::IndexTupleData>());
                each(&*entry.cast::<[u8; 16]>());
            }
            pg_sys::index_endscan(scan);
        }
    }

    /// Adds rows, in the order of their digests, which spares the index. False when another transaction has, or is about to have, a row
    /// of the same order and line: the caller has to give up then, and what was added goes away with its transaction.
    pub fn add(&self, rows: &[NewRow]) -> bool {
        const CHUNK: usize = 500;
        // SAFETY: the table is open for writing; slots are made for its columns and hold values of their types until they are inserted;
        // the index is plain and on the first columns of `KEY`. Each chunk has memory of its own.
        unsafe {
            let mut memory = PgMemoryContexts::new("bulkhead verdicts");
            let mut unique = true;
            for chunk in rows.chunks(CHUNK) {
                pgrx::check_for_interrupts!();
                unique = memory.switch_to(|_| self.add_chunk(chunk));
                memory.reset();
                if !unique {
                    break;
                }
            }
            if unique {
                pg_sys::CommandCounterIncrement();
            }
            unique
        }
    }

    /// # Safety
    /// As `add`; the current memory context is short-lived.
    unsafe fn add_chunk(&self, rows: &[NewRow]) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            let description = (*self.relation).rd_att;
            let mut slots: Vec<*mut pg_sys::TupleTableSlot> = Vec::with_capacity(rows.len());
            for row in rows {
                let slot = pg_sys::MakeSingleTupleTableSlot(description, &raw const pg_sys::TTSOpsHeapTuple);
                pg_sys::ExecStoreHeapTuple(row.form(description), slot, true);
                slots.push(slot);
            }
            let command = pg_sys::GetCurrentCommandId(true);
            let none = std::ptr::null_mut();
            pg_sys::heap_multi_insert(self.relation, slots.as_mut_ptr(), slots.len() as i32, command, 0, none);
            let info = pg_sys::BuildIndexInfo(self.index);
            let mut unique = true;
            for (row, slot) in rows.iter().zip(&slots) {
                let mut values = [pg_sys::Datum::from(row.digest.as_ptr()), pg_sys::Datum::from(row.line)];
                let mut nulls = [false; 2];
                unique = pg_sys::index_insert(
                    self.index,
                    values.as_mut_ptr(),
                    nulls.as_mut_ptr(),
                    &raw mut (**slot).tts_tid,
                    self.relation,
                    // Tells of another's row, finished or not, and does not wait for it.
                    pg_sys::IndexUniqueCheck::UNIQUE_CHECK_PARTIAL,
                    false,
                    info,
                );
                if !unique {
                    break;
                }
            }
            for slot in slots {
                pg_sys::ExecDropSingleTupleTableSlot(slot);
            }
            unique
        }
    }
}

impl NewRow<'_> {
    /// # Safety
    /// `description` is that of the table of verdicts.
    unsafe fn form(&self, description: pg_sys::TupleDesc) -> pg_sys::HeapTuple {
        let mut values = [pg_sys::Datum::null(); COLUMNS];
        let mut nulls = [true; COLUMNS];
        let mut set = |column: usize, value: Option<pg_sys::Datum>| {
            nulls[column] = value.is_none();
            values[column] = value.unwrap_or(pg_sys::Datum::null());
        };
        set(DIGEST, Some(pg_sys::Datum::from(self.digest.as_ptr())));
        set(DECIDED_AT, self.decided_at.into_datum());
        set(QUANTITY, self.quantity.and_then(IntoDatum::into_datum));
        set(REMAINING, self.remaining.and_then(IntoDatum::into_datum));
        set(RELATION, Some(self.relation.into()));
        set(LINE, self.line.into_datum());
        set(VERDICT, Some(pg_sys::Datum::from(self.verdict)));
        set(TENANT, self.tenant.into_datum());
        set(ORDER, self.order.into_datum());
        set(ITEM, self.item.and_then(IntoDatum::into_datum));
        // SAFETY: the values have the columns' types: a text lies in memory as a bytea does.
        unsafe { pg_sys::heap_form_tuple(description, values.as_mut_ptr(), nulls.as_mut_ptr()) }
    }
}

/// Look-ups in one partition, one order after the other.
pub struct Probe<'a> {
    table: &'a Table,
    scan: pg_sys::IndexScanDesc,
    slot: *mut pg_sys::TupleTableSlot,
    snapshot: Box<pg_sys::SnapshotData>,
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        // An error has ended the (sub)transaction, or is about to, which releases both.
        if !std::thread::panicking() {
            // SAFETY: made by `new`.
            unsafe {
                pg_sys::index_endscan(self.scan);
                pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            }
        }
    }
}

impl<'a> Probe<'a> {
    pub fn new(table: &'a Table) -> Probe<'a> {
        // SAFETY: table and index are open; the snapshot is no more than its type, does not move, and outlives the scan; the scan leaves in it
        // who is at work on the row that it returns.
        unsafe {
            let mut snapshot = Box::new(pg_sys::SnapshotData {
                snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY,
                ..std::mem::zeroed()
            });
            #[cfg(not(feature = "pg18"))]
            let scan = pg_sys::index_beginscan(table.relation, table.index, &mut *snapshot, 1, 0);
            #[cfg(feature = "pg18")]
            let scan = pg_sys::index_beginscan(table.relation, table.index, &mut *snapshot, std::ptr::null_mut(), 1, 0);
            let slot =
                pg_sys::MakeSingleTupleTableSlot((*table.relation).rd_att, &raw const pg_sys::TTSOpsBufferHeapTuple);
            Probe { table, scan, slot, snapshot }
        }
    }

    /// Calls `found` with each row of the order, whoever wrote it: committed, our own, or another transaction's that is still open.
    pub fn each(&mut self, digest: &[u8; 16], mut found: impl FnMut(Row)) {
        // SAFETY: the digest's bytes are what a uuid is, and outlive the look-up; each row is read before the next is fetched.
        unsafe {
            let mut key = pg_sys::ScanKeyData::default();
            pg_sys::ScanKeyInit(
                &mut key,
                1,
                pg_sys::BTEqualStrategyNumber as u16,
                pg_sys::Oid::from(pg_sys::F_UUID_EQ),
                pg_sys::Datum::from(digest.as_ptr()),
            );
            pg_sys::index_rescan(self.scan, &mut key, 1, std::ptr::null_mut(), 0);
            while pg_sys::index_getnext_slot(self.scan, pg_sys::ScanDirection::ForwardScanDirection, self.slot) {
                // What is about to be replaced is still what it was.
                let is_uncommitted = self.snapshot.xmin != pg_sys::InvalidTransactionId;
                found(self.row(is_uncommitted));
            }
        }
    }

    /// # Safety
    /// The slot holds a row.
    unsafe fn row(&self, is_uncommitted: bool) -> Row {
        let mut values = [pg_sys::Datum::null(); COLUMNS];
        let mut nulls = [true; COLUMNS];
        // SAFETY: the caller's promise; a partition has the parent's columns in the parent's order. What is read is copied.
        unsafe {
            let tuple = pg_sys::ExecFetchSlotHeapTuple(self.slot, false, std::ptr::null_mut());
            let description = (*self.table.relation).rd_att;
            pg_sys::heap_deform_tuple(tuple, description, values.as_mut_ptr(), nulls.as_mut_ptr());
            let bytes = |column: usize| <&[u8]>::from_datum(values[column], nulls[column]).map(<[u8]>::to_vec);
            Row {
                flush_lsn: if is_uncommitted { 0 } else { commit((*tuple).t_data) },
                decided_at: i64::from_datum(values[DECIDED_AT], nulls[DECIDED_AT]).unwrap_or(0),
                quantity: i64::from_datum(values[QUANTITY], nulls[QUANTITY]),
                remaining: i64::from_datum(values[REMAINING], nulls[REMAINING]),
                line: i32::from_datum(values[LINE], nulls[LINE]).unwrap_or(0),
                verdict: values[VERDICT].value() as u8,
                tenant: bytes(TENANT).unwrap_or_default(),
                order: bytes(ORDER).unwrap_or_default(),
                item: bytes(ITEM),
                is_uncommitted,
            }
        }
    }
}

/// How far the log has to be on disk for the row's commit to be there. A worker's commits are not, for a moment, when others see them.
///
/// # Safety
/// The row is there, and committed or this transaction's own.
unsafe fn commit(row: pg_sys::HeapTupleHeader) -> Lsn {
    // SAFETY: the caller's promise.
    unsafe {
        let writer = (*row).t_choice.t_heap.t_xmin;
        let is_frozen = u32::from((*row).t_infomask) & pg_sys::HEAP_XMIN_FROZEN == pg_sys::HEAP_XMIN_FROZEN;
        if is_frozen || pg_sys::TransactionIdIsCurrentTransactionId(writer) { 0 } else { wal::commit_of(writer) }
    }
}
