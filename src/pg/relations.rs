//! What a relation is like, asked inside a hook, where SPI must not be used: whom it inherits from and who from it, its columns, keys and triggers.

use std::collections::HashSet;
use std::ffi::CStr;

use pgrx::prelude::*;

use super::foreign_key::{Orphans, Pair};
use super::{list, security};

// pg_inherits, which pgrx has no constants for: oids and column numbers that pg_inherits.h fixes.
const PG_INHERITS: u32 = 2611;
const PG_INHERITS_RELID_SEQNO_INDEX: u32 = 2680;
const PG_INHERITS_PARENT_INDEX: u32 = 2187;
const INHRELID: i16 = 1;
const INHPARENT: i16 = 2;

// Fixed by pg_constraint.h.
const PG_CONSTRAINT: u32 = 2606;

/// Closes a relation on every path.
pub(super) struct OpenTable(pub(super) pg_sys::Relation);

impl Drop for OpenTable {
    fn drop(&mut self) {
        // SAFETY: opened where this was made, and not closed elsewhere. The lock stays until the transaction ends.
        unsafe { pg_sys::table_close(self.0, pg_sys::NoLock as i32) };
    }
}

/// What a relation inherits from directly.
pub(super) fn parents(relation: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    inheritance(PG_INHERITS_RELID_SEQNO_INDEX, INHRELID, relation, INHPARENT)
}

/// A relation and all that inherit from it, as they are known at this moment: none is locked, so any may have gone by now. Not the server's own look-up,
/// which raises when one of them goes meanwhile.
pub fn unlocked_family(relation: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    let mut family = vec![relation];
    let mut known = HashSet::from([relation]);
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        if security::has_had_children(parent) {
            let children = inheritance(PG_INHERITS_PARENT_INDEX, INHPARENT, parent, INHRELID);
            family.extend(children.into_iter().filter(|child| known.insert(*child)));
        }
        at += 1;
    }
    family
}

/// The `wanted` column of the rows of pg_inherits whose column `of`, the first of that index, is this relation.
fn inheritance(index: u32, of: i16, relation: pg_sys::Oid, wanted: i16) -> Vec<pg_sys::Oid> {
    let mut found = Vec::new();
    // SAFETY: an index scan by the first column, ended before the relation is closed; each tuple is read before the next is fetched.
    unsafe {
        let open = OpenTable(pg_sys::table_open(pg_sys::Oid::from(PG_INHERITS), pg_sys::AccessShareLock as i32));
        let mut key = pg_sys::ScanKeyData::default();
        let equal = pg_sys::BTEqualStrategyNumber as u16;
        pg_sys::ScanKeyInit(&mut key, of, equal, pg_sys::Oid::from(pg_sys::F_OIDEQ), relation.into());
        let index = pg_sys::Oid::from(index);
        let scan = pg_sys::systable_beginscan(open.0, index, true, std::ptr::null_mut(), 1, &mut key);
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let mut is_null = false;
            let datum = pg_sys::heap_getattr(tuple, wanted.into(), (*open.0).rd_att, &mut is_null);
            found.extend(pg_sys::Oid::from_datum(datum, is_null));
        }
        pg_sys::systable_endscan(scan);
    }
    found
}

/// A relation, which the caller has locked, and all that inherit from it, each locked in this mode. Those that have gone meanwhile are left out.
pub fn family(relation: pg_sys::Oid, lock_mode: pg_sys::LOCKMODE) -> Vec<pg_sys::Oid> {
    // pgrx has no binding for it.
    unsafe extern "C-unwind" {
        fn find_all_inheritors(
            parent: pg_sys::Oid,
            lock_mode: pg_sys::LOCKMODE,
            parents: *mut *mut pg_sys::List,
        ) -> *mut pg_sys::List;
    }
    if !security::exists(relation) {
        return vec![relation];
    }
    // SAFETY: a catalog look-up inside pgrx's guard; the list is a fresh list of oids.
    unsafe {
        let family =
            pg_sys::ffi::pg_guard_ffi_boundary(|| find_all_inheritors(relation, lock_mode, std::ptr::null_mut()));
        list::cells(family).iter().map(|cell| cell.oid_value).collect()
    }
}

