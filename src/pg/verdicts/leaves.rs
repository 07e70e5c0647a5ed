//! The partitions of the table of verdicts, as this backend knows them: read from the server's own description of the parent, again after an
//! invalidation message.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use pgrx::prelude::*;

use super::super::cell::PerBackend;
use super::super::{list, scan, security};
use super::rows;
use crate::error::{self, Result};

/// A partition: the verdicts that were given from `lower` on and before `upper`.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    pub table: pg_sys::Oid,
    /// Its primary key, on the digest and the line.
    pub index: pg_sys::Oid,
    pub lower: i64,
    pub upper: i64,
}

pub struct Leaves {
    pub parent: pg_sys::Oid,
    /// By time, the oldest first.
    pub leaves: Vec<Leaf>,
}

impl Leaves {
    pub fn at(&self, time: i64) -> Option<Leaf> {
        self.leaves.iter().copied().find(|leaf| leaf.lower <= time && time < leaf.upper)
    }

    /// Those that may hold a verdict that was given at `time` or later, the newest first.
    pub fn since(&self, time: i64) -> impl Iterator<Item = Leaf> {
        self.leaves.iter().rev().copied().filter(move |leaf| leaf.upper > time)
    }
}

static VALID: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));
static KNOWN: PerBackend<RefCell<Option<Rc<Leaves>>>> = PerBackend::new(RefCell::new(None));
static REGISTERED: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));

/// Whether nothing has changed since these were read. True under the locks of the partitions it stays so until they are released.
pub fn are_current(leaves: &Rc<Leaves>) -> bool {
    VALID.get() && KNOWN.borrow().as_ref().is_some_and(|known| Rc::ptr_eq(known, leaves))
}

/// The partitions that there are now.
pub fn leaves() -> Result<Rc<Leaves>> {
    if !REGISTERED.replace(true) {
        // SAFETY: the callback is guarded and lives as long as the process.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::null()) };
    }
    // Reading takes locks, which may bring in a message that makes what was read old again.
    for _ in 0..8 {
        if VALID.get()
            && let Some(known) = KNOWN.borrow().as_ref()
        {
            return Ok(Rc::clone(known));
        }
        KNOWN.replace(None);
        VALID.set(true);
        let read = read()?;
        KNOWN.replace(Some(Rc::new(read)));
    }
    let known = KNOWN.borrow();
    known
        .as_ref()
        .map(Rc::clone)
        .ok_or_else(|| error::internal("the partitions of bulkhead.order_verdict keep changing"))
}

fn read() -> Result<Leaves> {
    let parent = scan::table(c"order_verdict");
    if parent == pg_sys::InvalidOid {
        return Err(error::state(
            "extension bulkhead is not installed in this database, or is older than the library",
            "There is no table bulkhead.order_verdict.",
            "CREATE EXTENSION bulkhead, or ALTER EXTENSION bulkhead UPDATE.",
        ));
    }
    let mut leaves = Vec::new();
    // SAFETY: the relation is open while its description is read; a partitioned table has one, whose arrays are as long as it says: for a range,
    // bound i lies between partition indexes[i] and indexes[i + 1].
    unsafe {
        let relation = pg_sys::table_open(parent, pg_sys::AccessShareLock as i32);
        let description = &*pg_sys::RelationGetPartitionDesc(relation, true);
        if let Some(bounds) = description.boundinfo.as_ref() {
            let bound = |at: i32| -> i64 {
                use pg_sys::PartitionRangeDatumKind::*;
                match **bounds.kind.offset(at as isize) {
                    PARTITION_RANGE_DATUM_MINVALUE => i64::MIN,
                    PARTITION_RANGE_DATUM_MAXVALUE => i64::MAX,
                    _ => (**bounds.datums.offset(at as isize)).value() as i64,
                }
            };
            for at in 1..bounds.ndatums {
                let number = *bounds.indexes.offset(at as isize);
                if number >= 0 {
                    let table = *description.oids.offset(number as isize);
                    leaves.push(Leaf { table, index: primary_key(table)?, lower: bound(at - 1), upper: bound(at) });
                }
            }
        }
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
    }
    Ok(Leaves { parent, leaves })
}

/// The index that makes a line of an order unique in its partition. There may be no other: rows go in past the executor.
fn primary_key(leaf: pg_sys::Oid) -> Result<pg_sys::Oid> {
    // SAFETY: the relation is open while it is looked at; the list is of oids, and an open index has its row of pg_index.
    unsafe {
        let relation = pg_sys::table_open(leaf, pg_sys::AccessShareLock as i32);
        let has_our_columns = rows::are_our_columns((*relation).rd_att);
        let indexes = list::cells(pg_sys::RelationGetIndexList(relation));
        let primary = (*relation).rd_pkindex;
        let mut ours = indexes.len() == 1 && primary != pg_sys::InvalidOid;
        if ours {
            let index = pg_sys::index_open(primary, pg_sys::AccessShareLock as i32);
            let row = &*(*index).rd_index;
            ours = row.indnkeyatts == 2 && row.indkey.values.as_slice(2) == rows::KEY;
            pg_sys::index_close(index, pg_sys::AccessShareLock as i32);
        }
        let plain = (*relation).trigdesc.is_null();
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        if !has_our_columns || !ours || !plain {
            let name = security::relation_name(leaf);
            return Err(error::state(
                format!("partition {name} of bulkhead.order_verdict is not as it needs to be"),
                "Its rows are read and written by position: it needs the columns that CREATE EXTENSION gave the table, a primary key on (digest, line), no other index and no trigger.",
                "Undo what was changed, or detach the partition if it was attached by hand.",
            ));
        }
        Ok(primary)
    }
}

/// # Safety
/// Called by the server; `relation` is 0 when anything may have changed. Must not raise.
#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    let concerns_us = relation == pg_sys::InvalidOid
        || KNOWN.try_borrow().map_or(true, |known| {
            known
                .as_ref()
                .is_none_or(|known| known.parent == relation || known.leaves.iter().any(|leaf| leaf.table == relation))
        });
    if concerns_us {
        VALID.set(false);
    }
}
