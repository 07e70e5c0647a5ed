//! Holds on partitions, read without SPI.

use std::ffi::CStr;

use pgrx::prelude::*;

use super::columns;
use super::relations::OpenTable;
use super::scan::table;
use crate::error::{self, Result};

/// The columns of bulkhead.partition_hold, which are read by position: sql/partition.sql says so too.
const OURS: [(&CStr, pg_sys::Oid); 4] = [
    (c"partition", pg_sys::REGCLASSOID),
    (c"reason", pg_sys::TEXTOID),
    (c"held_at", pg_sys::TIMESTAMPTZOID),
    (c"held_by", pg_sys::NAMEOID),
];
const HELD_PARTITION: i32 = 1;
const HELD_REASON: i32 = 2;
const HELD_BY: i32 = 4;

/// The reason and the role of a hold on one of these, if there is one: as it is committed now, whatever snapshot the transaction has.
pub fn on(partitions: &[pg_sys::Oid]) -> Result<Option<(String, String)>> {
    let table = table(c"partition_hold");
    if table == pg_sys::InvalidOid {
        return Ok(None);
    }
    // SAFETY: a scan with the newest snapshot, ended before the relation is closed; each tuple is read before the next is fetched, and its columns
    // have the types that sql/partition.sql gives them: a reason is a text, a role a name.
    unsafe {
        let open = OpenTable(pg_sys::table_open(table, pg_sys::AccessShareLock as i32));
        if !columns::are((*open.0).rd_att, &OURS) {
            return Err(error::internal("bulkhead.partition_hold has other columns than the library knows"));
        }
        let none = std::ptr::null_mut();
        let scan = pg_sys::systable_beginscan(open.0, pg_sys::InvalidOid, false, none, 0, std::ptr::null_mut());
        let mut held = None;
        while held.is_none() {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let get = |column: i32| {
                let mut is_null = false;
                let datum = pg_sys::heap_getattr(tuple, column, (*open.0).rd_att, &mut is_null);
                (datum, is_null)
            };
            let (datum, is_null) = get(HELD_PARTITION);
            if pg_sys::Oid::from_datum(datum, is_null).is_some_and(|partition| partitions.contains(&partition)) {
                let (reason, is_null) = get(HELD_REASON);
                let (role, _) = get(HELD_BY);
                let role = CStr::from_ptr(role.cast_mut_ptr()).to_string_lossy().into_owned();
                held = Some((String::from_datum(reason, is_null).unwrap_or_default(), role));
            }
        }
        pg_sys::systable_endscan(scan);
        Ok(held)
    }
}
