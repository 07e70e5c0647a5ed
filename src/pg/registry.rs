//! Which relations are protected, as the hooks see it: a sorted list in this backend's memory.
//!
//! Read from `bulkhead.protection` and pg_inherits without SPI, the first time it is needed and again after an
//! invalidation message says that the table, or a relation in the list, has changed. protect() locks a relation
//! exclusively and sends the message at its commit, so a statement that holds its lock sees the list that its plan
//! was made for. Inert (empty) where the extension is not installed.

use std::cell::{Cell, RefCell};

use pgrx::prelude::*;

use super::cell::{PerBackend, hot};
use super::scan::{self, Protection};
use crate::rls::key::Key;
use crate::seal::housekeeping;

/// What the hooks know of a relation.
#[derive(Clone, Copy)]
pub struct Entry {
    pub relation: pg_sys::Oid,
    pub border: Border,
    /// The tenant column's number in this relation; 0 when there is none.
    pub column: i16,
    /// It has a row of its own, and is not only below one that has.
    pub own: bool,
    /// A table of the extension's own, sealed by the tenant column that it was made with.
    pub ours: bool,
}

#[derive(Clone, Copy)]
pub enum Border {
    /// A tenant column of this type.
    Column(Key),
    /// No tenant column: all tenants read the table.
    Shared,
    /// Not protected, but its statements without a tenant are counted.
    Observed(Key),
    /// Not protected itself, but a relation below it is.
    Exposing,
    /// The tenant column is gone, so nobody's rows can be told apart.
    Lost,
}

struct Registry {
    valid: Cell<bool>,
    /// The table the list was read from; 0 where the extension is not installed.
    table: Cell<u32>,
    entries: RefCell<Vec<Entry>>,
    /// The accessors' oids, in the order of `Key`.
    accessors: Cell<[u32; 3]>,
    /// The list was read in this transaction, and may show what a rollback undoes.
    provisional: Cell<bool>,
    /// The SQL objects are of another version than the library.
    other_version: Cell<bool>,
}

hot! {
    static REGISTRY: PerBackend<Registry> = PerBackend::new(Registry {
        valid: Cell::new(false),
        table: Cell::new(0),
        entries: RefCell::new(Vec::new()),
        accessors: Cell::new([0; 3]),
        provisional: Cell::new(false),
        other_version: Cell::new(false),
    });
}

/// Registers for invalidation messages; once, from `_PG_init`.
pub fn register() {
    // SAFETY: the callbacks are guarded and live as long as the process.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::null());
        // A new schema may be the one that CREATE EXTENSION makes.
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::NAMESPACEOID as i32,
            Some(schema_changed),
            pg_sys::Datum::null(),
        );
    }
}

/// The extension is not installed in this database: where it is, its own tables are in the list, whatever else is protected.
pub fn is_not_installed() -> bool {
    refresh();
    REGISTRY.entries.borrow().is_empty()
}

/// No table of a user's is registered.
pub fn has_only_ours() -> bool {
    refresh();
    REGISTRY.entries.borrow().iter().all(|entry| entry.ours)
}

pub fn find(relation: pg_sys::Oid) -> Option<Entry> {
    if housekeeping::archives(relation) {
        return None;
    }
    refresh();
    let entries = REGISTRY.entries.borrow();
    entries.binary_search_by_key(&relation.to_u32(), |entry| entry.relation.to_u32()).ok().map(|at| entries[at])
}

/// The list as it stands, where it is known to be right; else None. Calls nothing of the server's.
#[inline(always)]
pub fn peek<R>(ask: impl FnOnce(Peek<'_>) -> R) -> Option<R> {
    if !REGISTRY.valid.get() {
        return None;
    }
    REGISTRY.entries.try_borrow().ok().map(|entries| ask(Peek(&entries)))
}

#[derive(Clone, Copy)]
pub struct Peek<'a>(&'a [Entry]);

impl Peek<'_> {
    #[inline(always)]
    pub fn border(self, relation: pg_sys::Oid) -> Option<Border> {
        let found = self.0.binary_search_by_key(&relation.to_u32(), |entry| entry.relation.to_u32());
        found.ok().map(|at| self.0[at].border)
    }

    /// Nothing that has to do with how the relation is planned.
    #[inline(always)]
    pub fn is_free(self, relation: pg_sys::Oid) -> bool {
        matches!(self.border(relation), None | Some(Border::Observed(_)))
    }
}

