//! Locks on relations: as statements take them, and without standing in a queue, as maintenance asks for them.

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
