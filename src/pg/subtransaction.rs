//! Subtransactions whose failure is a value: those that leave nothing behind, for trying things out, and those whose work stays.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;

use pgrx::PgTryBuilder;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::prelude::*;

use super::cell::PerBackend;
use crate::error::Result;

/// The server's function that ends a statement because somebody asked for it.
const INTERRUPTED: &str = "ProcessInterrupts";

/// PL/pgSQL's function that raises what a RAISE says.
const RAISES: &str = "exec_stmt_raise";

/// Why a piece of work was rolled back.
pub struct Failure {
    /// XX000 for a code that is none of the server's own; `sqlstate` has it as it was raised.
    pub code: PgSqlErrorCode,
    packed: i32,
    pub message: String,
    pub detail: Option<String>,
    /// A RAISE of PL/pgSQL raised it, whatever its code.
    pub is_raise: bool,
}

impl Failure {
    /// The five letters of the error's code, as it was raised.
    pub fn sqlstate(&self) -> String {
        (0..5).map(|at| char::from(((self.packed >> (6 * at)) & 0x3f) as u8 + b'0')).collect()
    }

    /// An error that says something about the row that was to be written, and not about the server, the rights or the moment: of the data, of a
    /// constraint, or raised by a trigger, with whatever code it chose.
    pub fn is_of_the_row(&self) -> bool {
        let code = self.sqlstate();
        matches!(&code[..2], "21" | "22" | "23" | "27" | "44" | "P0")
            || code == "28000"
            || self.is_raise && !self.is_transient()
    }

    /// To be raised after all.
    pub fn raised(self) -> ErrorReport {
        let report = ErrorReport::new(self.code, self.message, "bulkhead");
        match self.detail {
            Some(detail) => report.set_detail(detail),
            None => report,
        }
    }

    /// The same may succeed when it is tried again.
    pub fn is_transient(&self) -> bool {
        matches!(self.sqlstate().as_str(), "40001" | "40P01" | "55P03")
    }
}

/// The code of the error that the server raised last inside a subtransaction of ours: pgrx knows the server's own codes only.
static RAISED: PerBackend<Cell<i32>> = PerBackend::new(Cell::new(0));

/// # Safety
/// Called by the server while it raises an error or a notice, inside which it may be asked for the code.
unsafe extern "C-unwind" fn note_code(_: *mut std::ffi::c_void) {
    // SAFETY: the caller's promise.
    RAISED.set(unsafe { pg_sys::geterrcode() });
}

/// Runs `work` in a subtransaction and rolls that back whatever came of it; role, settings, locks and memory are as before. An
/// error inside is an answer and not raised; only the cancelling of the whole statement is, where `ours` does not claim it.
pub fn rolled_back<R>(ours: impl Fn() -> bool, work: impl FnOnce() -> Result<R>) -> std::result::Result<R, Failure> {
    run(ours, work, false)
}

/// The same, but what succeeded stays.
pub fn kept<R>(ours: impl Fn() -> bool, work: impl FnOnce() -> Result<R>) -> std::result::Result<R, Failure> {
    run(ours, work, true)
}

fn run<R>(ours: impl Fn() -> bool, work: impl FnOnce() -> Result<R>, keep: bool) -> std::result::Result<R, Failure> {
    // SAFETY: the memory context and the resource owner are put back as PL/pgSQL does around its exception blocks; the
    // name may be NULL.
    let (memory, owner) = unsafe {
        let former = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(former.0);
        former
    };
    // What it stands on is put back on every way out of the work: by the guard that caught the error, or below.
    let mut entry = pg_sys::ErrorContextCallback {
        // SAFETY: reads a variable of the server's.
        previous: unsafe { pg_sys::error_context_stack },
        callback: Some(note_code),
        arg: std::ptr::null_mut(),
    };
    RAISED.set(0);
    // SAFETY: the entry outlives the work, and is taken off after it.
    unsafe { pg_sys::error_context_stack = &mut entry };
    let ended: std::result::Result<R, CaughtError> = PgTryBuilder::new(AssertUnwindSafe(|| match work() {
        Ok(result) => Ok(result),
        Err(report) => {
            // Raised, so that it is caught in the same form as the server's own.
            report.report(PgLogLevel::ERROR);
            unreachable!("an error was reported and did not end the work")
        }
    }))
    .catch_others(Err)
    .execute();
    // Rolling back may raise notices.
    let raised = RAISED.get();
    // SAFETY: the subtransaction begun above is the innermost one: what `work` began inside it has ended with it.
    unsafe {
        pg_sys::error_context_stack = entry.previous;
        if keep && ended.is_ok() {
            pg_sys::ReleaseCurrentSubTransaction();
        } else {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        pg_sys::MemoryContextSwitchTo(memory);
        pg_sys::CurrentResourceOwner = owner;
    }
    ended.map_err(|caught| {
        let (CaughtError::PostgresError(report)
        | CaughtError::ErrorReport(report)
        | CaughtError::RustPanic { ereport: report, .. }) = &caught;
        let code = report.sql_error_code();
        // An error of Rust's own passes no callback, nor does one that is raised again.
        let is_its = matches!(caught, CaughtError::PostgresError(_)) && PgSqlErrorCode::from(raised) == code;
        let failure = Failure {
            code,
            packed: if is_its { raised } else { code as i32 },
            message: report.message().to_owned(),
            detail: report.detail().map(str::to_owned),
            is_raise: report.function_name() == Some(RAISES),
        };
        // By where it was raised: a user's function can raise an error of the same code, and that is one like any other.
        let cancelled =
            failure.code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED && report.function_name() == Some(INTERRUPTED);
        if cancelled && !ours() {
            caught.rethrow();
        }
        failure
    })
}
