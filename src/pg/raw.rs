//! Raw version-1 functions, for what is called often: a wrapper that copies its arguments costs more than the work.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::prelude::*;

use super::cell::PerBackend;

/// Tells the server how the function of that name is called.
macro_rules! finfo {
    ($finfo:ident) => {
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $finfo() -> &'static pgrx::pg_sys::Pg_finfo_record {
            const V1: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &V1
        }
    };
}
pub(crate) use finfo;

/// A function that takes `Arguments` and returns a `Result<Datum>`; what it returns as an error is raised.
macro_rules! function {
    ($name:ident, $finfo:ident, $call:expr) => {
        $crate::pg::raw::finfo!($finfo);

        /// # Safety
        /// Called by the server with a valid call frame.
        #[unsafe(no_mangle)]
        #[pgrx::pg_guard]
        pub unsafe extern "C-unwind" fn $name(fcinfo: pgrx::pg_sys::FunctionCallInfo) -> pgrx::pg_sys::Datum {
            // SAFETY: the frame is valid for the call, and has the arguments that the function's declaration in sql/ names.
            match ($call)(unsafe { $crate::pg::raw::Arguments::of(fcinfo) }) {
                Ok(result) => result,
                Err(report) => {
                    report.report(pgrx::PgLogLevel::ERROR);
                    pgrx::pg_sys::Datum::null()
                }
            }
        }
    };
}
pub(crate) use function;

/// The arguments of a call, for as long as it runs.
#[derive(Clone, Copy)]
pub struct Arguments<'a>(&'a [pg_sys::NullableDatum]);

impl<'a> Arguments<'a> {
    /// # Safety
    /// `fcinfo` is a valid call frame, and outlives the result.
    #[inline]
    pub unsafe fn of(fcinfo: pg_sys::FunctionCallInfo) -> Arguments<'a> {
        // SAFETY: the caller's promise; a frame has `nargs` arguments.
        unsafe { Arguments((*fcinfo).args.as_slice((*fcinfo).nargs as usize)) }
    }

    /// None for NULL, and for one that is not there.
    #[inline]
    pub fn datum(&self, number: usize) -> Option<pg_sys::Datum> {
        self.0.get(number).filter(|argument| !argument.isnull).map(|argument| argument.value)
    }

    /// The bytes of a text.
    pub fn bytes(&self, number: usize) -> Option<&'a [u8]> {
        // SAFETY: a text, which lies in memory as a bytea does; copied where it was compressed or stored aside.
        self.datum(number).and_then(|datum| unsafe { <&[u8]>::from_datum(datum, false) })
    }

    /// A value of a type that is passed by value.
    pub fn value<T: FromDatum>(&self, number: usize) -> Option<T> {
        // SAFETY: an argument of that type.
        self.datum(number).and_then(|datum| unsafe { T::from_datum(datum, false) })
    }

    /// An interval in microseconds, a month as 30 days.
    pub fn interval(&self, number: usize) -> Option<i64> {
        const DAY: i64 = 24 * 60 * 60 * 1_000_000;
        let datum = self.datum(number)?;
        // SAFETY: an interval is passed as a pointer to one.
        let interval = unsafe { &*datum.cast_mut_ptr::<pg_sys::Interval>() };
        let days = i64::from(interval.month).saturating_mul(30).saturating_add(i64::from(interval.day));
        Some(days.saturating_mul(DAY).saturating_add(interval.time))
    }
}

/// What a row that a function returns looks like, made once in a backend.
pub struct Description<const N: usize> {
    columns: [(&'static CStr, pg_sys::Oid); N],
    made: PerBackend<Cell<pg_sys::TupleDesc>>,
}

impl<const N: usize> Description<N> {
    pub const fn of(columns: [(&'static CStr, pg_sys::Oid); N]) -> Description<N> {
        Description { columns, made: PerBackend::new(Cell::new(std::ptr::null_mut())) }
    }

    pub fn get(&self) -> pg_sys::TupleDesc {
        if self.made.get().is_null() {
            // SAFETY: made in memory that lives as long as the backend; each column is set once.
            unsafe {
                let former = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
                let description = pg_sys::CreateTemplateTupleDesc(N as i32);
                for (at, (name, of_type)) in self.columns.iter().enumerate() {
                    pg_sys::TupleDescInitEntry(description, at as i16 + 1, name.as_ptr(), *of_type, -1, 0);
                }
                self.made.set(pg_sys::BlessTupleDesc(description));
                // Whoever is handed it must not free it; and who counts, never counts it down to nothing.
                (*description).tdrefcount = 1;
                pg_sys::MemoryContextSwitchTo(former);
            }
        }
        self.made.get()
    }

    /// A row as a value.
    ///
    /// # Safety
    /// The values have the columns' types.
    pub unsafe fn row(&self, columns: [Option<pg_sys::Datum>; N]) -> pg_sys::Datum {
        let mut nulls = columns.map(|column| column.is_none());
        let mut values = columns.map(|column| column.unwrap_or(pg_sys::Datum::null()));
        // SAFETY: the caller's promise.
        unsafe {
            let tuple = pg_sys::heap_form_tuple(self.get(), values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
        }
    }
}