/// The SQL objects are those that this library was made for, or there are none. An answer of this kind is right; the other may be old.
#[inline]
pub fn is_of_this_version() -> bool {
    refresh();
    !REGISTRY.other_version.get()
}

/// What is known is old; it is read again when it is needed.
pub fn forget() {
    REGISTRY.valid.set(false);
}

/// The function that a tenant column of this type is compared with.
pub fn accessor(key: Key) -> pg_sys::Oid {
    pg_sys::Oid::from(REGISTRY.accessors.get()[key as usize])
}

/// Holds tenants' rows.
pub fn is_protected(relation: pg_sys::Oid) -> bool {
    find(relation).is_some_and(|entry| matches!(entry.border, Border::Column(_) | Border::Lost))
}

/// Relations below a registered one that have no row of their own: the event trigger has not seen them yet.
pub fn strays() -> Vec<pg_sys::Oid> {
    refresh();
    let entries = REGISTRY.entries.borrow();
    let stray =
        |entry: &&Entry| !entry.own && matches!(entry.border, Border::Column(_) | Border::Shared | Border::Lost);
    entries.iter().filter(stray).map(|entry| entry.relation).collect()
}

/// Tells every backend, this one included, that the list has changed: at commit, and here at the next command.
pub fn announce_change() {
    refresh();
    let table = REGISTRY.table.get();
    if table != 0 {
        // SAFETY: queues an invalidation message for an existing relation; bulkhead.observation is announced under the same name.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(pg_sys::Oid::from(table)) };
    }
    REGISTRY.valid.set(false);
}

/// The transaction, or a part of it, was rolled back.
pub fn rolled_back() {
    if REGISTRY.provisional.get() {
        REGISTRY.valid.set(false);
    }
}

/// The transaction is over; what was read in it is what there is.
#[inline(always)]
pub fn transaction_ended() {
    REGISTRY.provisional.set(false);
}

/// Tells every backend that the registered inventories have changed.
pub fn announce_inventory() {
    let table = scan::table(c"inventory");
    if table != pg_sys::InvalidOid {
        // SAFETY: queues an invalidation message for an existing relation.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(table) };
    }
}

#[inline]
fn refresh() {
    if !REGISTRY.valid.get() {
        read();
    }
}

#[cold]
fn read() {
    // Reading takes a lock, which may bring in the very message that makes the list old again; a further round then reads
    // what is newer. A server that discards its caches all the time (a debugging aid) would never end that, hence the
    // bound. A failed look-up raises: the statement is refused.
    for _ in 0..8 {
        if REGISTRY.valid.get() {
            return;
        }
        REGISTRY.valid.set(true);
        REGISTRY.provisional.set(true);
        let read = std::panic::catch_unwind(scan::read_protection);
        match read {
            Ok(Protection { table, accessors, mut entries, other_version }) => {
                // A child may be listed twice, by its own row and through its parent: a border counts before none.
                // A parent is exposing only when it has no border of its own.
                let rank = |entry: &Entry| match entry.border {
                    Border::Column(_) | Border::Lost => 0,
                    Border::Shared => 1,
                    Border::Observed(_) => 2,
                    Border::Exposing => 3,
                };
                entries.sort_by_key(|entry| (entry.relation.to_u32(), rank(entry), !entry.own));
                entries.dedup_by(|later, kept| {
                    let same = later.relation == kept.relation;
                    kept.own |= same && later.own;
                    same
                });
                REGISTRY.other_version.set(other_version);
                REGISTRY.table.set(table.to_u32());
                REGISTRY.accessors.set(accessors.map(pg_sys::Oid::to_u32));
                REGISTRY.entries.replace(entries);
            }
            Err(error) => {
                REGISTRY.valid.set(false);
                std::panic::resume_unwind(error);
            }
        }
    }
}

/// # Safety
/// Called by the server; `relation` is 0 when anything may have changed. Must not raise.
#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    let table = REGISTRY.table.get();
    let concerns_us = relation == pg_sys::InvalidOid
        || table == 0
        || relation.to_u32() == table
        || REGISTRY.entries.try_borrow().map_or(true, |entries| {
            entries.binary_search_by_key(&relation.to_u32(), |entry| entry.relation.to_u32()).is_ok()
        });
    if concerns_us {
        REGISTRY.valid.set(false);
    }
}

/// # Safety
/// Called by the server. Must not raise.
#[pg_guard]
unsafe extern "C-unwind" fn schema_changed(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    REGISTRY.valid.set(false);
}
