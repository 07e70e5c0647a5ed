//! The hooks: planner, executor and utility commands.
//!
//! None of these functions is wrapped by pgrx's guard, and they call the next hook and the server's own functions
//! directly: the guard would turn every error of every query into a Rust panic and raise a copy of it that lacks the
//! constraint's name, the context and the position. An error thus passes through these frames by longjmp, so no value
//! with a destructor may be alive across such a call. What we ourselves decide sits in guarded functions (`before_…`).

use std::cell::Cell;
use std::ffi::{c_char, c_int};

use pgrx::prelude::*;

use super::cell::PerBackend;
use super::{plan, referential};
use crate::context::state;
use crate::context::tenant::Tenant;
use crate::rls::naked;

static NEXT_PLANNER: PerBackend<Cell<pg_sys::planner_hook_type>> = PerBackend::new(Cell::new(None));
static NEXT_START: PerBackend<Cell<pg_sys::ExecutorStart_hook_type>> = PerBackend::new(Cell::new(None));
static NEXT_RUN: PerBackend<Cell<pg_sys::ExecutorRun_hook_type>> = PerBackend::new(Cell::new(None));
static NEXT_UTILITY: PerBackend<Cell<pg_sys::ProcessUtility_hook_type>> = PerBackend::new(Cell::new(None));

/// The server's own functions, without the guard that pgrx puts around its bindings.
mod server {
    use super::*;
    unsafe extern "C-unwind" {
        pub fn standard_planner(
            parse: *mut pg_sys::Query,
            query: *const c_char,
            options: c_int,
            params: pg_sys::ParamListInfo,
        ) -> *mut pg_sys::PlannedStmt;
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
        pub fn standard_ProcessUtility(
            statement: *mut pg_sys::PlannedStmt,
            query: *const c_char,
            read_only_tree: bool,
            context: pg_sys::ProcessUtilityContext::Type,
            params: pg_sys::ParamListInfo,
            environment: *mut pg_sys::QueryEnvironment,
            dest: *mut pg_sys::DestReceiver,
            completion: *mut pg_sys::QueryCompletion,
        );
    }
}

/// Installs the hooks; once, from `_PG_init`.
pub fn install() {
    // SAFETY: hooks are changed while no query runs in this process that could be reading them half-written; each keeps
    // its predecessor.
    unsafe {
        NEXT_PLANNER.set((&raw mut pg_sys::planner_hook).replace(Some(planner)));
        NEXT_START.set((&raw mut pg_sys::ExecutorStart_hook).replace(Some(executor_start)));
        NEXT_RUN.set((&raw mut pg_sys::ExecutorRun_hook).replace(Some(executor_run)));
        NEXT_UTILITY.set((&raw mut pg_sys::ProcessUtility_hook).replace(Some(process_utility)));
    }
}

/// # Safety
/// Called by the server with valid pointers.
unsafe extern "C-unwind" fn planner(
    parse: *mut pg_sys::Query,
    query: *const c_char,
    options: c_int,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    let before = state::generation();
    let tenant = state::tenant();
    // SAFETY: passes on what it was given.
    let planned = unsafe {
        match NEXT_PLANNER.get() {
            Some(next) => next(parse, query, options, params),
            None => server::standard_planner(parse, query, options, params),
        }
    };
    if state::generation() != before {
        // SAFETY: guarded; the pointer is valid for the call.
        unsafe { after_planning(&tenant) };
    }
    planned
}

/// # Safety
/// `before` is valid.
#[pg_guard]
unsafe extern "C-unwind" fn after_planning(before: *const Tenant) {
    // SAFETY: the caller's promise.
    naked::check_planning(unsafe { &*before });
}

/// # Safety
/// Called by the server with valid pointers.
unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: passes on what it was given.
    unsafe {
        before_start(query);
        match NEXT_START.get() {
            Some(next) => next(query, flags),
            None => server::standard_ExecutorStart(query, flags),
        }
    }
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
    if naked::is_idle() {
        return;
    }
    for relation in plan::relations(statement) {
        naked::check(&relation);
    }
}

/// # Safety
/// `query` is valid and `plan::may_be_lone_switch`.
#[pg_guard]
unsafe extern "C-unwind" fn before_lone_run(query: *mut pg_sys::QueryDesc) -> bool {
    // SAFETY: the caller's promise.
    unsafe { plan::is_lone_switch(query) }
}

macro_rules! executor_run_hook {
    ($($last:ident: $type:ty)?) => {
        /// # Safety
        /// Called by the server with valid pointers.
        unsafe extern "C-unwind" fn executor_run(
            query: *mut pg_sys::QueryDesc,
            direction: pg_sys::ScanDirection::Type,
            count: u64,
            $($last: $type)?
        ) {
            // SAFETY: passes on what it was given.
            unsafe {
                let alone = plan::may_be_lone_switch(query) && before_lone_run(query);
                if alone {
                    state::set_alone(true);
                }
                let referential = referential::begin();
                match NEXT_RUN.get() {
                    Some(next) => next(query, direction, count $(, $last)?),
                    None => server::standard_ExecutorRun(query, direction, count $(, $last)?),
                }
                if referential {
                    referential::end();
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

/// # Safety
/// Called by the server with valid pointers.
unsafe extern "C-unwind" fn process_utility(
    statement: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    dest: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: passes on what it was given; the node and the receiver are valid for the call.
    unsafe {
        let alone =
            plan::goes_to_client(dest) && (*(*statement).utilityStmt).type_ == pg_sys::NodeTag::T_VariableSetStmt;
        if alone {
            state::set_alone(true);
        }
        match NEXT_UTILITY.get() {
            Some(next) => next(statement, query, read_only_tree, context, params, environment, dest, completion),
            None => server::standard_ProcessUtility(
                statement,
                query,
                read_only_tree,
                context,
                params,
                environment,
                dest,
                completion,
            ),
        }
        if alone {
            state::set_alone(false);
        }
    }
}
