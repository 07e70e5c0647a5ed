//! The executor's hooks: what hooks.rs says of hooks holds here.

use std::cell::Cell;
use std::ffi::c_int;

use pgrx::prelude::*;

use super::cell::{PerBackend, hot};
use super::planned_stmt::{self, Concern};
use super::{cursors, nesting, planner};
use crate::context::state;
use crate::observe;
use crate::rls::key::Key;
use crate::rls::naked;
use crate::seal::{bypass, decision};

hot! {
    static NEXT_START: PerBackend<Cell<pg_sys::ExecutorStart_hook_type>> = PerBackend::new(Cell::new(None));
    static NEXT_RUN: PerBackend<Cell<pg_sys::ExecutorRun_hook_type>> = PerBackend::new(Cell::new(None));
    static NEXT_FINISH: PerBackend<Cell<pg_sys::ExecutorFinish_hook_type>> = PerBackend::new(Cell::new(None));
}

/// The server's own functions, without the guard that pgrx puts around its bindings.
mod server {
    use super::*;
    unsafe extern "C-unwind" {
        pub fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, flags: c_int);
        #[cfg(not(feature = "pg18"))]
        pub fn standard_ExecutorRun(
            query: *mut pg_sys::QueryDesc,
            direction: pg_sys::ScanDirection::Type,
            count: u64,
            execute_once: bool,
        );
        #[cfg(feature = "pg18")]
        pub fn standard_ExecutorRun(query: *mut pg_sys::QueryDesc, direction: pg_sys::ScanDirection::Type, count: u64);
        pub fn standard_ExecutorFinish(query: *mut pg_sys::QueryDesc);
    }
}

/// Installs the hooks; once, from `hooks::install`.
pub fn install() {
    // SAFETY: as there.
    unsafe {
        NEXT_START.set((&raw mut pg_sys::ExecutorStart_hook).replace(Some(executor_start)));
        NEXT_RUN.set((&raw mut pg_sys::ExecutorRun_hook).replace(Some(executor_run)));
        NEXT_FINISH.set((&raw mut pg_sys::ExecutorFinish_hook).replace(Some(executor_finish)));
    }
}

/// # Safety
/// Called by the server with valid pointers.
#[cfg_attr(target_os = "linux", unsafe(link_section = ".text.hot.bulkhead"))]
unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: passes on what it was given.
    unsafe {
        if !is_seen_to(query) {
            before_start(query);
        }
        let referential = nesting::begin_referential();
        match NEXT_START.get() {
            Some(next) => next(query, flags),
            None => server::standard_ExecutorStart(query, flags),
        }
        if referential {
            nesting::end_referential();
        }
    }
}

/// What WITH writes and nobody reads runs at the end.
///
/// # Safety
/// Called by the server with valid pointers.
#[cfg_attr(target_os = "linux", unsafe(link_section = ".text.hot.bulkhead"))]
unsafe extern "C-unwind" fn executor_finish(query: *mut pg_sys::QueryDesc) {
    // SAFETY: passes on what it was given.
    unsafe {
        let referential = nesting::begin_referential();
        match NEXT_FINISH.get() {
            Some(next) => next(query),
            None => server::standard_ExecutorFinish(query),
        }
        if referential {
            nesting::end_referential();
        }
    }
}

/// Nearly every statement of a database with few protected tables, and those that were counted before: seen to without a call to the
/// server, so without a guard.
///
/// # Safety
/// `query` is valid.
#[inline(always)]
unsafe fn is_seen_to(query: *const pg_sys::QueryDesc) -> bool {
    // SAFETY: the descriptor and its plan are valid until the query ends.
    unsafe {
        let statement = (*query).plannedstmt;
        if (*statement).parallelModeNeeded || !cursors::is_empty() || planner::is_lifted(statement) {
            return false;
        }
        match planned_stmt::concern(statement) {
            Concern::None => true,
            Concern::Unknown => false,
            Concern::Observed(relation, key) => is_counted(statement, relation, key),
        }
    }
}

