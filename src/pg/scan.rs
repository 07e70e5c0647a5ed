//! Reads `bulkhead.protection` inside a hook, where SPI must not be used.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char};

use pgrx::prelude::*;

use super::cell::PerBackend;
use super::registry::{Border, Entry};
use super::relations::{OpenTable, parents, unlocked_family};
use super::{library, security, version};
use crate::rls::FLOOR;
use crate::rls::key::Key;

// The columns of bulkhead.protection that are read here, by position: sql/rls.sql says so too.
const RELATION: i32 = 1;
const TENANT_ATTNUM: i32 = 2;
const TENANT_COLUMN: i32 = 3;
const SHARED: i32 = 4;
const HOME: i32 = 5;

pub struct Protection {
    /// bulkhead.protection; 0 where the extension is not installed.
    pub table: pg_sys::Oid,
    /// The accessors, in the order of `Key`.
    pub accessors: [pg_sys::Oid; 3],
    /// An entry for each registered relation and descendant.
    pub entries: Vec<Entry>,
    /// The SQL objects are not this library's.
    pub other_version: bool,
}

pub fn read_protection() -> Protection {
    let table = protection_table();
    if table == pg_sys::InvalidOid {
        return Protection { table, accessors: [table; 3], entries: Vec::new(), other_version: false };
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
    let other_version = version::installed().is_some_and(|installed| installed != library::VERSION);
    Protection { table, accessors, entries, other_version }
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
        entries.extend(unlocked_family(table).into_iter().map(|relation| {
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
        let schema = pg_sys::get_namespace_oid(c"bulkhead".as_ptr(), true);
        if schema == pg_sys::InvalidOid || !is_the_extensions(schema) {
            return pg_sys::InvalidOid;
        }
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    }
}

/// The schema and the registry that were found to be the extension's. No cache of the server's knows extensions by name, and an oid is not given again
/// while anybody remembers it.
static FOUND: PerBackend<Cell<(pg_sys::Oid, pg_sys::Oid)>> =
    PerBackend::new(Cell::new((pg_sys::InvalidOid, pg_sys::InvalidOid)));

fn is_the_extensions(schema: pg_sys::Oid) -> bool {
    // SAFETY: as above.
    unsafe {
        let registry = pg_sys::get_relname_relid(c"protection".as_ptr(), schema);
        if registry != pg_sys::InvalidOid && FOUND.get() == (schema, registry) {
            return true;
        }
        let is_there = pg_sys::get_extension_oid(c"bulkhead".as_ptr(), true) != pg_sys::InvalidOid;
        if is_there {
            FOUND.set((schema, registry));
        }
        is_there
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
    let name = CString::new(FLOOR).unwrap_or_default();
    // SAFETY: a catalog look-up inside pgrx's guard; the name outlives it.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| get_relation_policy_oid(relation, name.as_ptr(), true))
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
    let below = unlocked_family(entry.relation).into_iter().skip(1);
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
