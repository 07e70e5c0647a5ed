//! Which locks this transaction holds, and which of them others wait for.
//!
//! Read where the server keeps them for this process: weak locks in its fast-path array, the others in its lists in the lock table. The view pg_locks would read every process's.

use pgrx::prelude::*;

/// A user's table on which this transaction holds a lock stronger than ACCESS SHARE.
pub fn locked_table() -> Option<pg_sys::Oid> {
    let is_users = |relation: &u32| {
        // SAFETY: look-ups in the system caches. The extension's own tables are no user's.
        *relation >= pg_sys::FirstNormalObjectId
            && unsafe {
                pg_sys::get_rel_namespace((*relation).into()) != pg_sys::get_namespace_oid(c"bulkhead".as_ptr(), true)
            }
    };
    strongly_locked().into_iter().find(is_users).map(Into::into)
}

/// A lock that this transaction holds and for which another process waits: the table's, or None for an advisory lock. Of a table it holds no more than ACCESS SHARE.
pub fn wanted_of_mine() -> Option<Option<pg_sys::Oid>> {
    const ACCESS_EXCLUSIVE: i32 = 1 << pg_sys::AccessExclusiveLock;
    let mut found = None;
    each_held(
        |_, _| {},
        |tag, _, waited_for| {
            let is_of = |locktag: pg_sys::LockTagType::Type| tag.locktag_type == locktag as u8;
            if is_of(pg_sys::LockTagType::LOCKTAG_RELATION) && waited_for & ACCESS_EXCLUSIVE != 0 {
                found = Some(Some(tag.locktag_field2.into()));
            } else if is_of(pg_sys::LockTagType::LOCKTAG_ADVISORY) && waited_for != 0 {
                found = Some(None);
            }
        },
    );
    found
}

/// Relations of this database that this process has locked with more than ACCESS SHARE.
fn strongly_locked() -> Vec<u32> {
    const ACCESS_SHARE: i32 = 1 << pg_sys::AccessShareLock;
    let found = std::cell::RefCell::new(Vec::new());
    each_held(
        |relation, modes| {
            // Bit 0 stands for ACCESS SHARE there.
            if modes & !1 != 0 {
                found.borrow_mut().push(relation);
            }
        },
        |tag, held, _| {
            // SAFETY: reads a variable of the server's.
            let here = unsafe { pg_sys::MyDatabaseId }.to_u32();
            if tag.locktag_type == pg_sys::LockTagType::LOCKTAG_RELATION as u8
                && tag.locktag_field1 == here
                && held & !ACCESS_SHARE != 0
            {
                found.borrow_mut().push(tag.locktag_field2);
            }
        },
    );
    found.into_inner()
}

/// Calls `weak` with each relation of this process's fast-path array and three bits for its modes, and `other` with each lock in its lists, the modes that it holds of it, and those that
/// others wait for. Neither may raise.
fn each_held(weak: impl FnMut(u32, u64), mut other: impl FnMut(&pg_sys::LOCKTAG, i32, i32)) {
    // SAFETY: this process's own entry in shared memory. Under its lock no other process moves a weak lock of this one's to the lists, and nobody else changes the lists while this
    // process waits for nothing. A lock that is held stays where it is; who waits for it is read as it is at the moment.
    unsafe {
        let process = pg_sys::MyProc;
        let guard = &raw mut (*process).fpInfoLock;
        pg_sys::LWLockAcquire(guard, pg_sys::LWLockMode::LW_SHARED);
        each_weak(process, weak);
        let lists = &raw mut (*process).myProcLocks;
        for list in 0..(*lists).len() {
            let head = (&raw mut (*lists)[list]).cast::<Link>();
            let mut link = (*head).next;
            // A list that was never used is empty, and its head may be zero.
            while !link.is_null() && link != head {
                let lock = &*link.byte_sub(std::mem::offset_of!(pg_sys::PROCLOCK, procLink)).cast::<pg_sys::PROCLOCK>();
                let shared = lock.tag.myLock;
                let waited_for = (&raw const (*shared).waitMask).read_volatile();
                other(&(*shared).tag, lock.holdMask, waited_for);
                link = (*link).next;
            }
        }
        pg_sys::LWLockRelease(guard);
    }
}

/// How the server links its lists, whatever it calls them: the one before, the one after.
#[repr(C)]
struct Link {
    previous: *mut Link,
    next: *mut Link,
}

/// Calls `each` with the relations of the fast-path array, and three bits for the modes of each.
///
/// # Safety
/// `process` is this process's entry, and its lock is held.
unsafe fn each_weak(process: *mut pg_sys::PGPROC, mut each: impl FnMut(u32, u64)) {
    const BITS: u64 = 7;
    // SAFETY: the caller's promise. Before 18 there is one group of sixteen; since then as many as a variable of the server's says, each with a word of bits.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        for at in 0..16 {
            let modes = (*process).fpLockBits >> (3 * at) & BITS;
            if modes != 0 {
                each((*process).fpRelId[at].to_u32(), modes);
            }
        }
        #[cfg(feature = "pg18")]
        for at in 0..16 * pg_sys::FastPathLockGroupsPerBackend as usize {
            let modes = *(*process).fpLockBits.add(at / 16) >> (3 * (at % 16)) & BITS;
            if modes != 0 {
                each((*(*process).fpRelId.add(at)).to_u32(), modes);
            }
        }
    }
}
