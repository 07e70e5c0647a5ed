//! `idempotency_claim()`, `_complete()`, `_release()`, `_extend()`: raw version-1 functions, because a wrapper that copies its arguments, and the
//! stored answer through text, costs more than the look-up.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::prelude::*;

use super::super::cell::PerBackend;
use super::Json;
use crate::error::Result;
use crate::idempotency;

macro_rules! function {
    ($name:ident, $finfo:ident, $call:ident) => {
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $finfo() -> &'static pg_sys::Pg_finfo_record {
            const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &V1
        }

        /// # Safety
        /// Called by the server with a valid call frame.
        #[unsafe(no_mangle)]
        #[pg_guard]
        pub unsafe extern "C-unwind" fn $name(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            // SAFETY: the frame is valid for the call, and has the arguments that sql/idempotency.sql declares.
            match $call(unsafe { Arguments::of(fcinfo) }) {
                Ok(result) => result,
                Err(report) => {
                    report.report(PgLogLevel::ERROR);
                    pg_sys::Datum::null()
                }
            }
        }
    };
}

function!(bulkhead_idempotency_claim, pg_finfo_bulkhead_idempotency_claim, claim);
function!(bulkhead_idempotency_complete, pg_finfo_bulkhead_idempotency_complete, complete);
function!(bulkhead_idempotency_release, pg_finfo_bulkhead_idempotency_release, release);
function!(bulkhead_idempotency_extend, pg_finfo_bulkhead_idempotency_extend, extend);

struct Arguments<'a>(&'a [pg_sys::NullableDatum]);

impl<'a> Arguments<'a> {
    /// # Safety
    /// `fcinfo` is a valid call frame.
    unsafe fn of(fcinfo: pg_sys::FunctionCallInfo) -> Arguments<'a> {
        // SAFETY: the caller's promise; a frame has `nargs` arguments.
        unsafe { Arguments((*fcinfo).args.as_slice((*fcinfo).nargs as usize)) }
    }

    /// NULL, or not there.
    fn datum(&self, number: usize) -> Option<pg_sys::Datum> {
        self.0.get(number).filter(|argument| !argument.isnull).map(|argument| argument.value)
    }

    /// The bytes of a text.
    fn bytes(&self, number: usize) -> Option<&'a [u8]> {
        // SAFETY: a text, which lies in memory as a bytea does; copied where it was compressed or stored aside.
        self.datum(number).and_then(|datum| unsafe { <&[u8]>::from_datum(datum, false) })
    }

    fn integer<T: FromDatum>(&self, number: usize) -> Option<T> {
        // SAFETY: an argument of that type.
        self.datum(number).and_then(|datum| unsafe { T::from_datum(datum, false) })
    }

    /// An interval in microseconds, a month as 30 days.
    fn interval(&self, number: usize) -> Option<i64> {
        const DAY: i64 = 24 * 60 * 60 * 1_000_000;
        let datum = self.datum(number)?;
        // SAFETY: an interval is passed as a pointer to one.
        let interval = unsafe { &*datum.cast_mut_ptr::<pg_sys::Interval>() };
        let days = i64::from(interval.month).saturating_mul(30).saturating_add(i64::from(interval.day));
        Some(days.saturating_mul(DAY).saturating_add(interval.time))
    }

    fn json(&self, number: usize) -> Option<Json> {
        self.datum(number).map(Json)
    }
}

fn claim(arguments: Arguments) -> Result<pg_sys::Datum> {
    let answer = idempotency::claim(arguments.bytes(0), arguments.bytes(1), arguments.interval(2))?;
    let columns = [
        answer.state.into_datum(),
        answer.status.and_then(IntoDatum::into_datum),
        answer.response.map(|response| response.0),
        answer.attempt.into_datum(),
        answer.fence.and_then(IntoDatum::into_datum),
    ];
    let mut nulls = columns.map(|column| column.is_none());
    let mut values = columns.map(|column| column.unwrap_or(pg_sys::Datum::null()));
    // SAFETY: the values have the types of the description. One row is a whole set: the function returns it as a value, once.
    unsafe {
        let tuple = pg_sys::heap_form_tuple(description(), values.as_mut_ptr(), nulls.as_mut_ptr());
        Ok(pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data))
    }
}

fn complete(arguments: Arguments) -> Result<pg_sys::Datum> {
    let (key, status, response) = (arguments.bytes(0), arguments.integer(1), arguments.json(2));
    idempotency::complete(key, status, response, arguments.integer(3))?;
    Ok(pg_sys::Datum::null())
}

fn release(arguments: Arguments) -> Result<pg_sys::Datum> {
    idempotency::release(arguments.bytes(0), arguments.integer(1))?;
    Ok(pg_sys::Datum::null())
}

fn extend(arguments: Arguments) -> Result<pg_sys::Datum> {
    idempotency::extend(arguments.bytes(0), arguments.interval(1), arguments.integer(2))?;
    Ok(pg_sys::Datum::null())
}

/// The description of a claim's row, made once in a backend.
fn description() -> pg_sys::TupleDesc {
    static DESCRIPTION: PerBackend<Cell<pg_sys::TupleDesc>> = PerBackend::new(Cell::new(std::ptr::null_mut()));
    const COLUMNS: [(&CStr, pg_sys::Oid); 5] = [
        (c"state", pg_sys::TEXTOID),
        (c"status", pg_sys::INT4OID),
        (c"response", pg_sys::JSONBOID),
        (c"attempt", pg_sys::INT4OID),
        (c"fence", pg_sys::INT8OID),
    ];
    if DESCRIPTION.get().is_null() {
        // SAFETY: made in memory that lives as long as the backend; each column is set once.
        unsafe {
            let former = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
            let description = pg_sys::CreateTemplateTupleDesc(COLUMNS.len() as i32);
            for (at, (name, of_type)) in COLUMNS.iter().enumerate() {
                pg_sys::TupleDescInitEntry(description, at as i16 + 1, name.as_ptr(), *of_type, -1, 0);
            }
            DESCRIPTION.set(pg_sys::BlessTupleDesc(description));
            pg_sys::MemoryContextSwitchTo(former);
        }
    }
    DESCRIPTION.get()
}
