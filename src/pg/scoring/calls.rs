//! `score()`, `score_explain()` and `jsonlogic()`: raw version-1 functions, called for each row of a scan. They are STRICT: no argument is NULL.

use std::cell::Cell;

use pgrx::prelude::*;

use super::super::cell::PerBackend;
use super::datum::{self, Bytes};
use crate::error::Result;
use crate::scoring;

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
            // SAFETY: the frame is valid for the call, and has the two arguments that sql/scoring.sql declares, neither NULL.
            let result = unsafe {
                let arguments = (*fcinfo).args.as_slice(2);
                $call(&Bytes::of(arguments[0].value), &Bytes::of(arguments[1].value))
            };
            match result {
                Ok(result) => result,
                Err(report) => {
                    report.report(PgLogLevel::ERROR);
                    pg_sys::Datum::null()
                }
            }
        }
    };
}

function!(bulkhead_score, pg_finfo_bulkhead_score, score);
function!(bulkhead_score_explain, pg_finfo_bulkhead_score_explain, explain);
function!(bulkhead_score_draft, pg_finfo_bulkhead_score_draft, draft);
function!(bulkhead_jsonlogic, pg_finfo_bulkhead_jsonlogic, jsonlogic);

fn score(name: &Bytes, document: &Bytes) -> Result<pg_sys::Datum> {
    scoring::score(name.get(), document.get(), datum::numeric)
}

fn explain(name: &Bytes, document: &Bytes) -> Result<pg_sys::Datum> {
    scoring::explain(name.get(), document.get(), datum::jsonb)
}

fn draft(rules: &Bytes, document: &Bytes) -> Result<pg_sys::Datum> {
    scoring::explain_draft(rules.get(), document.get(), datum::jsonb)
}

fn jsonlogic(rule: &Bytes, document: &Bytes) -> Result<pg_sys::Datum> {
    scoring::jsonlogic(rule.get(), document.get(), datum::jsonb)
}

macro_rules! writer {
    ($name:ident, $finfo:ident, $call:expr) => {
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
            // SAFETY: the frame is valid for the call, and has the arguments that sql/scoring.sql declares.
            let result = unsafe { ($call)(Arguments((*fcinfo).args.as_slice((*fcinfo).nargs as usize))) };
            match result {
                Ok(result) => result,
                Err(report) => {
                    report.report(PgLogLevel::ERROR);
                    pg_sys::Datum::null()
                }
            }
        }
    };
}

writer!(bulkhead_score_row, pg_finfo_bulkhead_score_row, row);
writer!(bulkhead_put_rule_set, pg_finfo_bulkhead_put_rule_set, |arguments| put(false, arguments));
writer!(bulkhead_put_shared_rule_set, pg_finfo_bulkhead_put_shared_rule_set, |arguments| put(true, arguments));
writer!(bulkhead_activate_rule_set, pg_finfo_bulkhead_activate_rule_set, |arguments| activate(false, arguments));
writer!(bulkhead_activate_shared_rule_set, pg_finfo_bulkhead_activate_shared_rule_set, |arguments| activate(
    true, arguments
));

struct Arguments<'a>(&'a [pg_sys::NullableDatum]);

impl<'a> Arguments<'a> {
    fn datum(&self, number: usize) -> Option<pg_sys::Datum> {
        self.0.get(number).filter(|argument| !argument.isnull).map(|argument| argument.value)
    }

    fn bytes(&self, number: usize) -> Option<Bytes<'a>> {
        // SAFETY: an argument of variable length, which lives as long as the call.
        self.datum(number).map(|datum| unsafe { Bytes::of(datum) })
    }
}

fn put(shared: bool, arguments: Arguments) -> Result<pg_sys::Datum> {
    let (name, rules) = (arguments.bytes(0), arguments.bytes(1));
    let activate = arguments.datum(2).map(|datum| datum.value() != 0);
    let version = scoring::put(shared, name.as_ref().map(Bytes::get), rules.as_ref().map(Bytes::get), activate)?;
    Ok(version.into())
}

fn activate(shared: bool, arguments: Arguments) -> Result<pg_sys::Datum> {
    let name = arguments.bytes(0);
    let version = arguments.datum(1).map(|datum| datum.value() as i32);
    scoring::activate(shared, name.as_ref().map(Bytes::get), version)?;
    Ok(pg_sys::Datum::null())
}

/// A row of score, failed and version. A document that is NULL is JSON's null.
fn row(arguments: Arguments) -> Result<pg_sys::Datum> {
    let (name, document) = (arguments.bytes(0), arguments.bytes(1));
    let outcome = scoring::outcome(name.as_ref().map(Bytes::get), document.as_ref().map(Bytes::get), datum::numeric)?;
    let score = outcome.score;
    let mut nulls = [score.is_none(), false, false];
    let mut values = [
        score.unwrap_or(pg_sys::Datum::null()),
        pg_sys::Datum::from(outcome.failed),
        pg_sys::Datum::from(outcome.version),
    ];
    // SAFETY: the values have the types of the description.
    unsafe {
        let tuple = pg_sys::heap_form_tuple(description(), values.as_mut_ptr(), nulls.as_mut_ptr());
        Ok(pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data))
    }
}

/// The description of such a row, made once in a backend.
fn description() -> pg_sys::TupleDesc {
    static DESCRIPTION: PerBackend<Cell<pg_sys::TupleDesc>> = PerBackend::new(Cell::new(std::ptr::null_mut()));
    let columns = [(c"score", pg_sys::NUMERICOID), (c"failed", pg_sys::BOOLOID), (c"version", pg_sys::INT4OID)];
    if DESCRIPTION.get().is_null() {
        // SAFETY: made in memory that lives as long as the backend; each column is set once.
        unsafe {
            let former = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
            let description = pg_sys::CreateTemplateTupleDesc(columns.len() as i32);
            for (at, (name, of_type)) in columns.iter().enumerate() {
                pg_sys::TupleDescInitEntry(description, at as i16 + 1, name.as_ptr(), *of_type, -1, 0);
            }
            DESCRIPTION.set(pg_sys::BlessTupleDesc(description));
            pg_sys::MemoryContextSwitchTo(former);
        }
    }
    DESCRIPTION.get()
}
