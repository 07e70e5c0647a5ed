//! Cancels, time-outs and the stack, for work that goes on for long without calling the server.

use pgrx::prelude::*;

unsafe extern "C-unwind" {
    /// Without the guard that pgrx puts around its binding: it compares addresses and raises nothing.
    safe fn stack_is_too_deep() -> bool;
}

/// Raises what the client or a time-out has asked for.
pub fn check() {
    pgrx::check_for_interrupts!();
}

/// Raises 54001 when the stack is nearly used up.
#[inline]
pub fn check_stack() {
    if stack_is_too_deep() {
        // SAFETY: raises, through the guard.
        unsafe { pg_sys::check_stack_depth() };
    }
}
