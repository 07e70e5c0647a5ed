//! The partitions of the table of verdicts.

use std::rc::Rc;

use pgrx::prelude::*;

use super::super::partitions::{Leaves, Partitions};
use super::super::{columns, list, security};
use super::rows;
use crate::error::{self, Result};

static PARTITIONS: Partitions = Partitions::of(c"order_verdict", primary_key);

/// Those that there are now.
pub fn leaves() -> Result<Rc<Leaves>> {
    PARTITIONS.leaves()
}

/// See `Partitions::are_current`.
pub fn are_current(leaves: &Rc<Leaves>) -> bool {
    PARTITIONS.are_current(leaves)
}

/// The index that makes a line of an order unique in its partition. There may be no other: rows go in past the executor.
///
/// # Safety
/// The relation is open.
unsafe fn primary_key(relation: pg_sys::Relation) -> Result<pg_sys::Oid> {
    // SAFETY: the caller's promise; the list is of oids, and an open index has its row of pg_index.
    unsafe {
        let indexes = list::cells(pg_sys::RelationGetIndexList(relation));
        let primary = (*relation).rd_pkindex;
        let mut ours = indexes.len() == 1 && primary != pg_sys::InvalidOid;
        if ours {
            let index = pg_sys::index_open(primary, pg_sys::AccessShareLock as i32);
            let row = &*(*index).rd_index;
            ours = row.indnkeyatts == 2 && row.indkey.values.as_slice(2) == rows::KEY;
            pg_sys::index_close(index, pg_sys::AccessShareLock as i32);
        }
        if !ours || !columns::are((*relation).rd_att, &rows::OURS) || !(*relation).trigdesc.is_null() {
            let name = security::relation_name((*relation).rd_id);
            return Err(error::state(
                format!("partition {name} of bulkhead.order_verdict is not as it needs to be"),
                "Its rows are read and written by position: it needs the columns that CREATE EXTENSION gave the table, a primary key on (digest, line), no other index and no trigger.",
                "Undo what was changed, or detach the partition if it was attached by hand.",
            ));
        }
        Ok(primary)
    }
}
