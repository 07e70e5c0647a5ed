//! The partitions of the table of keys.

use std::rc::Rc;

use pgrx::prelude::*;

use super::super::partitions::{Leaves, Partitions};
use super::super::{columns, list, security};
use super::rows;
use crate::error::{self, Result};

static PARTITIONS: Partitions = Partitions::of(c"idempotency_key", primary_key);

/// Those that there are now.
pub fn leaves() -> Result<Rc<Leaves>> {
    PARTITIONS.leaves()
}

/// See `Partitions::are_current`.
pub fn are_current(leaves: &Rc<Leaves>) -> bool {
    PARTITIONS.are_current(leaves)
}

/// The index on the first column, the digest, that makes a key unique in its partition.
///
/// # Safety
/// The relation is open.
unsafe fn primary_key(relation: pg_sys::Relation) -> Result<pg_sys::Oid> {
    // SAFETY: the caller's promise; the list is of oids, and an open index has its row of pg_index.
    unsafe {
        let name = || security::relation_name((*relation).rd_id);
        if !columns::are((*relation).rd_att, &rows::OURS) {
            return Err(error::state(
                format!("partition {} of bulkhead.idempotency_key has other columns than it needs", name()),
                "Its rows are read and written by the columns' positions, which are those that CREATE EXTENSION gave the table.",
                "Bring back the table's columns, or detach the partition if it was attached by hand.",
            ));
        }
        let indexes = pg_sys::RelationGetIndexList(relation);
        let primary = (*relation).rd_pkindex;
        let mut plain = primary != pg_sys::InvalidOid;
        for cell in list::cells(indexes) {
            let index = pg_sys::index_open(cell.oid_value, pg_sys::AccessShareLock as i32);
            plain &= pg_sys::RelationGetIndexExpressions(index).is_null()
                && pg_sys::RelationGetIndexPredicate(index).is_null();
            if cell.oid_value == primary {
                let row = &*(*index).rd_index;
                plain &= row.indnkeyatts == 1 && row.indkey.values.as_slice(1)[0] == 1;
            }
            pg_sys::index_close(index, pg_sys::AccessShareLock as i32);
        }
        if !plain {
            return Err(error::state(
                format!("partition {} of bulkhead.idempotency_key has other indexes than it needs", name()),
                "It needs a primary key on (digest), and may have no index on an expression or with a condition.",
                "Drop what was added to it.",
            ));
        }
        Ok(primary)
    }
}
