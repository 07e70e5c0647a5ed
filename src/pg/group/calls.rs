//! `decrement_now()`: raw version-1 functions.
//!
//! The error that an order met in the worker is raised outside of pgrx's guard, with the code that it had there.

use std::ffi::CString;

use pgrx::prelude::*;

use super::super::inventory::{Output, Told};
use super::super::raw::{self, Arguments};
use crate::error::Result;
use crate::inventory::fold::Verdict;
use crate::inventory::group::{self, Outcome, body::Fault};

raw::finfo!(pg_finfo_bulkhead_decrement_now);
raw::finfo!(pg_finfo_bulkhead_decrement_now_line);

unsafe extern "C-unwind" {
    /// Without the guard that pgrx puts around its binding, whose copy of the error knows no code of a user's own.
    fn ThrowErrorData(error: *mut pg_sys::ErrorData);
}

/// `decrement_now(relation regclass, order_id text, items text[], quantities bigint[], wait interval)`: see `group::ask`.
///
/// # Safety
/// Called by the server with a valid call frame.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn bulkhead_decrement_now(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the frame is valid. Nothing with a destructor is alive here: an error leaves this function by longjmp.
    unsafe {
        let error = ask_arrays(fcinfo);
        if !error.is_null() {
            ThrowErrorData(error);
        }
    }
    pg_sys::Datum::null()
}

/// `decrement_now(relation regclass, order_id text, item text, quantity bigint, wait interval)`.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn bulkhead_decrement_now_line(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: as above.
    unsafe {
        let error = ask_line(fcinfo);
        if !error.is_null() {
            ThrowErrorData(error);
        }
    }
    pg_sys::Datum::null()
}

/// # Safety
/// `fcinfo` is a valid call frame of the function with arrays.
#[pg_guard]
unsafe extern "C-unwind" fn ask_arrays(fcinfo: pg_sys::FunctionCallInfo) -> *mut pg_sys::ErrorData {
    // SAFETY: the caller's promise.
    let arguments = unsafe { Arguments::of(fcinfo) };
    let ask = || {
        let (items, quantities) = (arguments.texts(2, "items")?, arguments.numbers(3, "quantities")?);
        // SAFETY: as above.
        unsafe { answer(fcinfo, arguments, &items, &quantities) }
    };
    raised_or(ask())
}

/// # Safety
/// `fcinfo` is a valid call frame of the function with one line.
#[pg_guard]
unsafe extern "C-unwind" fn ask_line(fcinfo: pg_sys::FunctionCallInfo) -> *mut pg_sys::ErrorData {
    // SAFETY: the caller's promise.
    unsafe {
        let arguments = Arguments::of(fcinfo);
        raised_or(answer(fcinfo, arguments, &[arguments.bytes(2)], &[arguments.value(3)]))
    }
}

fn raised_or(result: Result<*mut pg_sys::ErrorData>) -> *mut pg_sys::ErrorData {
    result.unwrap_or_else(|report| {
        report.report(PgLogLevel::ERROR);
        std::ptr::null_mut()
    })
}

/// Asks, and puts the rows. The error that the order met, if it did.
///
/// # Safety
/// `fcinfo` is a valid call frame.
unsafe fn answer(
    fcinfo: pg_sys::FunctionCallInfo,
    arguments: Arguments,
    items: &[Option<&[u8]>],
    quantities: &[Option<i64>],
) -> Result<*mut pg_sys::ErrorData> {
    // SAFETY: the caller's promise.
    let output = unsafe { Output::of(fcinfo)? };
    let order = arguments.bytes(1);
    let outcome = group::ask(arguments.relation(0)?, order, items, quantities, arguments.interval(4))?;
    let answers = match outcome {
        Outcome::Told(answers) => Some(answers),
        Outcome::Pending => None,
        Outcome::Failed(fault) => return Ok(error_of(&fault)),
    };
    for (at, item) in items.iter().enumerate() {
        let answer = answers.as_ref().and_then(|answers| answers.get(at));
        output.put(&Told {
            line: at as i32 + 1,
            order,
            item: *item,
            verdict: answer.map_or(Verdict::Pending, |answer| answer.verdict),
            remaining: answer.and_then(|answer| answer.remaining),
        });
    }
    Ok(std::ptr::null_mut())
}

/// What `ThrowErrorData` takes, in memory of the server's.
fn error_of(fault: &Fault) -> *mut pg_sys::ErrorData {
    // SAFETY: reads a variable of the server's.
    let is_utf8 = unsafe { pg_sys::GetDatabaseEncoding() } == pg_sys::pg_enc::PG_UTF8 as i32;
    let copy = |text: &str| {
        // What the worker caught has lost what is not of UTF-8.
        let text = if is_utf8 { text.to_owned() } else { text.replace(|letter: char| !letter.is_ascii(), "?") };
        let text = CString::new(text.replace('\0', "")).unwrap_or_default();
        // SAFETY: a NUL-terminated text, which is copied.
        unsafe { pg_sys::pstrdup(text.as_ptr()) }
    };
    let optional = |text: &Option<String>| text.as_deref().map_or(std::ptr::null_mut(), copy);
    let error = pg_sys::ErrorData {
        elevel: PgLogLevel::ERROR as i32,
        output_to_client: true,
        sqlerrcode: fault.sqlstate,
        message: copy(&fault.message),
        detail: optional(&fault.detail),
        hint: optional(&fault.hint),
        filename: c"calls.rs".as_ptr(),
        funcname: c"decrement_now".as_ptr(),
        ..Default::default()
    };
    // SAFETY: as much memory as is written; all zero is an empty error.
    unsafe {
        let place = pg_sys::palloc(size_of::<pg_sys::ErrorData>()).cast::<pg_sys::ErrorData>();
        place.write(error);
        place
    }
}
