//! Reads `bulkhead.protection` inside a hook, where SPI must not be used.

use std::ffi::{CStr, c_char};

use pgrx::prelude::*;

use super::foreign_key::{Orphans, Pair};
use super::list;
use super::registry::{Border, Entry};
use super::security;
use crate::rls::key::Key;

// The columns of bulkhead.protection that are read here, by position: sql/rls.sql says so too.
const RELATION: i32 = 1;
const TENANT_ATTNUM: i32 = 2;
const TENANT_COLUMN: i32 = 3;
const SHARED: i32 = 4;
const HOME: i32 = 5;

// pg_inherits, which pgrx has no constants for: oids and column numbers that pg_inherits.h fixes.
const PG_INHERITS: u32 = 2611;
const PG_INHERITS_RELID_SEQNO_INDEX: u32 = 2680;
const INHRELID: i16 = 1;
const INHPARENT: i32 = 2;

// Fixed by pg_constraint.h.
const PG_CONSTRAINT: u32 = 2606;

/// Closes a relation on every path.
pub(super) struct OpenTable(pub(super) pg_sys::Relation);

impl Drop for OpenTable {
    fn drop(&mut self) {
        // SAFETY: opened by `read_protection` and not closed elsewhere. The lock stays until the transaction ends.
        unsafe { pg_sys::table_close(self.0, pg_sys::NoLock as i32) };
    }
}

pub struct Protection {
    /// bulkhead.protection; 0 where the extension is not installed.
    pub table: pg_sys::Oid,
    /// The accessors, in the order of `Key`.
    pub accessors: [pg_sys::Oid; 3],
    /// An entry for each registered relation and descendant.
    pub entries: Vec<Entry>,
}

pub fn read_protection() -> Protection {
    let table = protection_table();
    if table == pg_sys::InvalidOid {
        return Protection { table, accessors: [table; 3], entries: Vec::new() };
    }
    let accessors = [c"tenant_id", c"tenant_id_text", c"tenant_id_bigint"].map(|name| function(name, &[]));
    let mut entries = Vec::new();
    // SAFETY: the relation is open for the whole scan; the scan is ended before it is closed; each tuple is read before the
    // next is fetched. A raised ERROR unwinds through pgrx's guard, and the server releases the scan with the transaction.
    unsafe {
        let open = OpenTable(pg_sys::table_open(table, pg_sys::AccessShareLock as i32));
        let scan = pg_sys::systable_beginscan(
            open.0,
            pg_sys::InvalidOid,
            false,
            std::ptr::null_mut(),
            0,
            std::ptr::null_mut(),
        );
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            if let Some(entry) = entry(tuple, (*open.0).rd_att) {
                if !matches!(entry.border, Border::Shared) {
                    ascend(entry, &mut entries);
                }
                descend(entry, &mut entries);
            }
        }
        pg_sys::systable_endscan(scan);
    }
    read_observation(&mut entries);
    add_ours(&mut entries);
    Protection { table, accessors, entries }
}

/// Tables of the extension's with rows of tenants, and their tenant columns, which are texts.
const OURS: [(&CStr, &CStr); 8] = [
    (c"idempotency_key", c"tenant"),
    (c"order_verdict", c"tenant"),
    (c"inventory_queue_0", c"tenant"),
    (c"inventory_queue_1", c"tenant"),
    (c"inventory_queue_2", c"tenant"),
    (c"inventory_queue_3", c"tenant"),
    (c"inventory_poison", c"tenant"),
    (c"rule_set", c"tenant"),
];

/// Adds them, each with its partitions.
fn add_ours(entries: &mut Vec<Entry>) {
    for (name, column) in OURS {
        let table = table(name);
        if table == pg_sys::InvalidOid {
            continue;
        }
        entries.extend(family(table, pg_sys::NoLock as i32).into_iter().map(|relation| {
            // SAFETY: a look-up in the system cache.
            let column = unsafe { pg_sys::get_attnum(relation, column.as_ptr()) };
            Entry { relation, border: Border::Column(Key::Text), column, own: true, ours: true }
        }));
    }
}

