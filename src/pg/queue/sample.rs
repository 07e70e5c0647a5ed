//! A look at the queue that costs no more when much waits.

use pgrx::prelude::*;

use super::rows::{QUEUED_AT, RELATION, Row};
use super::{SEGMENTS, Segment, dead_letters};
use crate::error::Result;

/// A table of more pages is looked at in so many places, so many pages each.
const MOST_PAGES: u32 = 1024;
const PLACES: u32 = 16;

/// As `each_waiting`, of bounded cost: of a table that is large, evenly spread pages are read. `each` gets as well for how many rows of such a table one stands.
pub fn sample_waiting(mut each: impl FnMut(pg_sys::Oid, i64, f64)) -> Result<()> {
    for number in 0..SEGMENTS.len() {
        Segment::open(number)?.sample(|row, stands_for| {
            if let Some((relation, queued_at)) = row.value(RELATION).zip(row.value(QUEUED_AT)) {
                each(relation, queued_at, stands_for);
            }
        });
    }
    Ok(())
}

/// The same of what was set aside.
pub fn sample_poisoned(mut each: impl FnMut(pg_sys::Oid, f64)) -> Result<()> {
    dead_letters()?.sample(|row, stands_for| {
        if let Some(relation) = row.value(RELATION) {
            each(relation, stands_for);
        }
    });
    Ok(())
}

impl Segment {
    fn sample(&self, mut each: impl FnMut(&Row, f64)) {
        let pages = self.pages();
        if pages <= MOST_PAGES {
            return self.each_row(|row| each(row, 1.0));
        }
        let (count, stands_for) = (MOST_PAGES / PLACES, f64::from(pages) / f64::from(MOST_PAGES));
        for place in 0..u64::from(PLACES) {
            // The first pages and the last are among them.
            let first = u64::from(pages - count) * place / u64::from(PLACES - 1);
            self.each_row_of(Some((first as u32, count)), |row| each(row, stands_for));
        }
    }
}
