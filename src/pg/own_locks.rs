//! Locks of the extension's own, on things that are no relations: each keeps two sessions from doing the same thing at once.
//!
//! They are of a type that the server keeps for such uses and that no SQL function reaches, in the lock table of relations: there a
//! lock of the session survives a COMMIT and is released by any error, so that nothing is left behind on a pooled connection.

use pgrx::prelude::*;

use crate::fnv;

/// What a lock of ours is about.
#[derive(Clone, Copy)]
enum Of {
    /// A run of maintain() in this database.
    Run = 1,
    /// Making a table's partitions at once, because somebody waits for them.
    Partitions = 2,
    /// Draining the queue of an inventory.
    Drain = 3,
    /// Writing a version of a rule set.
    RuleSet = 4,
}

fn tag(of: Of, relation: pg_sys::Oid) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        // SAFETY: reads a variable of the server's.
        locktag_field1: unsafe { pg_sys::MyDatabaseId.to_u32() },
        locktag_field2: relation.to_u32(),
        locktag_field3: of as u32,
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_USERLOCK as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    }
}

/// Begins a run, unless another session has one: for the session, until `end_run` or an error.
pub fn try_run() -> bool {
    let tag = tag(Of::Run, pg_sys::InvalidOid);
    // SAFETY: the tag is complete; waiting is not asked for.
    let taken = unsafe { pg_sys::LockAcquire(&tag, pg_sys::ExclusiveLock as i32, true, true) };
    taken != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// Called once for each `try_run` that began one, unless an error has ended it.
pub fn end_run() {
    let tag = tag(Of::Run, pg_sys::InvalidOid);
    // SAFETY: the session has the lock.
    unsafe { pg_sys::LockRelease(&tag, pg_sys::ExclusiveLock as i32, true) };
}

/// Waits until nobody else makes the table's partitions; until the transaction ends, or `end_making`.
pub fn begin_making(relation: pg_sys::Oid) {
    // SAFETY: the tag is complete. An interrupt raises.
    unsafe { pg_sys::LockAcquire(&tag(Of::Partitions, relation), pg_sys::ExclusiveLock as i32, false, false) };
}

pub fn end_making(relation: pg_sys::Oid) {
    // SAFETY: the transaction has the lock.
    unsafe { pg_sys::LockRelease(&tag(Of::Partitions, relation), pg_sys::ExclusiveLock as i32, false) };
}

/// Waits until nobody else drains the inventory's queue; until the transaction ends.
pub fn begin_draining(relation: pg_sys::Oid) {
    // SAFETY: the tag is complete. An interrupt raises.
    unsafe { pg_sys::LockAcquire(&tag(Of::Drain, relation), pg_sys::ExclusiveLock as i32, false, false) };
}

/// Begins to drain the inventory's queue, unless another session is about it; until the transaction ends.
pub fn try_draining(relation: pg_sys::Oid) -> bool {
    // SAFETY: the tag is complete; waiting is not asked for.
    let taken = unsafe { pg_sys::LockAcquire(&tag(Of::Drain, relation), pg_sys::ExclusiveLock as i32, false, true) };
    taken != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// Waits until nobody else puts or activates a rule set of that owner and name; until the transaction ends. Two names may share a lock, and wait for each other.
pub fn rule_set(owner: &str, name: &str) {
    let number = fnv::hash(name) ^ fnv::hash(owner).rotate_left(16);
    // SAFETY: the tag is complete. An interrupt raises.
    unsafe {
        pg_sys::LockAcquire(&tag(Of::RuleSet, pg_sys::Oid::from(number)), pg_sys::ExclusiveLock as i32, false, false)
    };
}
