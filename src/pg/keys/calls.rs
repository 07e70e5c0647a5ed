//! `idempotency_claim()`, `_complete()`, `_release()`, `_extend()`: raw version-1 functions, because a wrapper that copies its arguments, and the
//! stored answer through text, costs more than the look-up.

use pgrx::prelude::*;

use super::super::raw::{self, Arguments, Description};
use super::Json;
use crate::error::Result;
use crate::idempotency;

raw::function!(bulkhead_idempotency_claim, pg_finfo_bulkhead_idempotency_claim, claim);
raw::function!(bulkhead_idempotency_complete, pg_finfo_bulkhead_idempotency_complete, complete);
raw::function!(bulkhead_idempotency_release, pg_finfo_bulkhead_idempotency_release, release);
raw::function!(bulkhead_idempotency_extend, pg_finfo_bulkhead_idempotency_extend, extend);

static CLAIM: Description<5> = Description::of([
    (c"state", pg_sys::TEXTOID),
    (c"status", pg_sys::INT4OID),
    (c"response", pg_sys::JSONBOID),
    (c"attempt", pg_sys::INT4OID),
    (c"fence", pg_sys::INT8OID),
]);

impl Arguments<'_> {
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
    // SAFETY: the values have the types of the description. One row is a whole set: the function returns it as a value, once.
    Ok(unsafe { CLAIM.row(columns) })
}

fn complete(arguments: Arguments) -> Result<pg_sys::Datum> {
    let (key, status, response) = (arguments.bytes(0), arguments.value(1), arguments.json(2));
    idempotency::complete(key, status, response, arguments.value(3))?;
    Ok(pg_sys::Datum::null())
}

fn release(arguments: Arguments) -> Result<pg_sys::Datum> {
    idempotency::release(arguments.bytes(0), arguments.value(1))?;
    Ok(pg_sys::Datum::null())
}

fn extend(arguments: Arguments) -> Result<pg_sys::Datum> {
    idempotency::extend(arguments.bytes(0), arguments.interval(1), arguments.value(2))?;
    Ok(pg_sys::Datum::null())
}
