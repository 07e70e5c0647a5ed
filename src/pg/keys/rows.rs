//! Rows of the table of keys, by position: sql/idempotency.sql says so too.

use std::ffi::CStr;

use pgrx::prelude::*;

use super::super::partitions::Leaf;
use crate::error::{self, Result};
use crate::idempotency::decide::{Known, Stage};

const COLUMNS: usize = 12;
// Numbers of the columns, from 0.
const DIGEST: usize = 0;
pub(super) const CLAIMED_AT: usize = 1;
pub(super) const LEASE_UNTIL: usize = 2;
const FENCE: usize = 3;
const ATTEMPT: usize = 4;
pub(super) const STAGE: usize = 5;
const STATUS: usize = 6;
pub(super) const TENANT: usize = 7;
pub(super) const KEY: usize = 8;
const FINGERPRINT: usize = 9;
const RESPONSE: usize = 10;
const FINISHED_AT: usize = 11;

/// Names and types of the columns, in their order.
pub(super) const OURS: [(&CStr, pg_sys::Oid); COLUMNS] = [
    (c"digest", pg_sys::UUIDOID),
    (c"claimed_at", pg_sys::TIMESTAMPTZOID),
    (c"lease_until", pg_sys::TIMESTAMPTZOID),
    (c"fence", pg_sys::INT8OID),
    (c"attempt", pg_sys::INT4OID),
    (c"stage", pg_sys::CHAROID),
    (c"status", pg_sys::INT4OID),
    (c"tenant", pg_sys::TEXTOID),
    (c"key", pg_sys::TEXTOID),
    (c"fingerprint", pg_sys::TEXTOID),
    (c"response", pg_sys::JSONBOID),
    (c"finished_at", pg_sys::TIMESTAMPTZOID),
];

/// A jsonb value as it lies in memory: nothing here reads what is in it.
#[derive(Clone, Copy)]
pub struct Json(pub(super) pg_sys::Datum);

impl Json {
    /// Bytes, uncompressed.
    pub fn size(self) -> usize {
        // SAFETY: a jsonb, possibly compressed or stored aside.
        unsafe { pg_sys::toast_raw_datum_size(self.0) }
    }
}

/// A partition that is open, for one look-up and what follows it.
pub struct Table {
    relation: pg_sys::Relation,
    index: pg_sys::Oid,
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: opened by `open`. The lock stays until the transaction ends.
        unsafe { pg_sys::relation_close(self.relation, pg_sys::NoLock as i32) };
    }
}

/// What a key's row is when it is new.
pub struct NewRow<'a> {
    pub digest: &'a [u8; 16],
    pub tenant: &'a [u8],
    pub key: &'a [u8],
    pub fingerprint: Option<&'a [u8]>,
    pub claimed_at: i64,
    pub lease_until: i64,
    pub fence: i64,
    pub attempt: i32,
}

/// A row that was found, copied.
pub struct Found {
    tuple: pg_sys::HeapTuple,
    values: [pg_sys::Datum; COLUMNS],
    nulls: [bool; COLUMNS],
    /// The other transaction that wrote it, or is about to replace it, and has not ended.
    pub writer: Option<pg_sys::TransactionId>,
}

impl Table {
    /// Under ROW EXCLUSIVE. None when the partition is gone.
    pub fn open(leaf: &Leaf) -> Option<Table> {
        // SAFETY: opens a table if it is still there; closed on drop.
        let relation = unsafe { pg_sys::try_relation_open(leaf.table, pg_sys::RowExclusiveLock as i32) };
        (!relation.is_null()).then_some(Table { relation, index: leaf.index })
    }

