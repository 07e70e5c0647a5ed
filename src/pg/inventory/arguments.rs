//! Arguments of the functions on inventories.

use pgrx::prelude::*;

use super::super::items;
use super::super::raw::Arguments;
use crate::error::{self, Result};
use crate::inventory;

/// A text, NULL or not, as it lies in memory.
pub type Text<'a> = Option<&'a [u8]>;

impl<'a> Arguments<'a> {
    /// A relation. 22023 for NULL.
    pub fn relation(&self, number: usize) -> Result<pg_sys::Oid> {
        inventory::given_table(self.value(number))
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