/// Adds the observed tables and what is below them.
fn read_observation(entries: &mut Vec<Entry>) {
    // SAFETY: as `read_protection`; the columns have the types that sql/observe.sql gives them.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"bulkhead".as_ptr(), true);
        let table = pg_sys::get_relname_relid(c"observation".as_ptr(), schema);
        if table == pg_sys::InvalidOid {
            return;
        }
        let open = OpenTable(pg_sys::table_open(table, pg_sys::AccessShareLock as i32));
        let none = std::ptr::null_mut();
        let scan = pg_sys::systable_beginscan(open.0, pg_sys::InvalidOid, false, none, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let mut is_null = false;
            let datum = pg_sys::heap_getattr(tuple, RELATION, (*open.0).rd_att, &mut is_null);
            let Some(relation) = pg_sys::Oid::from_datum(datum, is_null) else { continue };
            let name = pg_sys::heap_getattr(tuple, TENANT_COLUMN, (*open.0).rd_att, &mut is_null);
            let mut column = pg_sys::get_attnum(relation, name.cast_mut_ptr());
            if column == 0 {
                // Renamed just now: `observe::follow` writes the new name at the end of the command.
                let number = pg_sys::heap_getattr(tuple, TENANT_ATTNUM, (*open.0).rd_att, &mut is_null);
                column = i16::from_datum(number, is_null).unwrap_or(0);
            }
            let column_type = pg_sys::get_atttype(relation, column);
            // A column that was dropped since is nothing to go by.
            if column_type != pg_sys::InvalidOid
                && let Some(key) = Key::of(security::base_type(column_type))
            {
                descend(Entry { relation, border: Border::Observed(key), column, own: true, ours: false }, entries);
            }
        }
        pg_sys::systable_endscan(scan);
    }
}

/// The registry of the installed extension; 0 without one. A schema of that name alone is somebody else's.
pub fn protection_table() -> pg_sys::Oid {
    table(c"protection")
}

/// A table of the extension's; 0 where there is none.
pub fn table(name: &CStr) -> pg_sys::Oid {
    // SAFETY: catalog look-ups with constant, NUL-terminated names.
    unsafe {
        if pg_sys::get_extension_oid(c"bulkhead".as_ptr(), true) == pg_sys::InvalidOid {
            return pg_sys::InvalidOid;
        }
        let schema = pg_sys::get_namespace_oid(c"bulkhead".as_ptr(), true);
        if schema == pg_sys::InvalidOid {
            return pg_sys::InvalidOid;
        }
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    }
}

/// The oid of a function of the extension; raises when it is not there.
pub fn function(name: &CStr, arguments: &[pg_sys::Oid]) -> pg_sys::Oid {
    // SAFETY: a catalog look-up with palloc'd nodes and constant names; the server does not keep the arguments.
    unsafe {
        let schema = pg_sys::makeString(c"bulkhead".as_ptr().cast_mut()).cast();
        let path = pg_sys::lappend(std::ptr::null_mut(), schema);
        let path = pg_sys::lappend(path, pg_sys::makeString(name.as_ptr().cast_mut()).cast());
        pg_sys::LookupFuncName(path, arguments.len() as i32, arguments.as_ptr(), false)
    }
}

/// Where a registry row is at home: a row restored into another database may carry a column number of its old one.
pub fn home() -> String {
    // SAFETY: reads the control file's copy in shared memory and a plain variable.
    unsafe { format!("{}/{}", pg_sys::GetSystemIdentifier(), pg_sys::MyDatabaseId.to_u32()) }
}

fn has_floor(relation: pg_sys::Oid) -> bool {
    // pgrx has no binding for it.
    unsafe extern "C-unwind" {
        fn get_relation_policy_oid(relation: pg_sys::Oid, name: *const c_char, missing_ok: bool) -> pg_sys::Oid;
    }
    // SAFETY: a catalog look-up with a constant name, inside pgrx's guard.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| get_relation_policy_oid(relation, c"bulkhead_floor".as_ptr(), true))
            != pg_sys::InvalidOid
    }
}

/// # Safety
/// `tuple` is a valid row of bulkhead.protection, described by `columns`.
unsafe fn entry(tuple: pg_sys::HeapTuple, columns: pg_sys::TupleDesc) -> Option<Entry> {
    // SAFETY: the caller's promise; the columns have the types that sql/rls.sql gives them.
    unsafe {
        let get = |column: i32| {
            let mut is_null = false;
            let datum = pg_sys::heap_getattr(tuple, column, columns, &mut is_null);
            (datum, is_null)
        };
        let (datum, is_null) = get(RELATION);
        let relation = pg_sys::Oid::from_datum(datum, is_null)?;
        let (datum, is_null) = get(SHARED);
        if bool::from_datum(datum, is_null)? {
            return Some(Entry { relation, border: Border::Shared, column: 0, own: true, ours: false });
        }
        let (datum, is_null) = get(HOME);
        let column = if String::from_datum(datum, is_null)? == home() {
            let (datum, is_null) = get(TENANT_ATTNUM);
            i16::from_datum(datum, is_null)?
        } else if !security::has_row_security(relation) && !has_floor(relation) {
            // pg_restore brings this row before the table's rows; the policies come after them.
            return None;
        } else {
            let (datum, _) = get(TENANT_COLUMN);
            pg_sys::get_attnum(relation, datum.cast_mut_ptr())
        };
        let column_type = pg_sys::get_atttype(relation, column);
        let known = column_type != pg_sys::InvalidOid;
        let key = known.then(|| Key::of(security::base_type(column_type))).flatten();
        Some(Entry {
            relation,
            border: key.map_or(Border::Lost, Border::Column),
            column: if known { column } else { 0 },
            own: true,
            ours: false,
        })
    }
}