/// # Safety
/// `statement` is valid and reaches the observed relation.
unsafe fn is_counted(statement: *const pg_sys::PlannedStmt, relation: pg_sys::Oid, key: Key) -> bool {
    // SAFETY: the caller's promise.
    let is_plain = unsafe { planner::is_plain(statement) };
    is_plain
        && nesting::is_nowhere()
        && !bypass::is_set()
        && decision::in_force()
        && state::bare_tenant(|tenant| key.fits(tenant)).is_some_and(|fits| fits || observe::note_again(relation))
}

/// # Safety
/// `query` is valid.
#[pg_guard]
unsafe extern "C-unwind" fn before_start(query: *mut pg_sys::QueryDesc) {
    // SAFETY: the descriptor and its plan are valid until the query ends.
    let statement = unsafe { &*(*query).plannedstmt };
    if statement.parallelModeNeeded {
        naked::check_parallel();
    }
    // SAFETY: as above.
    unsafe {
        if planner::is_lifted(statement) {
            naked::check_lifted_plan(decision::command());
        }
        if !planned_stmt::may_be_lone_switch(query) {
            cursors::close_foreign();
        }
    }
    // SAFETY: as above.
    let (referential, validation) = unsafe { (planner::is_referential(statement), planner::is_validation(statement)) };
    if validation || naked::is_idle(referential) {
        return;
    }
    // A rule's statement runs where referential integrity's own does, with its rights.
    let strayed = !referential && nesting::begin_referential();
    let decision = decision::starting(referential);
    let mut observed = Vec::new();
    for touched in planned_stmt::relations(statement) {
        if naked::check(&touched, decision) && !observed.contains(&touched.relation) {
            observed.push(touched.relation);
            observe::note(touched.relation);
        }
    }
    if strayed {
        nesting::end_referential();
    }
}

/// # Safety
/// `query` is valid, and its plan was made past the seal.
#[pg_guard]
unsafe extern "C-unwind" fn before_lifted_run(query: *mut pg_sys::QueryDesc) {
    naked::check_lifted_plan(decision::command());
    // SAFETY: the caller's promise.
    if unsafe { cursors::is_being_held(query) } {
        naked::refuse_held();
    }
}

/// # Safety
/// `query` is valid and `planned_stmt::may_be_lone_switch`.
#[pg_guard]
unsafe extern "C-unwind" fn before_lone_run(query: *mut pg_sys::QueryDesc) -> bool {
    // SAFETY: the caller's promise.
    unsafe { planned_stmt::is_lone_switch(query) }
}

macro_rules! executor_run_hook {
    ($($last:ident: $type:ty)?) => {
        /// # Safety
        /// Called by the server with valid pointers.
        #[cfg_attr(target_os = "linux", unsafe(link_section = ".text.hot.bulkhead"))]
        unsafe extern "C-unwind" fn executor_run(
            query: *mut pg_sys::QueryDesc,
            direction: pg_sys::ScanDirection::Type,
            count: u64,
            $($last: $type)?
        ) {
            // SAFETY: passes on what it was given.
            unsafe {
                if planner::is_lifted((*query).plannedstmt) {
                    before_lifted_run(query);
                }
                let alone = planned_stmt::may_be_lone_switch(query) && before_lone_run(query);
                if alone {
                    state::set_alone(true);
                }
                let referential = nesting::begin_referential();
                match NEXT_RUN.get() {
                    Some(next) => next(query, direction, count $(, $last)?),
                    None => server::standard_ExecutorRun(query, direction, count $(, $last)?),
                }
                if referential {
                    nesting::end_referential();
                }
                if alone {
                    state::set_alone(false);
                }
            }
        }
    };
}

#[cfg(not(feature = "pg18"))]
executor_run_hook!(execute_once: bool);
#[cfg(feature = "pg18")]
executor_run_hook!();