    /// Whether nobody has written to it: it has no page.
    pub fn is_empty(&self) -> bool {
        // SAFETY: the table is open; asks for the length of its file.
        unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.relation, pg_sys::ForkNumber::MAIN_FORKNUM) == 0 }
    }

    /// The key's row, whoever wrote it: committed, our own, or another transaction's that is still open. The caller holds the key's
    /// lock, so nothing changes meanwhile.
    pub fn find(&self, digest: &[u8; 16]) -> Option<Found> {
        let mut found = None;
        // SAFETY: the table is open; the digest's bytes are what a uuid is, and outlive the scan; a dirty snapshot is no more than its type, and
        // the scan leaves in it who is at work on the row that it returns; each row is copied before the next is fetched.
        unsafe {
            let mut snapshot =
                pg_sys::SnapshotData { snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY, ..std::mem::zeroed() };
            let mut key: pg_sys::ScanKeyData = std::mem::zeroed();
            pg_sys::ScanKeyInit(
                &mut key,
                DIGEST as i16 + 1,
                pg_sys::BTEqualStrategyNumber as u16,
                pg_sys::Oid::from(pg_sys::F_UUID_EQ),
                pg_sys::Datum::from(digest.as_ptr()),
            );
            let scan = pg_sys::systable_beginscan(self.relation, self.index, true, &mut snapshot, 1, &mut key);
            loop {
                let tuple = pg_sys::systable_getnext(scan);
                if tuple.is_null() {
                    break;
                }
                let others = [snapshot.xmin, snapshot.xmax];
                let writer = others.into_iter().find(|id| *id != pg_sys::InvalidTransactionId);
                found = Some(Found::copy(tuple, (*self.relation).rd_att, writer));
            }
            pg_sys::systable_endscan(scan);
        }
        found
    }

    pub fn insert(&self, row: &NewRow) {
        let mut values = [pg_sys::Datum::null(); COLUMNS];
        let mut nulls = [true; COLUMNS];
        let mut set = |column: usize, value: Option<pg_sys::Datum>| {
            nulls[column] = value.is_none();
            values[column] = value.unwrap_or(pg_sys::Datum::null());
        };
        set(DIGEST, Some(pg_sys::Datum::from(row.digest.as_ptr())));
        set(CLAIMED_AT, row.claimed_at.into_datum());
        set(LEASE_UNTIL, row.lease_until.into_datum());
        set(FENCE, row.fence.into_datum());
        set(ATTEMPT, row.attempt.into_datum());
        set(STAGE, Some(letter(Stage::Started)));
        set(TENANT, row.tenant.into_datum());
        set(KEY, row.key.into_datum());
        set(FINGERPRINT, row.fingerprint.and_then(IntoDatum::into_datum));
        // SAFETY: the values have the columns' types (a text lies in memory as a bytea does); the table is open for writing. Our indexes are
        // plain, as those of catalogs are.
        unsafe {
            let tuple = pg_sys::heap_form_tuple((*self.relation).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::CatalogTupleInsert(self.relation, tuple);
            pg_sys::CommandCounterIncrement();
        }
    }

    /// The same row for another attempt.
    pub fn start_again(&self, found: &Found, row: &NewRow) {
        let fingerprint = row.fingerprint.and_then(IntoDatum::into_datum);
        self.replace(
            found,
            &[
                (CLAIMED_AT, row.claimed_at.into_datum()),
                (LEASE_UNTIL, row.lease_until.into_datum()),
                (FENCE, row.fence.into_datum()),
                (ATTEMPT, row.attempt.into_datum()),
                (STAGE, Some(letter(Stage::Started))),
                (FINGERPRINT, fingerprint.or(if row.attempt == 1 { None } else { found.datum(FINGERPRINT) })),
                (STATUS, None),
                (RESPONSE, None),
                (FINISHED_AT, None),
            ],
        );
    }

    pub fn finish(&self, found: &Found, status: Option<i32>, response: Option<Json>, now: i64) {
        self.replace(
            found,
            &[
                (STAGE, Some(letter(Stage::Finished))),
                (STATUS, status.and_then(IntoDatum::into_datum)),
                (RESPONSE, response.map(|response| response.0)),
                (FINISHED_AT, now.into_datum()),
            ],
        );
    }

    pub fn release(&self, found: &Found) {
        self.replace(found, &[(STAGE, Some(letter(Stage::Released)))]);
    }

    pub fn extend(&self, found: &Found, claimed_at: i64, lease_until: i64) {
        self.replace(found, &[(CLAIMED_AT, claimed_at.into_datum()), (LEASE_UNTIL, lease_until.into_datum())]);
    }

    fn replace(&self, found: &Found, changes: &[(usize, Option<pg_sys::Datum>)]) {
        let (mut values, mut nulls) = (found.values, found.nulls);
        for (column, value) in changes {
            nulls[*column] = value.is_none();
            values[*column] = value.unwrap_or(pg_sys::Datum::null());
        }
        // SAFETY: as `insert`; nobody else changes the row under the key's lock.
        unsafe {
            let tuple = pg_sys::heap_form_tuple((*self.relation).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::CatalogTupleUpdate(self.relation, &raw mut (*found.tuple).t_self, tuple);
            pg_sys::CommandCounterIncrement();
        }
    }

    pub fn delete(&self, found: &Found) {
        // SAFETY: as `replace`.
        unsafe {
            pg_sys::simple_heap_delete(self.relation, &raw mut (*found.tuple).t_self);
            pg_sys::CommandCounterIncrement();
        }
    }
}

impl Found {
    /// # Safety
    /// `tuple` is a row of a partition with that description.
    unsafe fn copy(
        tuple: pg_sys::HeapTuple,
        description: pg_sys::TupleDesc,
        writer: Option<pg_sys::TransactionId>,
    ) -> Found {
        let mut values = [pg_sys::Datum::null(); COLUMNS];
        let mut nulls = [true; COLUMNS];
        // SAFETY: the caller's promise; a partition has the parent's columns in the parent's order.
        unsafe {
            let tuple = pg_sys::heap_copytuple(tuple);
            pg_sys::heap_deform_tuple(tuple, description, values.as_mut_ptr(), nulls.as_mut_ptr());
            Found { tuple, values, nulls, writer }
        }
    }

    fn datum(&self, column: usize) -> Option<pg_sys::Datum> {
        (!self.nulls[column]).then_some(self.values[column])
    }

    fn value<T: FromDatum>(&self, column: usize) -> Option<T> {
        // SAFETY: the column's value, of the column's type.
        unsafe { T::from_datum(self.values[column], self.nulls[column]) }
    }

    /// Whose it is. The index has a digest only; that two keys share one is not to be expected in the lifetime of the universe.
    pub fn belongs_to(&self, tenant: &[u8], key: &[u8]) -> Result<()> {
        if self.value::<&[u8]>(TENANT) == Some(tenant) && self.value::<&[u8]>(KEY) == Some(key) {
            return Ok(());
        }
        Err(error::internal("two idempotency keys have the same digest"))
    }

    pub fn known(&self) -> Result<Known<'_>> {
        let broken = || error::internal("a row of bulkhead.idempotency_key is broken");
        let stage = self.value(STAGE).and_then(stage).ok_or_else(broken)?;
        Ok(Known {
            claimed_at: self.value(CLAIMED_AT).ok_or_else(broken)?,
            lease_until: self.value(LEASE_UNTIL).ok_or_else(broken)?,
            fence: self.value(FENCE).ok_or_else(broken)?,
            attempt: self.value(ATTEMPT).ok_or_else(broken)?,
            stage,
            fingerprint: self.value(FINGERPRINT),
            uncommitted: self.writer.is_some(),
        })
    }

    pub fn status(&self) -> Option<i32> {
        self.value(STATUS)
    }

    pub fn response(&self) -> Option<Json> {
        self.datum(RESPONSE).map(Json)
    }

    /// As a new row of another partition: what an extended key is when its day has passed.
    pub fn move_to(&self, table: &Table, claimed_at: i64, lease_until: i64) {
        let (mut values, mut nulls) = (self.values, self.nulls);
        for (column, value) in [(CLAIMED_AT, claimed_at), (LEASE_UNTIL, lease_until)] {
            values[column] = pg_sys::Datum::from(value);
            nulls[column] = false;
        }
        // SAFETY: as `Table::insert`; all partitions have the same columns.
        unsafe {
            let tuple = pg_sys::heap_form_tuple((*table.relation).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::CatalogTupleInsert(table.relation, tuple);
            pg_sys::CommandCounterIncrement();
        }
    }
}

/// What a value of type "char" says, if anything.
pub(super) fn stage(letter: i8) -> Option<Stage> {
    match letter as u8 {
        b's' => Some(Stage::Started),
        b'f' => Some(Stage::Finished),
        b'r' => Some(Stage::Released),
        _ => None,
    }
}

/// A value of type "char".
fn letter(stage: Stage) -> pg_sys::Datum {
    pg_sys::Datum::from(match stage {
        Stage::Started => b's',
        Stage::Finished => b'f',
        Stage::Released => b'r',
    })
}
