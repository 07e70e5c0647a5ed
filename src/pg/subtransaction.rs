//! Subtransactions whose failure is a value: those that leave nothing behind, for trying things out, and those whose work stays.

use std::panic::AssertUnwindSafe;

use pgrx::PgTryBuilder;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use crate::error::Result;

/// The server's function that ends a statement because somebody asked for it.
const INTERRUPTED: &str = "ProcessInterrupts";

/// PL/pgSQL's function that raises what a RAISE says.
const RAISES: &str = "exec_stmt_raise";

/// Why a piece of work was rolled back.
pub struct Failure {
    pub code: PgSqlErrorCode,
    pub message: String,
    pub detail: Option<String>,
    /// A RAISE of PL/pgSQL raised it, whatever its code. A code of the user's own is not known here: it is given as XX000.
    pub is_raise: bool,
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
    // SAFETY: the subtransaction begun above is the innermost one: what `work` began inside it has ended with it.
    unsafe {
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
        let failure = Failure {
            code: report.sql_error_code(),
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
