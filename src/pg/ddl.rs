//! ALTER TABLE, as the seal sees it: which queries may be the server's own check of all rows for a foreign key.
//!
//! The check is an SPI query that the command itself runs. So exactly one entry stands on the error context stack above what stood
//! when the command began, and it is SPI's; a function in a procedural language would have put its own beneath. That is needed and
//! not enough: a built-in function that runs SPI, called by an inlined one, looks the same, so the query's tree is judged as
//! well (src/pg/foreign_key.rs). Which entry is SPI's is learned once, from a query of ours.

use std::cell::Cell;

use pgrx::prelude::*;

use super::cell::{PerBackend, hot};
use super::nesting;
use crate::error::Result;

/// The address of SPI's error callback; 0 until it is known.
static SPI_CALLBACK: PerBackend<Cell<usize>> = PerBackend::new(Cell::new(0));
hot! {
    static LEARNING: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));
}

fn stack() -> *mut pg_sys::ErrorContextCallback {
    // SAFETY: reads a variable of the server's.
    unsafe { pg_sys::error_context_stack }
}

/// The address of the callback on top of the stack, and the entry below it.
fn top() -> Option<(usize, *mut pg_sys::ErrorContextCallback)> {
    // SAFETY: entries of the stack are valid while they are on it.
    let top = unsafe { stack().as_ref() }?;
    Some((top.callback.map_or(0, |callback| callback as usize), top.previous))
}

/// ALTER TABLE begins: what `nesting` has to keep meanwhile.
pub fn begin() -> Result<usize> {
    if SPI_CALLBACK.get() == 0 {
        LEARNING.set(true);
        let learned = Spi::connect(|client| client.select("SELECT 1", None, &[]).map(drop));
        LEARNING.set(false);
        learned.map_err(|error| crate::error::internal(error.to_string()))?;
    }
    Ok(nesting::mark(stack().cast()))
}

/// `learn` has something to learn.
#[inline(always)]
pub fn is_learning() -> bool {
    LEARNING.get()
}

/// Called when a statement is about to be planned.
pub fn learn() {
    if LEARNING.get()
        && let Some((callback, _)) = top()
    {
        SPI_CALLBACK.set(callback);
    }
}

/// What is planned now may be a query that the running ALTER TABLE itself makes.
pub fn validates() -> bool {
    let altering = nesting::now().altering;
    altering != 0
        && top()
            .is_some_and(|(callback, below)| callback == SPI_CALLBACK.get() && nesting::mark(below.cast()) == altering)
}
