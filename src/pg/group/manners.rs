//! How a session that waits with many others is scheduled: as SCHED_BATCH, see sched(7).
//!
//! When many sessions are woken together, the kernel lets one after the other push aside whoever runs: first the worker that is waking them, then each other, and clients on the same machine. The worker
//! comes late to its next batch, and each switch costs the caches. A process of that policy runs in its turn, and with the same share of the processor. It is the policy of the session until it ends a transaction in which it
//! asked for nothing; as it is woken by its next request, too.

use std::cell::Cell;
use std::ffi::{c_int, c_void};

use pgrx::prelude::*;

use super::super::cell::PerBackend;

static IS_REGISTERED: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));
static IS_BATCH: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));
/// In this transaction.
static HAS_ASKED: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));

/// Pushes nobody aside from now on. A policy that somebody else has given to this process stays.
pub fn wait_in_turn() {
    if !IS_REGISTERED.replace(true) {
        // SAFETY: the callback lives as long as the process.
        unsafe { pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut()) };
    }
    HAS_ASKED.set(true);
    // SAFETY: asks for the policy of this process.
    if !IS_BATCH.get() && unsafe { libc::sched_getscheduler(0) } == libc::SCHED_OTHER {
        IS_BATCH.set(set_policy(libc::SCHED_BATCH));
    }
}

/// Whether it was allowed. It matters to nothing but speed.
fn set_policy(policy: c_int) -> bool {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameters are valid for the call; this process alone is concerned, and both policies are open to everybody.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
}

/// # Safety
/// Called by the server. Raises nothing.
unsafe extern "C-unwind" fn at_end(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    if [XACT_EVENT_COMMIT, XACT_EVENT_ABORT, XACT_EVENT_PREPARE].contains(&event)
        && !HAS_ASKED.replace(false)
        && IS_BATCH.replace(false)
    {
        set_policy(libc::SCHED_OTHER);
    }
}
