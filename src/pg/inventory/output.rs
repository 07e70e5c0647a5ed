//! The rows that a function on inventories returns: line, order, item, verdict, remaining.

use std::cell::Cell;

use pgrx::prelude::*;

use super::super::raw::Description;
use crate::error::{self, Result};
use crate::inventory::fold::Verdict;

/// A row of a function's result.
pub struct Told<'a> {
    pub line: i32,
    pub order: Option<&'a [u8]>,
    pub item: Option<&'a [u8]>,
    pub verdict: Verdict,
    pub remaining: Option<i64>,
}

static ROW: Description<5> = Description::of([
    (c"line", pg_sys::INT4OID),
    (c"order_id", pg_sys::TEXTOID),
    (c"item", pg_sys::TEXTOID),
    (c"verdict", pg_sys::TEXTOID),
    (c"remaining", pg_sys::INT8OID),
]);

/// Where a set-returning function puts its rows.
pub struct Output {
    store: *mut pg_sys::Tuplestorestate,
    description: pg_sys::TupleDesc,
    /// The verdicts' texts, each made when it is told first.
    verdicts: [Cell<Option<pg_sys::Datum>>; Verdict::ALL.len()],
}

impl Output {
    /// # Safety
    /// `fcinfo` is a valid call frame of a function that returns such a table.
    pub unsafe fn of(fcinfo: pg_sys::FunctionCallInfo) -> Result<Output> {
        // SAFETY: the caller's promise; what the server hands over as `resultinfo` is a node, and says what it allows. The store lives in
        // the query's memory.
        unsafe {
            let info = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            let materialize = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
            if info.is_null()
                || (*info).type_ != pg_sys::NodeTag::T_ReturnSetInfo
                || (*info).allowedModes as u32 & materialize == 0
            {
                return Err(error::internal("a function that returns a set was called where none can be had"));
            }
            let random = (*info).allowedModes as u32 & pg_sys::SetFunctionReturnMode::SFRM_Materialize_Random != 0;
            let former = pg_sys::MemoryContextSwitchTo((*(*info).econtext).ecxt_per_query_memory);
            let store = pg_sys::tuplestore_begin_heap(random, false, pg_sys::work_mem);
            let description = ROW.get();
            pg_sys::MemoryContextSwitchTo(former);
            (*info).returnMode = materialize;
            (*info).setResult = store;
            (*info).setDesc = description;
            Ok(Output { store, description, verdicts: Default::default() })
        }
    }

    pub fn put(&self, told: &Told) {
        let columns = [
            told.line.into_datum(),
            told.order.and_then(IntoDatum::into_datum),
            told.item.and_then(IntoDatum::into_datum),
            self.verdict(told.verdict),
            told.remaining.and_then(IntoDatum::into_datum),
        ];
        let mut nulls = columns.map(|column| column.is_none());
        let mut values = columns.map(|column| column.unwrap_or(pg_sys::Datum::null()));
        // SAFETY: the values have the types of the description; the row is copied.
        unsafe { pg_sys::tuplestore_putvalues(self.store, self.description, values.as_mut_ptr(), nulls.as_mut_ptr()) };
    }

    fn verdict(&self, verdict: Verdict) -> Option<pg_sys::Datum> {
        let made = Verdict::ALL.iter().position(|each| *each == verdict).and_then(|at| self.verdicts.get(at))?;
        if made.get().is_none() {
            made.set(verdict.name().into_datum());
        }
        made.get()
    }
}
