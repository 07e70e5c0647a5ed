//! Arguments of the raw functions.

use pgrx::prelude::*;

use super::super::items;
use crate::error::{self, Result};

#[derive(Clone, Copy)]
pub struct Arguments<'a>(&'a [pg_sys::NullableDatum]);

/// A text, NULL or not, as it lies in memory.
pub type Text<'a> = Option<&'a [u8]>;

impl<'a> Arguments<'a> {
    /// # Safety
    /// `fcinfo` is a valid call frame, and outlives the result.
    pub unsafe fn of(fcinfo: pg_sys::FunctionCallInfo) -> Arguments<'a> {
        // SAFETY: the caller's promise; a frame has `nargs` arguments.
        unsafe { Arguments((*fcinfo).args.as_slice((*fcinfo).nargs as usize)) }
    }

    fn datum(&self, number: usize) -> Option<pg_sys::Datum> {
        self.0.get(number).filter(|argument| !argument.isnull).map(|argument| argument.value)
    }

    /// A relation. 22023 for NULL.
    pub fn relation(&self, number: usize) -> Result<pg_sys::Oid> {
        // SAFETY: an argument of type regclass.
        let relation = self.datum(number).and_then(|datum| unsafe { pg_sys::Oid::from_datum(datum, false) });
        relation.ok_or_else(|| error::argument("relation must not be NULL", "Give the registered table."))
    }

    pub fn text(&self, number: usize) -> Text<'a> {
        // SAFETY: a text, which lies in memory as a bytea does; copied where it was compressed or stored aside.
        self.datum(number).and_then(|datum| unsafe { <&[u8]>::from_datum(datum, false) })
    }

    pub fn number(&self, number: usize) -> Option<i64> {
        // SAFETY: an argument of type bigint.
        self.datum(number).and_then(|datum| unsafe { i64::from_datum(datum, false) })
    }

    /// An interval, in microseconds: a month has 30 days. None for NULL, and for one that is longer than can be counted.
    pub fn microseconds(&self, number: usize) -> Option<i64> {
        const DAY: i64 = 24 * 60 * 60 * 1_000_000;
        let datum = self.datum(number)?;
        // SAFETY: an argument of type interval, which lies in memory as this structure.
        let interval = unsafe { &*datum.cast_mut_ptr::<pg_sys::Interval>() };
        let days = i64::from(interval.day) + 30 * i64::from(interval.month);
        days.checked_mul(DAY)?.checked_add(interval.time)
    }

    /// The elements of an array of texts. 22023 for NULL and for more than one dimension.
    pub fn texts(&self, number: usize, name: &str) -> Result<Vec<Text<'a>>> {
        let elements = self.elements(number, name, pg_sys::TEXTOID)?;
        // SAFETY: elements of an array of texts, which is not moved while the call runs.
        Ok(elements
            .into_iter()
            .map(|element| element.and_then(|datum| unsafe { <&[u8]>::from_datum(datum, false) }))
            .collect())
    }

    /// The elements of an array of bigints. Errors as `texts`.
    pub fn numbers(&self, number: usize, name: &str) -> Result<Vec<Option<i64>>> {
        let elements = self.elements(number, name, pg_sys::INT8OID)?;
        Ok(elements.into_iter().map(|element| element.map(|datum| datum.value() as i64)).collect())
    }

    fn elements(&self, number: usize, name: &str, of_type: pg_sys::Oid) -> Result<Vec<Option<pg_sys::Datum>>> {
        let refuse = |why: &str| {
            error::argument(
                format!("{name} must {why}"),
                "Pass three arrays of the same length, a line of an order each.",
            )
        };
        let datum = self.datum(number).ok_or_else(|| refuse("not be NULL"))?;
        // SAFETY: an array of that type, which is not moved while the call runs.
        unsafe { items::elements(datum, of_type) }.ok_or_else(|| refuse("have one dimension"))
    }
}
