//! Whether the SQL objects of this database are those that the library was made for.
//!
//! Between the two lie the columns that are read by position and what a function's arguments mean. So where the versions differ, whatever reads or writes tenants' rows is refused:
//! statements on protected tables by the executor's and the planner's hooks, functions by `require()`. What is left says so (status(), health(), lint()),
//! reads the context, or takes the extension away. Nobody is locked out: `ALTER EXTENSION bulkhead UPDATE` runs, and `bulkhead.seal = off` lifts the refusal of statements.

use pgrx::prelude::*;

use super::relations::OpenTable;
use super::{library, registry};
use crate::error::{self, Result};

/// 55000 where the versions differ.
#[inline]
pub fn require() -> Result<()> {
    if registry::is_of_this_version() { Ok(()) } else { look_again() }
}

/// The list of protected tables knows an old answer while an update is at work, and for a moment after it.
#[cold]
fn look_again() -> Result<()> {
    // SAFETY: reads a variable of the server's.
    if unsafe { pg_sys::creating_extension } {
        return Ok(());
    }
    match installed() {
        Some(version) if version != library::VERSION => Err(error::state(
            format!("bulkhead's library is of version {}, its SQL objects of version {version}", library::VERSION),
            "Tenants' rows are neither read nor written until both are of one version.",
            "ALTER EXTENSION bulkhead UPDATE, or restart the server with the library of that version.",
        )),
        _ => {
            registry::forget();
            Ok(())
        }
    }
}

/// The version of the SQL objects; None where the extension is not installed. No cache of the server's has it.
pub fn installed() -> Option<String> {
    let find = pg_sys::Oid::from(pg_sys::ExtensionNameIndexId);
    // SAFETY: the catalog is open for the whole scan; the version is copied before the scan ends. A raised ERROR unwinds through pgrx's guard,
    // and the server releases both with the transaction.
    unsafe {
        let mut key = pg_sys::ScanKeyData::default();
        let equal = pg_sys::BTEqualStrategyNumber as u16;
        let name = pg_sys::Datum::from(c"bulkhead".as_ptr());
        let column = pg_sys::Anum_pg_extension_extname as pg_sys::AttrNumber;
        pg_sys::ScanKeyInit(&mut key, column, equal, pg_sys::Oid::from(pg_sys::F_NAMEEQ), name);
        let open = OpenTable(pg_sys::table_open(pg_sys::ExtensionRelationId, pg_sys::AccessShareLock as i32));
        let scan = pg_sys::systable_beginscan(open.0, find, true, std::ptr::null_mut(), 1, &mut key);
        let tuple = pg_sys::systable_getnext(scan);
        let version = if tuple.is_null() {
            None
        } else {
            let mut is_null = false;
            let column = pg_sys::Anum_pg_extension_extversion as i32;
            let datum = pg_sys::heap_getattr(tuple, column, (*open.0).rd_att, &mut is_null);
            String::from_datum(datum, is_null)
        };
        pg_sys::systable_endscan(scan);
        version
    }
}
