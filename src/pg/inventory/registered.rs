//! Rows of bulkhead.inventory, by position: sql/inventory.sql says so too.
//!
//! Read without a statement: that would leave the transaction with a lock on the table, and whoever calls decrement_now() waits for another process, for which nobody else should have to wait.

use std::ffi::CStr;

use pgrx::prelude::*;

use super::super::group::ringing;
use super::super::scan;

/// A row of bulkhead.inventory.
pub struct Registered {
    pub identity: [u8; 16],
    /// Numbers and names of the item column and of the quantity column.
    pub columns: [(i16, String); 2],
    /// The tenant column's, if it had one.
    pub tenant: Option<(i16, String)>,
    pub home: String,
    is_current: bool,
}

/// What is registered for a table, as it is committed now, or by this transaction. What it was before is passed by. The first
/// time that a session finds a table, a worker is rung for, to look at what was queued before a restart of the server.
pub fn registered(relation: pg_sys::Oid) -> Option<Registered> {
    let mut found = None;
    each(|of, row| {
        if of == relation {
            found = row().filter(|row| row.is_current).or(found.take());
        }
    });
    if found.is_some() {
        ringing::used();
    }
    found
}

/// Every registered table.
pub fn all_registered() -> Vec<pg_sys::Oid> {
    let mut all = Vec::new();
    each(|relation, _| all.push(relation));
    all.sort_unstable_by_key(|relation| relation.to_u32());
    all.dedup();
    all
}

/// Some of them came with a dump, or with a copy of the database, and columns' numbers are not known to be right.
pub fn some_are_away() -> bool {
    let (home, mut is_away) = (scan::home(), false);
    each(|_, row| is_away |= row().is_some_and(|row| row.home != home));
    is_away
}

fn each(mut found: impl FnMut(pg_sys::Oid, &dyn Fn() -> Option<Registered>)) {
    let table = scan::table(c"inventory");
    if table == pg_sys::InvalidOid {
        return;
    }
    let lock = pg_sys::AccessShareLock as i32;
    // SAFETY: the table is open for the whole scan; each row is read before the next is fetched; its columns have the types that sql/inventory.sql gives them.
    // An error ends the transaction, which closes both.
    unsafe {
        let open = pg_sys::table_open(table, lock);
        let none = std::ptr::null_mut();
        let scan = pg_sys::systable_beginscan(open, pg_sys::InvalidOid, false, none, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let column = |number: i32| {
                let mut is_null = false;
                let datum = pg_sys::heap_getattr(tuple, number, (*open).rd_att, &mut is_null);
                (!is_null).then_some(datum)
            };
            let name =
                |number: i32| Some(CStr::from_ptr(column(number)?.cast_mut_ptr()).to_string_lossy().into_owned());
            let row = || {
                Some(Registered {
                    identity: *pgrx::Uuid::from_datum(column(2)?, false)?.as_bytes(),
                    columns: [
                        (i16::from_datum(column(3)?, false)?, name(4)?),
                        (i16::from_datum(column(5)?, false)?, name(6)?),
                    ],
                    tenant: column(7).and_then(|number| i16::from_datum(number, false)).zip(name(8)),
                    home: String::from_datum(column(9)?, false)?,
                    is_current: bool::from_datum(column(10)?, false)?,
                })
            };
            if let Some(relation) = column(1).and_then(|datum| pg_sys::Oid::from_datum(datum, false)) {
                found(relation, &row);
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(open, lock);
    }
}
