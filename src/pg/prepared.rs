//! Statements that a feature runs again and again, planned once for each backend and run without pgrx's guard: a user's triggers and constraints
//! may fail inside, and the guard would strip their errors of the constraint's name and the context.

use std::ffi::{CString, c_char, c_int, c_long};

use pgrx::prelude::*;

use super::{security, settings};
use crate::error::{self, Result};

unsafe extern "C-unwind" {
    fn SPI_connect() -> c_int;
    fn SPI_finish() -> c_int;
    fn SPI_plan_get_plan_sources(plan: pg_sys::SPIPlanPtr) -> *mut pg_sys::List;
    fn SPI_execute_plan(
        plan: pg_sys::SPIPlanPtr,
        values: *mut pg_sys::Datum,
        nulls: *const c_char,
        read_only: bool,
        count: c_long,
    ) -> c_int;
}

/// A plan that is kept until it is dropped, and the table that it is about.
pub struct PreparedStatement(pg_sys::SPIPlanPtr, pg_sys::Oid);

impl Drop for PreparedStatement {
    fn drop(&mut self) {
        // SAFETY: kept by `prepare`; nobody runs it any more, since whoever does holds a reference to its owner.
        unsafe { pg_sys::SPI_freeplan(self.0) };
    }
}

impl PreparedStatement {
    /// Parses a statement about a table, with parameters of these types. It is planned once, whatever their values: of an array the planner would
    /// else know the length, find that plan the cheaper one each time, and plan for longer than the statement runs. Errors: what the server says of it.
    pub fn prepare(sql: &str, types: &[pg_sys::Oid], relation: pg_sys::Oid) -> Result<PreparedStatement> {
        let sql = CString::new(sql).map_err(|_| error::internal("a statement holds a NUL"))?;
        let mut types = types.to_vec();
        // SAFETY: SPI is connected meanwhile; the text and the types outlive the call, which copies them.
        unsafe {
            pg_sys::SPI_connect();
            let (count, options) = (types.len() as c_int, pg_sys::CURSOR_OPT_GENERIC_PLAN as c_int);
            let plan = pg_sys::SPI_prepare_cursor(sql.as_ptr(), count, types.as_mut_ptr(), options);
            if plan.is_null() || pg_sys::SPI_keepplan(plan) != 0 {
                pg_sys::SPI_finish();
                return Err(error::internal("a statement could not be prepared"));
            }
            let plan = PreparedStatement(plan, relation);
            plan.by_index();
            pg_sys::SPI_finish();
            Ok(plan)
        }
    }

    /// Plans it now, and by an index wherever there is one. Of a table of a thousand rows the planner would read all, and compare each with each value of an array that it takes to be short.
    /// When the server plans it anew for a reason that nobody here hears of, that is as the server would.
    ///
    /// # Safety
    /// SPI is connected, and the plan just prepared.
    unsafe fn by_index(&self) {
        settings::kept(|| {
            for way in [c"enable_seqscan", c"enable_bitmapscan", c"enable_hashjoin", c"enable_mergejoin"] {
                settings::set_for_a_while(way, b"off");
            }
            // SAFETY: the caller's promise; the plan is given back at once, and stays with its source.
            unsafe {
                let planned = pg_sys::SPI_plan_get_cached_plan(self.0);
                if !planned.is_null() {
                    pg_sys::ReleaseCachedPlan(planned, pg_sys::CurrentResourceOwner);
                }
            }
        });
    }
}

/// A plan to be run, with its parameters: plain values, so that an error may jump over them.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Run {
    plan: pg_sys::SPIPlanPtr,
    values: [pg_sys::Datum; 2],
    relation: pg_sys::Oid,
}

impl Run {
    /// Nothing to run.
    pub const NONE: Run =
        Run { plan: std::ptr::null_mut(), values: [pg_sys::Datum::null(); 2], relation: pg_sys::InvalidOid };

    pub fn new(plan: &PreparedStatement, first: pg_sys::Datum, second: pg_sys::Datum) -> Run {
        Run { plan: plan.0, values: [first, second], relation: plan.1 }
    }

    pub fn is_none(&self) -> bool {
        self.plan.is_null()
    }

