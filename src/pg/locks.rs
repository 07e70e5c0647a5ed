//! Locks that maintenance takes: on relations without standing in a queue, and one that keeps two runs apart.
//!
//! The latter is of a type that the server keeps for such uses and that no SQL function reaches, in the lock table of relations: there a
//! lock of the session survives a COMMIT and is released by any error, so that nothing is left behind on a pooled connection.

use pgrx::prelude::*;

use super::lock_timeout;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Mode {
    /// SHARE UPDATE EXCLUSIVE: queries and writes go on.
    ShareUpdate = pg_sys::ShareUpdateExclusiveLock as i32,
    /// SHARE ROW EXCLUSIVE: queries go on.
    ShareRow = pg_sys::ShareRowExclusiveLock as i32,
    /// ACCESS EXCLUSIVE.
    Access = pg_sys::AccessExclusiveLock as i32,
}

/// Locks the relation until the transaction ends, if that needs no waiting.
pub fn try_relation(relation: pg_sys::Oid, mode: Mode) -> bool {
    // SAFETY: locks by oid; whether the relation still exists is looked up afterwards.
    unsafe { pg_sys::ConditionalLockRelationOid(relation, mode as i32) }
}

/// Locks the relation until the transaction ends, however long that takes.
pub fn relation(relation: pg_sys::Oid, mode: Mode) {
    // SAFETY: as above.
    unsafe { pg_sys::LockRelationOid(relation, mode as i32) }
}

/// Locks the relation as a statement that writes does, or one that reads, until the transaction ends.
pub fn relation_for_statement(relation: pg_sys::Oid, writes: bool) {
    let mode = if writes { pg_sys::RowExclusiveLock } else { pg_sys::AccessShareLock };
    // SAFETY: as above.
    unsafe { pg_sys::LockRelationOid(relation, mode as i32) }
}

/// Locks the relation as a statement that writes does, until the transaction ends, if that needs no waiting.
pub fn try_relation_for_statement(relation: pg_sys::Oid) -> bool {
    // SAFETY: as above.
    unsafe { pg_sys::ConditionalLockRelationOid(relation, pg_sys::RowExclusiveLock as i32) }
}

/// Locks the relation as a statement that reads does, until the transaction ends, if that needs no waiting.
pub fn try_relation_for_reading(relation: pg_sys::Oid) -> bool {
    // SAFETY: as above.
    unsafe { pg_sys::ConditionalLockRelationOid(relation, pg_sys::AccessShareLock as i32) }
}

/// Gives back what `relation_for_statement` or `try_relation_for_reading` has locked for reading.
pub fn let_go(relation: pg_sys::Oid) {
    // SAFETY: the transaction has the lock.
    unsafe { pg_sys::UnlockRelationOid(relation, pg_sys::AccessShareLock as i32) };
}

/// Locks the relation until the transaction ends; raises 55P03 when that takes longer.
pub fn wait_for_relation(relation: pg_sys::Oid, mode: Mode, milliseconds: i64) {
    lock_timeout::set(milliseconds);
    // SAFETY: as above.
    unsafe { pg_sys::LockRelationOid(relation, mode as i32) };
}

/// After so long a wait the server looks for a deadlock, and asks an autovacuum that stands in the way to end.
pub fn deadlock_milliseconds() -> i64 {
    // SAFETY: reads a variable of the server's.
    i64::from(unsafe { pg_sys::DeadlockTimeout })
}

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
    let hash =
        |text: &str| text.bytes().fold(0x811C_9DC5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let number = hash(name) ^ hash(owner).rotate_left(16);
    // SAFETY: the tag is complete. An interrupt raises.
    unsafe {
        pg_sys::LockAcquire(&tag(Of::RuleSet, pg_sys::Oid::from(number)), pg_sys::ExclusiveLock as i32, false, false)
    };
}

/// Whether the client's statement is over, and not only a transaction inside a procedure.
pub fn statement_is_over() -> bool {
    // SAFETY: reads a variable of the server's, which is set while a portal runs.
    unsafe { pg_sys::ActivePortal.is_null() }
}
