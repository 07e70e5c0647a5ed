//! The partitions by time of a table of the extension's own, as this backend knows them: read from the server's own description of the parent,
//! again after an invalidation message. Whoever works in them locks those that it looks into and not the parent, so maintenance of the parent
//! holds nobody up.

use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::prelude::*;

use super::cell::PerBackend;
use super::scan;
use crate::error::{self, Result};

/// A partition: the rows whose time is `lower` or later, and before `upper`.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    pub table: pg_sys::Oid,
    /// Its primary key.
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

    /// Those that may hold a row of that time or later, the newest first.
    pub fn since(&self, time: i64) -> impl Iterator<Item = Leaf> {
        self.leaves.iter().rev().copied().filter(move |leaf| leaf.upper > time)
    }
}

/// The oid of an open partition's primary key, or why its rows cannot be read and written in place.
///
/// # Safety
/// The relation is open.
pub type Check = unsafe fn(pg_sys::Relation) -> Result<pg_sys::Oid>;

/// What a backend knows of one such table.
pub struct Partitions(PerBackend<Known>);

struct Known {
    table: &'static CStr,
    check: Check,
    leaves: RefCell<Option<Rc<Leaves>>>,
    /// Nothing has changed since they were read.
    is_valid: Cell<bool>,
    is_registered: Cell<bool>,
}

impl Partitions {
    pub const fn of(table: &'static CStr, check: Check) -> Partitions {
        let (is_valid, is_registered) = (Cell::new(false), Cell::new(false));
        Partitions(PerBackend::new(Known { table, check, leaves: RefCell::new(None), is_valid, is_registered }))
    }

    /// Whether nothing has changed since these were read. True under the locks of the partitions it stays so until they are released:
    /// before them, one may have been detached, or its index built anew.
    pub fn are_current(&self, leaves: &Rc<Leaves>) -> bool {
        self.0.is_valid.get() && self.0.leaves.borrow().as_ref().is_some_and(|known| Rc::ptr_eq(known, leaves))
    }

    /// The partitions that there are now.
    pub fn leaves(&'static self) -> Result<Rc<Leaves>> {
        let known: &'static Known = &self.0;
        if !known.is_registered.replace(true) {
            let argument = pg_sys::Datum::from(std::ptr::from_ref(known).cast_mut());
            // SAFETY: the callback is guarded, and it and its argument live as long as the process.
            unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), argument) };
        }
        // Reading takes locks, which may bring in a message that makes what was read old again.
        for _ in 0..8 {
            if known.is_valid.get()
                && let Some(leaves) = known.leaves.borrow().as_ref()
            {
                return Ok(Rc::clone(leaves));
            }
            known.leaves.replace(None);
            known.is_valid.set(true);
            let read = known.read()?;
            known.leaves.replace(Some(Rc::new(read)));
        }
        let leaves = known.leaves.borrow().as_ref().map(Rc::clone);
        leaves.ok_or_else(|| error::internal(format!("the partitions of bulkhead.{} keep changing", known.name())))
    }
}

impl Known {
    fn name(&self) -> std::borrow::Cow<'static, str> {
        self.table.to_string_lossy()
    }

    fn read(&self) -> Result<Leaves> {
        let parent = scan::table(self.table);
        if parent == pg_sys::InvalidOid {
            return Err(error::state(
                "extension bulkhead is not installed in this database, or is older than the library",
                format!("There is no table bulkhead.{}.", self.name()),
                "CREATE EXTENSION bulkhead, or ALTER EXTENSION bulkhead UPDATE.",
            ));
        }
        let mut leaves = Vec::new();
        // SAFETY: the relation is open while its description is read; a partitioned table has one, whose arrays are as long as it says:
        // for a range, bound i lies between partition indexes[i] and indexes[i + 1].
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
                        let index = self.primary_key(table)?;
                        leaves.push(Leaf { table, index, lower: bound(at - 1), upper: bound(at) });
                    }
                }
            }
            pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        }
        Ok(Leaves { parent, leaves })
    }

    fn primary_key(&self, leaf: pg_sys::Oid) -> Result<pg_sys::Oid> {
        // SAFETY: opened for the check, and closed again.
        unsafe {
            let relation = pg_sys::table_open(leaf, pg_sys::AccessShareLock as i32);
            let index = (self.check)(relation);
            pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
            index
        }
    }
}

/// # Safety
/// Called by the server with what was registered; `relation` is 0 when anything may have changed. Must not raise.
#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(argument: pg_sys::Datum, relation: pg_sys::Oid) {
    // SAFETY: the address of a static.
    let known = unsafe { &*argument.cast_mut_ptr::<Known>() };
    let concerns_us = relation == pg_sys::InvalidOid
        || known.leaves.try_borrow().map_or(true, |leaves| {
            leaves.as_ref().is_none_or(|leaves| {
                leaves.parent == relation || leaves.leaves.iter().any(|leaf| leaf.table == relation)
            })
        });
    if concerns_us {
        known.is_valid.set(false);
    }
}
