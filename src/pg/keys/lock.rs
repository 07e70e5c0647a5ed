//! The lock of a key: who looks a key up and changes its row does both under it.
//!
//! An advisory lock of a class that no SQL function can name, so that it never meets an application's own. It is given back before the call
//! ends; what was written stays marked by its transaction. So a transaction may claim any number of keys, and nobody waits longer than
//! another's look-up takes.

use pgrx::prelude::*;

/// Runs `work` under the lock of this number. An error inside ends the transaction or subtransaction, which gives the lock back.
pub fn locked<R>(number: &[u8; 10], work: impl FnOnce() -> R) -> R {
    let tag = tag(number);
    let mode = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: a well-formed tag.
    unsafe { pg_sys::LockAcquire(&tag, mode, false, false) };
    let result = work();
    // SAFETY: taken above.
    unsafe { pg_sys::LockRelease(&tag, mode, false) };
    result
}

fn tag(number: &[u8; 10]) -> pg_sys::LOCKTAG {
    let part = |at: usize| u32::from_be_bytes([number[at], number[at + 1], number[at + 2], number[at + 3]]);
    pg_sys::LOCKTAG {
        // SAFETY: reads a variable of the server's.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: part(0),
        locktag_field3: part(4),
        locktag_field4: u16::from_be_bytes([number[8], number[9]]),
        // pg_locks shows it as "userlock".
        locktag_type: pg_sys::LockTagType::LOCKTAG_USERLOCK as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}
