//! The settings of idempotency: how long a key counts, how long it is kept, how large an answer may be.

use std::cell::Cell;
use std::ffi::c_void;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::prelude::*;

use super::super::cell::PerBackend;
use super::refuse;

const HOUR: i32 = 60 * 60;
/// Ten years.
const LONGEST: i32 = 10 * 365 * 24 * HOUR;

static WINDOW: GucSetting<i32> = GucSetting::<i32>::new(24 * HOUR);
static RETENTION: GucSetting<i32> = GucSetting::<i32>::new(48 * HOUR);
static RESPONSE_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(1024);

/// `bulkhead.idempotency_window`, in microseconds.
pub fn idempotency_window() -> i64 {
    i64::from(WINDOW.get()) * 1_000_000
}

/// `bulkhead.idempotency_retention`, in microseconds. May be less than the window, see `fits`.
pub fn idempotency_retention() -> i64 {
    i64::from(RETENTION.get()) * 1_000_000
}

/// `bulkhead.idempotency_response_limit`, in bytes.
pub fn idempotency_response_limit() -> usize {
    RESPONSE_LIMIT.get() as usize * 1024
}

/// Once, from `define`.
pub fn define() {
    // SAFETY: the hooks are guarded, keep to the server's protocol, and live as long as the process.
    unsafe {
        GucRegistry::define_int_guc_with_hooks(
            c"bulkhead.idempotency_window",
            c"How long an idempotency key counts from its claim.",
            c"The same key within this time is the same request. The same for all sessions, or a key may run twice.",
            &WINDOW,
            1,
            LONGEST,
            GucContext::Suset,
            GucFlags::UNIT_S,
            Some(check_window),
            None,
            None,
        );
        GucRegistry::define_int_guc_with_hooks(
            c"bulkhead.idempotency_retention",
            c"How long idempotency keys are kept before their partition is dropped.",
            c"Never less than bulkhead.idempotency_window.",
            &RETENTION,
            1,
            LONGEST,
            GucContext::Suset,
            GucFlags::UNIT_S,
            Some(check_retention),
            None,
            None,
        );
    }
    GucRegistry::define_int_guc(
        c"bulkhead.idempotency_response_limit",
        c"The largest answer that idempotency_complete() stores.",
        c"A larger one is refused with SQLSTATE 54000.",
        &RESPONSE_LIMIT,
        1,
        i32::MAX / 1024,
        GucContext::Suset,
        GucFlags::UNIT_KB,
    );
    DEFINED.set(true);
}

/// False while a library that is loaded late takes over what was set before it.
static DEFINED: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));

/// # Safety
/// Called by the server with a valid pointer.
#[pg_guard]
unsafe extern "C-unwind" fn check_window(
    newval: *mut i32,
    _extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the caller's promise.
    fits(unsafe { *newval }, RETENTION.get(), source)
}

/// # Safety
/// As above.
#[pg_guard]
unsafe extern "C-unwind" fn check_retention(
    newval: *mut i32,
    _extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the caller's promise.
    fits(WINDOW.get(), unsafe { *newval }, source)
}

/// Who sets one of them, or writes it into the configuration, hears that it does not fit the other. What comes from defaults, files, a database, a
/// role, a client's options or the leader of a parallel query comes one by one, in any order: then the longer of the two counts as the retention.
fn fits(window: i32, retention: i32, source: pg_sys::GucSource::Type) -> bool {
    use pg_sys::GucSource::{PGC_S_FILE, PGC_S_SESSION};
    // SAFETY: reads variables of the server's.
    let (in_transaction, in_worker) = unsafe { (pg_sys::IsTransactionState(), pg_sys::ParallelWorkerNumber >= 0) };
    let asked = matches!(source, PGC_S_FILE | PGC_S_SESSION) && in_transaction && !in_worker && DEFINED.get();
    if window <= retention || !asked {
        return true;
    }
    refuse(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        "bulkhead.idempotency_retention must not be shorter than bulkhead.idempotency_window",
        Some("A key would be dropped while it still counts, and its request could run twice."),
        "Set the retention first, then the window.",
    )
}
