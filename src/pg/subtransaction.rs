//! Subtransactions whose failure is a value: those that leave nothing behind, for trying things out, and those whose work stays.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
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
#[derive(Clone)]
pub struct Failure {
    pub code: PgSqlErrorCode,
    /// The code as the server has it, also where it is one of a user's own, which `code` gives as XX000.
    pub sqlstate: i32,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// A RAISE of PL/pgSQL raised it, whatever its code.
    pub is_raise: bool,
    /// The statement was cancelled, or a time-out ended it.
    pub is_cancel: bool,
}

impl Failure {
    fn of(caught: &CaughtError, raised: i32) -> Failure {
        let (CaughtError::PostgresError(report)
        | CaughtError::ErrorReport(report)
        | CaughtError::RustPanic { ereport: report, .. }) = caught;
        let code = report.sql_error_code();
        // An error of Rust's own passes no callback, nor does one that is raised again.
        let is_its = matches!(caught, CaughtError::PostgresError(_)) && PgSqlErrorCode::from(raised) == code;
        Failure {
            code,
            sqlstate: if is_its { raised } else { code as i32 },
            message: report.message().to_owned(),
            detail: report.detail().map(str::to_owned),
            hint: report.hint().map(str::to_owned),
            is_raise: report.function_name() == Some(RAISES),
            // By where it was raised: a user's function can raise an error of the same code, and that is one like any other.
            is_cancel: code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED && report.function_name() == Some(INTERRUPTED),
        }
    }

    /// The five letters of its code.
    pub fn spelled(&self) -> String {
        let code = self.sqlstate as u32;
        (0..5).map(|at| char::from(((code >> (6 * at)) & 0x3f) as u8 + b'0')).collect()
    }

    /// An error that says something about the row that was to be written, and not about the server, the rights or the moment: of the data, of a
    /// constraint, or raised by a trigger, with whatever code it chose.
    pub fn is_of_the_row(&self) -> bool {
        let code = self.spelled();
        matches!(&code[..2], "21" | "22" | "23" | "27" | "44" | "P0")
            || code == "28000"
            || self.is_raise && !self.is_transient()
    }

    /// An error that says something about the server, whoever asked for whatever: no memory or space, a disk that fails, a shutdown.
    pub fn is_of_the_server(&self) -> bool {
        let code = self.spelled();
        !self.is_raise && (matches!(&code[..2], "53" | "57" | "58" | "F0") || matches!(&code[..], "XX001" | "XX002"))
    }

    /// The detail, for somebody else than the role that ran the statement: that of a constraint's error may show the whole row, by the rights of that role.
    pub fn detail_for_others(&self) -> Option<&str> {
        self.detail.as_deref().filter(|_| !self.spelled().starts_with("23"))
    }

    /// The same may succeed when it is tried again.
    pub fn is_transient(&self) -> bool {
        matches!(self.spelled().as_str(), "40001" | "40P01" | "55P03")
    }

    /// To be raised after all.
    pub fn into_report(self) -> ErrorReport {
        let report = ErrorReport::new(self.code, self.message, "bulkhead");
        let report = match self.detail {
            Some(detail) => report.set_detail(detail),
            None => report,
        };
        match self.hint {
            Some(hint) => report.set_hint(hint),
            None => report,
        }
    }
}

/// The code of the error that was raised last. pgrx's copy of an error knows the codes of the server, and none of a user's own.
static RAISED: PerBackend<Cell<i32>> = PerBackend::new(Cell::new(0));

unsafe extern "C-unwind" {
    /// Without the guard that pgrx puts around its binding: called while an error is being made.
    fn geterrcode() -> c_int;
}

/// # Safety
/// Called by the server while it makes a message, an error or not.
unsafe extern "C-unwind" fn note_code(_arg: *mut c_void) {
    // SAFETY: there is a message.
    RAISED.set(unsafe { geterrcode() });
}

/// Runs `work`; an error that it raises is an answer. What it has done is not undone here.
pub fn caught<R>(work: impl FnOnce() -> Result<R>) -> std::result::Result<R, (Failure, CaughtError)> {
    RAISED.set(0);
    // SAFETY: the callback is on the stack of those that hear of messages until `work` is over, whichever way.
    let former = unsafe { pg_sys::error_context_stack };
    let mut callback =
        pg_sys::ErrorContextCallback { previous: former, callback: Some(note_code), arg: std::ptr::null_mut() };
    // SAFETY: as above.
    unsafe { pg_sys::error_context_stack = &mut callback };
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
    // SAFETY: as above.
    unsafe { pg_sys::error_context_stack = former };
    ended.map_err(|caught| (Failure::of(&caught, RAISED.get()), caught))
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
    let ended = caught(work);
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
    ended.map_err(|(failure, caught)| {
        if failure.is_cancel && !ours() {
            caught.rethrow();
        }
        failure
    })
}
