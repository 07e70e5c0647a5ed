//! Hears of changes to some relations, and to the names of schemas, for what is kept about them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use pgrx::prelude::*;

use super::cell::PerBackend;

static RELATIONS: PerBackend<RefCell<BTreeSet<u32>>> = PerBackend::new(RefCell::new(BTreeSet::new()));
static CHANGES: PerBackend<Cell<u64>> = PerBackend::new(Cell::new(1));
static REGISTERED: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));

/// Hears of these from now on: before anything is kept about them.
pub fn on(relations: &[pg_sys::Oid]) {
    if !REGISTERED.replace(true) {
        // SAFETY: the callbacks are guarded and live as long as the process.
        unsafe {
            pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::null());
            // Of a schema's new name no relation in it tells.
            let schemas = pg_sys::SysCacheIdentifier::NAMESPACEOID as i32;
            pg_sys::CacheRegisterSyscacheCallback(schemas, Some(schema_changed), pg_sys::Datum::null());
        }
    }
    RELATIONS.borrow_mut().extend(relations.iter().map(|relation| relation.to_u32()));
}

/// Whether changes of the relation are heard of.
pub fn is_on(relation: pg_sys::Oid) -> bool {
    RELATIONS.borrow().contains(&relation.to_u32())
}

/// Nothing is kept about this one. Only for who has put it on.
pub fn off(relation: pg_sys::Oid) {
    RELATIONS.borrow_mut().remove(&relation.to_u32());
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

/// # Safety
/// Called by the server. Must not raise.
#[pg_guard]
unsafe extern "C-unwind" fn schema_changed(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    changed();
}
