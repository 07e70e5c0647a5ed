//! A limit for a part of a statement. statement_timeout is set once, when the statement of the client begins, and says nothing about what a
//! function runs; this is a timer of the server's own that cancels what is running, as that does.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use pgrx::prelude::*;

// The server's timers; pgrx has no binding for them.
unsafe extern "C-unwind" {
    fn RegisterTimeout(id: i32, handler: unsafe extern "C-unwind" fn()) -> i32;
    fn enable_timeout_after(id: i32, milliseconds: i32);
    fn disable_timeout(id: i32, keep_indicator: bool);
}

/// `USER_TIMEOUT` in utils/timeout.h: "give me one of my own".
#[cfg(feature = "pg14")]
const USER_TIMEOUT: i32 = 10;
#[cfg(any(feature = "pg15", feature = "pg16"))]
const USER_TIMEOUT: i32 = 12;
#[cfg(any(feature = "pg17", feature = "pg18"))]
const USER_TIMEOUT: i32 = 13;

/// Written by a signal handler, hence atomic.
static FIRED: AtomicBool = AtomicBool::new(false);
static TIMER: AtomicI32 = AtomicI32::new(-1);

/// Stops the timer on every path.
struct Running(i32);

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: a timer that was registered; it may have fired or not. Fired too late to cancel anything, it must not cancel
        // what comes next.
        unsafe {
            disable_timeout(self.0, false);
            if was_reached() {
                (&raw mut pg_sys::QueryCancelPending).write_volatile(0);
            }
        }
    }
}

/// Runs `work`, and cancels it (57014) when it takes longer. Not to be nested.
pub fn within<R>(milliseconds: i32, work: impl FnOnce() -> R) -> R {
    // SAFETY: registered once in a process, since the server has few; the handler lives as long as the library.
    let timer = unsafe {
        if TIMER.load(Ordering::Relaxed) < 0 {
            let timer = pg_sys::ffi::pg_guard_ffi_boundary(|| RegisterTimeout(USER_TIMEOUT, fired));
            TIMER.store(timer, Ordering::Relaxed);
        }
        TIMER.load(Ordering::Relaxed)
    };
    FIRED.store(false, Ordering::Relaxed);
    // SAFETY: as above.
    unsafe { enable_timeout_after(timer, milliseconds) };
    let running = Running(timer);
    let result = work();
    drop(running);
    result
}

/// From now on no limit was reached.
pub fn reset() {
    FIRED.store(false, Ordering::Relaxed);
}

/// Whether the last limit was reached.
pub fn was_reached() -> bool {
    FIRED.load(Ordering::Relaxed)
}

/// # Safety
/// Called by the server's signal handler, so it only sets flags and the latch: what the server's own handlers do.
unsafe extern "C-unwind" fn fired() {
    FIRED.store(true, Ordering::Relaxed);
    // SAFETY: flags made for signal handlers; MyLatch is set as long as the process has one.
    unsafe {
        (&raw mut pg_sys::InterruptPending).write_volatile(1);
        (&raw mut pg_sys::QueryCancelPending).write_volatile(1);
        set_latch(pg_sys::MyLatch);
    }
}

unsafe extern "C-unwind" {
    /// Without the guard that pgrx puts around its binding, which a signal handler must not enter.
    #[link_name = "SetLatch"]
    fn set_latch(latch: *mut pg_sys::Latch);
}