    /// Whether it was run on its table. The server makes an old plan anew from the statement's text, and the name of the table's schema may have become another's just before:
    /// no lock on the table keeps that from happening.
    fn was_about_its_table(&self) -> bool {
        // SAFETY: a kept plan of one statement, which has just been run; the list of what that is about is the one that it was planned by. Neither call raises.
        unsafe {
            let sources = SPI_plan_get_plan_sources(self.plan);
            let source = (*(*sources).elements).ptr_value.cast::<pg_sys::CachedPlanSource>();
            // A rule may have made nothing of it, and then nothing was done.
            let Some(relations) = (*source).relationOids.as_ref() else { return true };
            let relations = std::slice::from_raw_parts(relations.elements, relations.length as usize);
            relations.iter().any(|relation| relation.oid_value == self.relation)
        }
    }
}

/// What steps of a feature run statements one after the other.
pub trait Steps {
    /// The next statement, or `Run::NONE`.
    fn next(&mut self) -> Result<Run>;

    /// It has run: `rows` were processed, and are to be read from `results`.
    fn done(&mut self, rows: u64) -> Result<()>;
}

/// Runs the statements of `steps`, as the current role.
///
/// # Safety
/// `steps` is valid until this returns or raises. Called where nothing with a destructor is alive: errors leave it by longjmp.
pub unsafe fn run_unguarded<S: Steps>(steps: *mut S) {
    // SAFETY: the caller's promise; `next` and `done` are guarded, and what they hand out are plain values that live in memory of the
    // server's until the statement has run.
    unsafe {
        let mut run = next(steps);
        if run.is_none() {
            return;
        }
        SPI_connect();
        while !run.is_none() {
            let code = SPI_execute_plan(run.plan, run.values.as_mut_ptr(), std::ptr::null(), false, 0);
            done(steps, run, code);
            run = next(steps);
        }
        SPI_finish();
    }
}

/// Runs one statement, guarded, as the current role; SPI is connected.
pub fn run_guarded<S: Steps>(steps: &mut S, mut run: Run) -> Result<()> {
    // SAFETY: the plan and its parameters are valid; an error becomes one of pgrx's at this boundary.
    let code = unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            SPI_execute_plan(run.plan, run.values.as_mut_ptr(), std::ptr::null(), false, 0)
        })
    };
    finished(steps, &run, code)
}

/// Runs `work` with SPI connected.
pub fn connected<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    // SAFETY: an error ends the (sub)transaction, which closes the connection.
    unsafe {
        pg_sys::SPI_connect();
        let result = work()?;
        pg_sys::SPI_finish();
        Ok(result)
    }
}

fn finished<S: Steps>(steps: &mut S, run: &Run, code: c_int) -> Result<()> {
    if code < 0 {
        return Err(error::internal(format!("a statement ended with code {code}")));
    }
    if !run.was_about_its_table() {
        return Err(error::retry(
            format!("the schema of {} was renamed at this very moment", security::relation_name(run.relation)),
            "The statement met another table of the former name, and what it did is undone.",
        ));
    }
    // SAFETY: reads a variable of the server's.
    steps.done(unsafe { pg_sys::SPI_processed })
}

/// # Safety
/// `steps` is valid.
#[pg_guard]
unsafe extern "C-unwind" fn next<S: Steps>(steps: *mut S) -> Run {
    // SAFETY: the caller's promise.
    match unsafe { (*steps).next() } {
        Ok(run) => run,
        Err(report) => {
            report.report(PgLogLevel::ERROR);
            Run::NONE
        }
    }
}

/// # Safety
/// As `next`; a statement has run.
#[pg_guard]
unsafe extern "C-unwind" fn done<S: Steps>(steps: *mut S, run: Run, code: c_int) {
    // SAFETY: the caller's promise.
    if let Err(report) = finished(unsafe { &mut *steps }, &run, code) {
        report.report(PgLogLevel::ERROR);
    }
}

/// Calls `each` with the first columns of each row that the last statement returned.
pub fn results<const N: usize>(mut each: impl FnMut([Option<pg_sys::Datum>; N]) -> Result<()>) -> Result<()> {
    // SAFETY: the table of results is valid until the next statement runs.
    unsafe {
        let Some(table) = pg_sys::SPI_tuptable.as_ref() else { return Ok(()) };
        for at in 0..pg_sys::SPI_processed as usize {
            let tuple = *table.vals.add(at);
            each(std::array::from_fn(|column| {
                let mut is_null = false;
                let datum = pg_sys::heap_getattr(tuple, column as c_int + 1, table.tupdesc, &mut is_null);
                (!is_null).then_some(datum)
            }))?;
        }
    }
    Ok(())
}
