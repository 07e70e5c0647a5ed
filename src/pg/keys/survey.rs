//! A look at all rows of a partition, of all tenants: for health(), which says how many there are of a kind and names one.

use pgrx::prelude::*;

use super::super::partitions::Leaf;
use super::rows::{CLAIMED_AT, KEY, LEASE_UNTIL, STAGE, TENANT, stage};
use crate::idempotency::decide::Stage;

/// A row under a scan.
pub struct Row {
    tuple: pg_sys::HeapTuple,
    description: pg_sys::TupleDesc,
}

impl Row {
    fn value<T: FromDatum>(&self, column: usize) -> Option<T> {
        // SAFETY: the row is that of the scan's present position, with that description; the column's value is of the column's type.
        unsafe {
            let mut is_null = false;
            let datum = pg_sys::heap_getattr(self.tuple, column as i32 + 1, self.description, &mut is_null);
            T::from_datum(datum, is_null)
        }
    }

    pub fn stage(&self) -> Option<Stage> {
        stage(self.value::<i8>(STAGE)?)
    }

    pub fn claimed_at(&self) -> i64 {
        self.value(CLAIMED_AT).unwrap_or(i64::MIN)
    }

    pub fn lease_until(&self) -> i64 {
        self.value(LEASE_UNTIL).unwrap_or(i64::MAX)
    }

    pub fn tenant(&self) -> &[u8] {
        self.value(TENANT).unwrap_or_default()
    }

    pub fn key(&self) -> &[u8] {
        self.value(KEY).unwrap_or_default()
    }
}

/// Calls `visit` with each row that is committed, as the statement sees them. Nothing when the partition is gone. Takes ACCESS SHARE on
/// it, and gives that back.
pub fn each_committed(leaf: &Leaf, mut visit: impl FnMut(&Row)) {
    // SAFETY: the table is open while it is scanned; a function runs under an active snapshot; each row is read before the next is
    // fetched. The server looks for interrupts at each page.
    unsafe {
        let relation = pg_sys::try_relation_open(leaf.table, pg_sys::AccessShareLock as i32);
        if relation.is_null() {
            return;
        }
        let snapshot = pg_sys::GetActiveSnapshot();
        let scan = pg_sys::systable_beginscan(relation, pg_sys::InvalidOid, false, snapshot, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            visit(&Row { tuple, description: (*relation).rd_att });
        }
        pg_sys::systable_endscan(scan);
        pg_sys::relation_close(relation, pg_sys::AccessShareLock as i32);
    }
}
