//! Columns of relations, by number and by name.

use std::ffi::{CStr, CString};

use pgrx::prelude::*;

/// A column's name, quoted as SQL needs it; empty when it is gone.
pub fn name(relation: pg_sys::Oid, column: i16) -> String {
    // SAFETY: a look-up in the system cache; the name is palloc'd or NULL, and quoting copies it.
    unsafe {
        let name = pg_sys::get_attname(relation, column, true);
        if name.is_null() {
            return String::new();
        }
        CStr::from_ptr(pg_sys::quote_identifier(name)).to_string_lossy().into_owned()
    }
}

/// The same, as it is.
pub fn plain_name(relation: pg_sys::Oid, column: i16) -> String {
    // SAFETY: as above; the name is copied.
    unsafe {
        let name = pg_sys::get_attname(relation, column, true);
        if name.is_null() { String::new() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
    }
}

/// The number of a column; 0 when there is none of that name.
pub fn number(relation: pg_sys::Oid, name: &str) -> i16 {
    let Ok(name) = CString::new(name) else { return 0 };
    // SAFETY: a look-up in the system cache.
    unsafe { pg_sys::get_attnum(relation, name.as_ptr()) }
}

/// The oid of a column's type; 0 when it is gone.
pub fn type_of(relation: pg_sys::Oid, column: i16) -> pg_sys::Oid {
    // SAFETY: a look-up in the system cache.
    unsafe { pg_sys::get_atttype(relation, column) }
}

/// Whether texts of the column are equal only when their bytes are.
pub fn is_deterministic(relation: pg_sys::Oid, column: i16) -> bool {
    let (mut of_type, mut modifier, mut collation) = (pg_sys::InvalidOid, 0, pg_sys::InvalidOid);
    // SAFETY: look-ups in the system caches; the three are written to.
    unsafe {
        pg_sys::get_atttypetypmodcoll(relation, column, &mut of_type, &mut modifier, &mut collation);
        collation == pg_sys::InvalidOid || pg_sys::get_collation_isdeterministic(collation)
    }
}

/// Whether a table has exactly these columns, by name and type, in this order.
///
/// # Safety
/// `description` is that of an open table.
pub unsafe fn are(description: pg_sys::TupleDesc, ours: &[(&CStr, pg_sys::Oid)]) -> bool {
    // SAFETY: the caller's promise; names are NUL-terminated.
    unsafe {
        let columns = pgrx::tupdesc::PgTupleDesc::from_pg_unchecked(description);
        columns.len() == ours.len()
            && columns.iter().zip(ours).all(|(column, (name, of_type))| {
                !column.attisdropped
                    && column.atttypid == *of_type
                    && CStr::from_ptr(column.attname.data.as_ptr()) == *name
            })
    }
}
