//! Hears of changes to some relations, for what is kept about them.

use std::cell::{Cell, RefCell};

use pgrx::prelude::*;

use super::cell::PerBackend;

static RELATIONS: PerBackend<RefCell<Vec<u32>>> = PerBackend::new(RefCell::new(Vec::new()));
static CHANGES: PerBackend<Cell<u64>> = PerBackend::new(Cell::new(1));
static REGISTERED: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));

/// Hears of these from now on.
pub fn on(relations: &[pg_sys::Oid]) {
    if !REGISTERED.replace(true) {
        // SAFETY: the callback is guarded and lives as long as the process.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::null()) };
    }
    let mut watched = RELATIONS.borrow_mut();
    for relation in relations {
        if !watched.contains(&relation.to_u32()) {
            watched.push(relation.to_u32());
            changed();
        }
    }
}

/// Grows with every change to a relation that is watched.
pub fn changes() -> u64 {
    CHANGES.get()
}

/// Anything may have changed: a part of the transaction was rolled back.
pub fn changed() {
    CHANGES.set(CHANGES.get() + 1);
}

/// # Safety
/// Called by the server; `relation` is 0 when anything may have changed. Must not raise.
#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    let concerns_us = relation == pg_sys::InvalidOid
        || RELATIONS.try_borrow().map_or(true, |watched| watched.contains(&relation.to_u32()));
    if concerns_us {
        changed();
    }
}
