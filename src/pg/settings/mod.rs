//! The extension's settings (GUCs): definition, check and assign hooks.
//!
//! A check hook may refuse, by the fields that the server reads after it returns false; an assign hook must never fail.
//! What the check hook parsed reaches the assign hook in `extra`, which the server stacks with the value: a
//! rollback to a savepoint assigns the earlier parse again, without another check.

mod context;
pub mod health;
mod idempotency;
mod inventory;
mod scoring;
mod seal;
mod tokens;

use std::ffi::{CStr, CString, c_char, c_void};

use pgrx::prelude::*;

use crate::context::state;
pub use context::{ContextMode, MissingContext, context_mode, missing_context};
pub use idempotency::{idempotency_response_limit, idempotency_retention, idempotency_window};
pub use inventory::{decrement_slots, drain_databases, drains_everywhere, order_retention};
pub use scoring::{score_budget_bytes, score_budget_ops};
pub use seal::{bypass, seal};
pub use tokens::token_requirements;

/// The search_path of what must not meet users' objects. pg_temp comes last, or it would be searched first.
pub const PINNED_PATH: &str = "pg_catalog, pg_temp";

/// SET LOCAL by the current role; raises what the setting's check raises.
pub fn set_local(name: &CStr, value: &str) {
    let value = CString::new(value.replace('\0', "")).unwrap_or_default();
    // SAFETY: reads the current role's attribute.
    let context =
        if unsafe { pg_sys::superuser() } { pg_sys::GucContext::PGC_SUSET } else { pg_sys::GucContext::PGC_USERSET };
    set(name, &value, context, pg_sys::GucAction::GUC_ACTION_LOCAL);
}

fn set(name: &CStr, value: &CStr, context: pg_sys::GucContext::Type, action: pg_sys::GucAction::Type) {
    // SAFETY: both strings outlive the call, which copies them.
    unsafe {
        let source = pg_sys::GucSource::PGC_S_SESSION;
        pg_sys::set_config_option(name.as_ptr(), value.as_ptr(), context, source, action, true, 0, false);
    }
}

/// Puts the settings back on every path.
struct Nest(i32);

impl Drop for Nest {
    fn drop(&mut self) {
        // An error has ended the (sub)transaction, or is about to, and that puts them back.
        if !std::thread::panicking() {
            // SAFETY: the level that was opened last.
            unsafe { pg_sys::AtEOXact_GUC(false, self.0) };
        }
    }
}

/// Runs `work`, and puts back whatever settings it changes: also with SET, which outlives a function's SET clause, and with SET LOCAL, which
/// outlives the function.
pub fn kept<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: opens a level, which `Nest` closes.
    let nest = Nest(unsafe { pg_sys::NewGUCNestLevel() });
    let result = work();
    drop(nest);
    result
}

/// Sets a setting, whoever may, until the end of the innermost `kept`. Raises what the setting's check raises.
pub fn set_for_a_while(name: &CStr, value: &[u8]) {
    let value: Vec<u8> = value.iter().copied().filter(|byte| *byte != 0).collect();
    let value = CString::new(value).unwrap_or_default();
    set(name, &value, pg_sys::GucContext::PGC_SUSET, pg_sys::GucAction::GUC_ACTION_SAVE);
}

/// Pins the search_path until the end of the innermost `kept`.
pub fn pin_search_path() {
    set_for_a_while(c"search_path", PINNED_PATH.as_bytes());
}

/// Runs `work` as a function with a SET clause: times are printed and read in UTC and ISO, and names are those of pg_catalog. A limit of
/// waiting ends with it.
pub fn in_utc<R>(work: impl FnOnce() -> R) -> R {
    kept(|| in_utc_until_then(work))
}

fn in_utc_until_then<R>(work: impl FnOnce() -> R) -> R {
    pin_search_path();
    for (name, value) in [(c"TimeZone", c"UTC"), (c"DateStyle", c"ISO, YMD")] {
        set(name, value, pg_sys::GucContext::PGC_USERSET, pg_sys::GucAction::GUC_ACTION_SAVE);
    }
    work()
}

/// Defines every setting; once, from `_PG_init`.
pub fn define() {
    state::begin_loading();
    // The tenant and the bypass come last: the check of a value that was set before the library was loaded consults the others.
    context::define_modes();
    // SAFETY: once, from `_PG_init`, and before the tenant.
    unsafe { tokens::define() };
    health::define();
    idempotency::define();
    inventory::define();
    scoring::define();
    context::define();
    seal::define();
    // SAFETY: a constant string; the transaction's state is read.
    unsafe {
        // A misspelt bulkhead.… must not become a silent placeholder.
        #[cfg(feature = "pg14")]
        pg_sys::EmitWarningsOnPlaceholders(c"bulkhead".as_ptr());
        #[cfg(not(feature = "pg14"))]
        pg_sys::MarkGUCPrefixReserved(c"bulkhead".as_ptr());
        state::end_loading(pg_sys::IsTransactionState());
    }
}

/// Leaves an error for the server to raise when the check hook has returned false.
fn refuse(code: PgSqlErrorCode, message: &str, detail: Option<&str>, hint: &str) -> bool {
    // SAFETY: the server resets these three before each check and reads them right after; they must be palloc'd in
    // a context that lives until then.
    unsafe {
        pg_sys::GUC_check_errcode(code as i32);
        pg_sys::GUC_check_errmsg_string = server_string(message);
        pg_sys::GUC_check_errdetail_string = detail.map_or(std::ptr::null_mut(), |text| server_string(text));
        pg_sys::GUC_check_errhint_string = server_string(hint);
    }
    false
}

/// # Safety
/// The result lives in ErrorContext, until the server has reported the error.
unsafe fn server_string(text: &str) -> *mut c_char {
    // SAFETY: the allocation is as long as what is copied, and palloc never returns NULL.
    unsafe {
        let copy = pg_sys::MemoryContextAllocZero(pg_sys::ErrorContext, text.len() + 1).cast::<c_char>();
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), copy, text.len());
        copy
    }
}

/// # Safety
/// What the server frees with its own `guc_free` (16+) or `free` (14, 15) must come from its counterpart.
unsafe fn guc_allocate(size: usize) -> *mut c_void {
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    {
        unsafe extern "C" {
            fn malloc(size: usize) -> *mut c_void;
        }
        // SAFETY: libc's allocator, which `free` in the server belongs to.
        unsafe { malloc(size) }
    }
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    {
        // SAFETY: the server's allocator for settings; LOG makes it return NULL instead of raising.
        unsafe { pg_sys::guc_malloc(pg_sys::LOG as i32, size) }
    }
}
