//! How the library came into this process.

use std::cell::Cell;

use pgrx::pg_sys;

use super::cell::PerBackend;

/// The SQL objects that this library belongs to.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Loaded {
    /// By `shared_preload_libraries`, into every process of the server.
    Shared,
    /// By `session_preload_libraries`, before the first statement of an ordinary session.
    Session,
    /// By the first call of one of its functions: what came before it was not seen.
    OnFirstUse,
}

static LOADED: PerBackend<Cell<Loaded>> = PerBackend::new(Cell::new(Loaded::OnFirstUse));

pub fn loaded() -> Loaded {
    LOADED.get()
}

pub fn preloaded() -> bool {
    loaded() != Loaded::OnFirstUse
}

/// Not in single-user mode, where a DBA repairs what nothing else can reach, nor while the postmaster loads.
pub fn under_postmaster() -> bool {
    // SAFETY: reads a variable of the server's.
    unsafe { pg_sys::IsUnderPostmaster }
}

/// Turns Rust backtraces off in this library, whatever RUST_BACKTRACE says: pgrx would put them, with the paths of the
/// machine that built it, into the DETAIL of errors that clients see.
pub fn silence_backtraces() {
    const VARIABLE: &str = "RUST_LIB_BACKTRACE";
    let former = std::env::var_os(VARIABLE);
    // SAFETY: a backend is one thread. The standard library reads the variable once, at the first capture, and remembers.
    unsafe {
        std::env::set_var(VARIABLE, "0");
        let _ = std::backtrace::Backtrace::capture();
        match former {
            Some(value) => std::env::set_var(VARIABLE, value),
            None => std::env::remove_var(VARIABLE),
        }
    }
}

/// Notes how the library is being loaded; from `_PG_init` only.
pub fn note() {
    // SAFETY: reads plain variables of the server. A session preload comes before the session has any statement text.
    let loaded = unsafe {
        if pg_sys::process_shared_preload_libraries_in_progress {
            Loaded::Shared
        } else if pg_sys::debug_query_string.is_null() {
            Loaded::Session
        } else {
            Loaded::OnFirstUse
        }
    };
    LOADED.set(loaded);
}
