//! `decrement_inventory()`, `order_verdicts()`: raw version-1 functions.
//!
//! A decrement runs statements on the user's table outside of pgrx's guard, so that what a constraint or a trigger raises reaches the client as the
//! server made it. What it works with lies in memory that the server frees, whichever way the call ends.

use std::ffi::c_void;

use pgrx::prelude::*;

use super::super::prepared;
use super::super::raw::{self, Arguments};
use super::output::{Output, Told};
use crate::error::Result;
use crate::inventory::{self, Call, Release};

raw::finfo!(pg_finfo_bulkhead_decrement_inventory);
raw::finfo!(pg_finfo_bulkhead_decrement_inventory_line);
raw::finfo!(pg_finfo_bulkhead_order_verdicts);
raw::finfo!(pg_finfo_bulkhead_release_order);

/// `decrement_inventory(relation regclass, order_ids text[], items text[], quantities bigint[])`: see `inventory::Call`.
///
/// # Safety
/// Called by the server with a valid call frame.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn bulkhead_decrement_inventory(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the frame is valid. Nothing with a destructor is alive here: errors leave this function by longjmp.
    unsafe {
        let call = begin_arrays(fcinfo);
        prepared::run_unguarded(call);
        finish(fcinfo, call);
    }
    pg_sys::Datum::null()
}

/// `decrement_inventory(relation regclass, order_id text, item text, quantity bigint)`.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn bulkhead_decrement_inventory_line(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: as above.
    unsafe {
        let call = begin_line(fcinfo);
        prepared::run_unguarded(call);
        finish(fcinfo, call);
    }
    pg_sys::Datum::null()
}

/// # Safety
/// `fcinfo` is a valid call frame of the function with arrays.
#[pg_guard]
unsafe extern "C-unwind" fn begin_arrays(fcinfo: pg_sys::FunctionCallInfo) -> *mut Call {
    // SAFETY: the caller's promise.
    let arguments = unsafe { Arguments::of(fcinfo) };
    let begin = || {
        let orders = arguments.texts(1, "order_ids")?;
        let items = arguments.texts(2, "items")?;
        Call::new(arguments.relation(0)?, &orders, &items, &arguments.numbers(3, "quantities")?)
    };
    kept(begin())
}

/// # Safety
/// `fcinfo` is a valid call frame of the function with one line.
#[pg_guard]
unsafe extern "C-unwind" fn begin_line(fcinfo: pg_sys::FunctionCallInfo) -> *mut Call {
    // SAFETY: the caller's promise.
    let arguments = unsafe { Arguments::of(fcinfo) };
    let begin = || {
        let (order, item, quantity) = (arguments.bytes(1), arguments.bytes(2), arguments.value(3));
        Call::new(arguments.relation(0)?, &[order], &[item], &[quantity])
    };
    kept(begin())
}

/// Hands a call over to the current memory context, which drops it when it ends.
fn kept<T>(call: Result<T>) -> *mut T {
    match call {
        // SAFETY: allocated in the context whose end is to be heard of.
        Ok(call) => unsafe {
            let context = pg_sys::CurrentMemoryContext;
            let callback = pg_sys::MemoryContextAllocZero(context, size_of::<pg_sys::MemoryContextCallback>())
                .cast::<pg_sys::MemoryContextCallback>();
            let call = Box::into_raw(Box::new(call));
            (*callback).func = Some(drop_call::<T>);
            (*callback).arg = call.cast();
            pg_sys::MemoryContextRegisterResetCallback(context, callback);
            call
        },
        Err(report) => {
            report.report(PgLogLevel::ERROR);
            std::ptr::null_mut()
        }
    }
}

/// # Safety
/// Called by the server, once, with what `kept` gave it.
#[pg_guard]
unsafe extern "C-unwind" fn drop_call<T>(call: *mut c_void) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(call.cast::<T>()) });
}

/// # Safety
/// `fcinfo` is a valid call frame; `call` is what `kept` returned, and its statements have run.
#[pg_guard]
unsafe extern "C-unwind" fn finish(fcinfo: pg_sys::FunctionCallInfo, call: *mut Call) {
    // SAFETY: the caller's promise.
    let (output, call) = unsafe { (Output::of(fcinfo), &*call) };
    match output {
        Ok(output) => call.told(|told| output.put(&told)),
        Err(report) => report.report(PgLogLevel::ERROR),
    }
}

/// `order_verdicts(relation regclass, order_id text)`: see `inventory::order_verdicts`.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn bulkhead_order_verdicts(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the frame is valid.
    let (arguments, output) = unsafe { (Arguments::of(fcinfo), Output::of(fcinfo)) };
    let ask = || -> Result<()> {
        let (output, order) = (output?, arguments.bytes(1));
        inventory::order_verdicts(arguments.relation(0)?, order, |row, verdict| {
            let item = row.item.as_deref();
            output.put(&Told { line: row.line, order, item, verdict, remaining: row.remaining });
        })
    };
    if let Err(report) = ask() {
        report.report(PgLogLevel::ERROR);
    }
    pg_sys::Datum::null()
}

/// `release_order(relation regclass, order_id text)`: see `inventory::Release`.
///
/// # Safety
/// As `bulkhead_decrement_inventory`.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn bulkhead_release_order(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: as there.
    unsafe {
        let release = begin_release(fcinfo);
        prepared::run_unguarded(release);
        pg_sys::Datum::from((*release).given_back())
    }
}

/// # Safety
/// `fcinfo` is a valid call frame.
#[pg_guard]
unsafe extern "C-unwind" fn begin_release(fcinfo: pg_sys::FunctionCallInfo) -> *mut Release {
    // SAFETY: the caller's promise.
    let arguments = unsafe { Arguments::of(fcinfo) };
    kept(arguments.relation(0).and_then(|relation| Release::new(relation, arguments.bytes(1))))
}

raw::function!(bulkhead_enqueue_decrement, pg_finfo_bulkhead_enqueue_decrement, enqueue);
raw::function!(bulkhead_enqueue_decrement_line, pg_finfo_bulkhead_enqueue_decrement_line, enqueue_line);

/// `enqueue_decrement(relation regclass, order_id text, items text[], quantities bigint[])`: see `inventory::enqueue`.
fn enqueue(arguments: Arguments) -> Result<pg_sys::Datum> {
    let (items, quantities) = (arguments.texts(2, "items")?, arguments.numbers(3, "quantities")?);
    inventory::enqueue(arguments.relation(0)?, arguments.bytes(1), &items, &quantities).map(pg_sys::Datum::from)
}

/// `enqueue_decrement(relation regclass, order_id text, item text, quantity bigint)`.
fn enqueue_line(arguments: Arguments) -> Result<pg_sys::Datum> {
    let (order, item, quantity) = (arguments.bytes(1), arguments.bytes(2), arguments.value(3));
    inventory::enqueue(arguments.relation(0)?, order, &[item], &[quantity]).map(pg_sys::Datum::from)
}
