//! What maintenance may do past the seal: empty one expired partition, and let its owner's archive function read that one.
//!
//! Neither lifts the seal for anything else. While the archive function runs, every other protected table is as sealed as ever, for it and for
//! whatever it calls; the partition is, for this session, a table like any other. No plan of that time is used after it.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::pg::cell::PerBackend;
use crate::pg::{nesting, planned_stmt, security};

/// The partition being archived; 0 for none.
static ARCHIVED: PerBackend<Cell<u32>> = PerBackend::new(Cell::new(0));
/// The partition being emptied; 0 for none.
static EMPTIED: PerBackend<Cell<u32>> = PerBackend::new(Cell::new(0));

/// Puts everything back on every path.
struct Archiving(nesting::Nesting);

impl Drop for Archiving {
    fn drop(&mut self) {
        nesting::leave(self.0);
        ARCHIVED.set(0);
        planned_stmt::forget_cached();
    }
}

/// Runs `work` as the owner of the table, restricted, with all rows of its partition in sight, which that role owns as well.
pub fn archive<R>(partition: pg_sys::Oid, table: pg_sys::Oid, work: impl FnOnce() -> R) -> R {
    planned_stmt::forget_cached();
    // Forced row level security is off for the owner, as it is inside referential integrity; this says that it is not that.
    let archiving = Archiving(nesting::enter_unforced());
    ARCHIVED.set(partition.to_u32());
    let result = security::as_unforced_owner(table, work);
    drop(archiving);
    result
}

/// Whether the relation is out of the registry for now.
pub fn archives(relation: pg_sys::Oid) -> bool {
    let archived = ARCHIVED.get();
    archived != 0 && archived == relation.to_u32()
}

pub fn is_archiving() -> bool {
    ARCHIVED.get() != 0
}

struct Emptying;

impl Drop for Emptying {
    fn drop(&mut self) {
        EMPTIED.set(0);
    }
}

/// Runs `work`, which may TRUNCATE the partition.
pub fn empty<R>(partition: pg_sys::Oid, work: impl FnOnce() -> R) -> R {
    EMPTIED.set(partition.to_u32());
    let emptying = Emptying;
    let result = work();
    drop(emptying);
    result
}

pub fn may_empty(relation: pg_sys::Oid) -> bool {
    let emptied = EMPTIED.get();
    emptied != 0 && emptied == relation.to_u32()
}