fn open(relation: pg_sys::Oid) -> OpenTable {
    // SAFETY: the caller holds the relation's lock already; opening it raises when it is gone.
    OpenTable(unsafe { pg_sys::relation_open(relation, pg_sys::AccessShareLock as i32) })
}

/// Whether a table has no page, and so holds nothing, nor has since it was made or emptied.
pub fn was_never_filled(relation: pg_sys::Oid) -> bool {
    let open = open(relation);
    // SAFETY: the relation is open, and has storage: a partitioned table has none.
    unsafe {
        security::is_partitioned(relation)
            || pg_sys::RelationGetNumberOfBlocksInFork(open.0, pg_sys::ForkNumber::MAIN_FORKNUM) == 0
    }
}

/// Numbers of the columns that are neither dropped nor generated.
pub fn stored_columns(relation: pg_sys::Oid) -> Vec<i16> {
    let open = open(relation);
    // SAFETY: the descriptor is valid while the relation is open.
    let columns = unsafe { pgrx::tupdesc::PgTupleDesc::from_pg_unchecked((*open.0).rd_att) };
    columns
        .iter()
        .filter(|column| !column.attisdropped && column.attgenerated == 0)
        .map(|column| column.attnum)
        .collect()
}

pub fn is_generated(relation: pg_sys::Oid, column: i16) -> bool {
    !stored_columns(relation).contains(&column)
}

/// Whether the relation has a foreign key to the other one over exactly these columns, by these operators, that counts as valid (a new one, and one
/// that is being validated, already do) and takes such rows for orphans.
pub fn has_foreign_key(relation: pg_sys::Oid, referenced: pg_sys::Oid, pairs: &[Pair], orphans: Orphans) -> bool {
    let open = open(relation);
    // SAFETY: the list belongs to the open relation, and its arrays have `nkeys` elements in use.
    let keys = unsafe { list::cells(pg_sys::RelationGetFKeyList(open.0)) };
    keys.iter().any(|cell| {
        // SAFETY: as above.
        let key = unsafe { &*cell.ptr_value.cast::<pg_sys::ForeignKeyCacheInfo>() };
        let count = key.nkeys as usize;
        let of_key = (0..count).map(|at| (key.conkey[at], key.confkey[at], key.conpfeqop[at]));
        let full = constraint_field::<i8>(key.conoid, c"confmatchtype") == Some(b'f' as i8);
        key.confrelid == referenced
            && pairs.len() == count
            && of_key.zip(pairs).all(|(own, pair)| own == *pair)
            && constraint_field(key.conoid, c"convalidated") == Some(true)
            && (orphans == Orphans::Whole || full)
    })
}

/// A field of pg_constraint that is passed by value.
fn constraint_field<T: FromDatum>(constraint: pg_sys::Oid, name: &CStr) -> Option<T> {
    // SAFETY: look-ups in the system caches; the tuple is released after the one field was copied.
    unsafe {
        let number = pg_sys::get_attnum(pg_sys::Oid::from(PG_CONSTRAINT), name.as_ptr());
        let cache = pg_sys::SysCacheIdentifier::CONSTROID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, constraint.into());
        if tuple.is_null() {
            return None;
        }
        let mut is_null = false;
        let field = pg_sys::SysCacheGetAttr(cache, tuple, number, &mut is_null);
        let field = T::from_datum(field, is_null);
        pg_sys::ReleaseSysCache(tuple);
        field
    }
}

/// A trigger that fires before each row that is inserted.
pub fn has_before_insert_trigger(relation: pg_sys::Oid) -> bool {
    let open = open(relation);
    // SAFETY: NULL or valid while the relation is open.
    unsafe { (*open.0).trigdesc.as_ref() }.is_some_and(|triggers| triggers.trig_insert_before_row)
}