/// Adds the relation and all that inherit from it: a child attached behind the event trigger's back is one too.
fn descend(entry: Entry, entries: &mut Vec<Entry>) {
    entries.push(entry);
    // SAFETY: a syscache look-up. A table that this transaction has dropped has no family to look up.
    if unsafe { pg_sys::get_rel_relkind(entry.relation) } == 0 {
        return;
    }
    let family = family(entry.relation, pg_sys::NoLock as i32);
    let below = family.into_iter().filter(|relation| *relation != entry.relation);
    entries.extend(below.map(|relation| {
        // SAFETY: look-ups in the system caches; the name is palloc'd, and NULL only for a column that is gone.
        let column = unsafe {
            let name = pg_sys::get_attname(entry.relation, entry.column, true);
            if name.is_null() { 0 } else { pg_sys::get_attnum(relation, name) }
        };
        Entry { relation, column, own: false, ..entry }
    }));
}

/// Adds all that the relation inherits from: through them its rows can be reached.
fn ascend(entry: Entry, entries: &mut Vec<Entry>) {
    let mut above = vec![entry.relation];
    while let Some(child) = above.pop() {
        for parent in parents(child) {
            entries.push(Entry { relation: parent, border: Border::Exposing, column: 0, own: false, ours: false });
            above.push(parent);
        }
    }
}

/// What a relation inherits from directly.
fn parents(relation: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    let mut parents = Vec::new();
    // SAFETY: an index scan of pg_inherits by its first column, ended before the relation is closed; each tuple is read
    // before the next is fetched.
    unsafe {
        let open = OpenTable(pg_sys::table_open(pg_sys::Oid::from(PG_INHERITS), pg_sys::AccessShareLock as i32));
        let mut key = pg_sys::ScanKeyData::default();
        let column = INHRELID;
        let equal = pg_sys::BTEqualStrategyNumber as u16;
        pg_sys::ScanKeyInit(&mut key, column, equal, pg_sys::Oid::from(pg_sys::F_OIDEQ), relation.into());
        let index = pg_sys::Oid::from(PG_INHERITS_RELID_SEQNO_INDEX);
        let scan = pg_sys::systable_beginscan(open.0, index, true, std::ptr::null_mut(), 1, &mut key);
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let mut is_null = false;
            let parent = pg_sys::heap_getattr(tuple, INHPARENT, (*open.0).rd_att, &mut is_null);
            parents.extend(pg_sys::Oid::from_datum(parent, is_null));
        }
        pg_sys::systable_endscan(scan);
    }
    parents
}

/// A relation and all that inherit from it, each locked in this mode.
pub fn family(relation: pg_sys::Oid, lock_mode: pg_sys::LOCKMODE) -> Vec<pg_sys::Oid> {
    // pgrx has no binding for it.
    unsafe extern "C-unwind" {
        fn find_all_inheritors(
            parent: pg_sys::Oid,
            lock_mode: pg_sys::LOCKMODE,
            parents: *mut *mut pg_sys::List,
        ) -> *mut pg_sys::List;
    }
    // SAFETY: a catalog look-up inside pgrx's guard; the list is a fresh list of oids.
    unsafe {
        let family =
            pg_sys::ffi::pg_guard_ffi_boundary(|| find_all_inheritors(relation, lock_mode, std::ptr::null_mut()));
        list::cells(family).iter().map(|cell| cell.oid_value).collect()
    }
}

/// Appends a row to bulkhead.bypass_log: the time, then these texts. Without SPI and whatever the current role is, because a hook
/// writes it.
pub fn append_bypass(texts: [&str; 6]) {
    // SAFETY: the relation is open for the call; the values are as many as its columns, of their types, and live until the
    // tuple is formed.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"bulkhead".as_ptr(), true);
        let table = pg_sys::get_relname_relid(c"bypass_log".as_ptr(), schema);
        if table == pg_sys::InvalidOid {
            return;
        }
        let open = OpenTable(pg_sys::table_open(table, pg_sys::RowExclusiveLock as i32));
        let mut values = vec![pg_sys::Datum::from(pg_sys::GetCurrentTimestamp())];
        values.extend(texts.iter().map(|text| {
            pg_sys::Datum::from(pg_sys::cstring_to_text_with_len(text.as_ptr().cast(), text.len() as i32))
        }));
        let mut nulls = vec![false; values.len()];
        let tuple = pg_sys::heap_form_tuple((*open.0).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::simple_heap_insert(open.0, tuple);
        pg_sys::heap_freetuple(tuple);
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
