//! The hooks of the planner and of utility commands; the executor's are in executor.rs.
//!
//! None of all these functions is wrapped by pgrx's guard, and they call the next hook and the server's own functions
//! directly: the guard would turn every error of every query into a Rust panic and raise a copy of it that lacks the
//! constraint's name, the context and the position. An error thus passes through these frames by longjmp, so no value
//! with a destructor may be alive across such a call. What we ourselves decide sits in guarded functions (`before_…`).
//!
//! Most statements have nothing to do with us, and are told apart here without any call. What that costs is the cache lines and pages that
//! a process brings back after each switch of context, so what every statement runs and reads lies together (`.hot`).

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};

use pgrx::prelude::*;

use super::cell::{PerBackend, hot};
use super::nesting::{self, Nesting};
use super::planner::{self, Planning};
use super::{ddl, executor, planned_stmt, registry, utility};
use crate::context::before::Before;
use crate::context::state;

use crate::rls::naked;

hot! {
    static NEXT_PLANNER: PerBackend<Cell<pg_sys::planner_hook_type>> = PerBackend::new(Cell::new(None));
    static NEXT_RELATION_INFO: PerBackend<Cell<pg_sys::get_relation_info_hook_type>> = PerBackend::new(Cell::new(None));
}
static WATCHES_TRUNCATE: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));
static NEXT_OBJECT_ACCESS: PerBackend<Cell<pg_sys::object_access_hook_type>> = PerBackend::new(Cell::new(None));
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
        NEXT_RELATION_INFO.set((&raw mut pg_sys::get_relation_info_hook).replace(Some(relation_info)));
        NEXT_UTILITY.set((&raw mut pg_sys::ProcessUtility_hook).replace(Some(process_utility)));
    }
    executor::install();
}

/// # Safety
/// Called by the server with valid pointers.
#[cfg_attr(target_os = "linux", unsafe(link_section = ".text.hot.bulkhead"))]
unsafe extern "C-unwind" fn planner(
    parse: *mut pg_sys::Query,
    query: *const c_char,
    options: c_int,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    let before = Before::now();
    // SAFETY: passes on what it was given.
    unsafe {
        let planned = if planner::is_none_of_our_business(parse) {
            plan_next(parse, query, options, params)
        } else {
            plan_ours(parse, query, options, params)
        };
        if before.is_over() {
            check_planning(&before);
        }
        planned
    }
}

/// # Safety
/// As `planner`.
#[inline(always)]
unsafe fn plan_next(
    parse: *mut pg_sys::Query,
    query: *const c_char,
    options: c_int,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: the caller's promise.
    unsafe {
        match NEXT_PLANNER.get() {
            Some(next) => next(parse, query, options, params),
            None => server::standard_planner(parse, query, options, params),
        }
    }
}

/// # Safety
/// As `planner`.
#[inline(never)]
unsafe fn plan_ours(
    parse: *mut pg_sys::Query,
    query: *const c_char,
    mut options: c_int,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: the caller's promise; `planning` is plain values.
    unsafe {
        let planning = before_planning(parse, &mut options, params);
        let planned = plan_next(parse, query, options, params);
        after_planning(&planning, planned);
        planned
    }
}

/// # Safety
/// `parse` and `options` are valid.
#[pg_guard]
unsafe extern "C-unwind" fn before_planning(
    parse: *mut pg_sys::Query,
    options: *mut c_int,
    params: pg_sys::ParamListInfo,
) -> Planning {
    ddl::learn();
    // SAFETY: the caller's promise; the planner may change what it is given.
    unsafe { planner::begin(parse, &mut *options, params) }
}

/// # Safety
/// `planned` is the plan made since `before_planning` returned `planning`.
#[pg_guard]
unsafe extern "C-unwind" fn after_planning(planning: *const Planning, planned: *mut pg_sys::PlannedStmt) {
    // SAFETY: the caller's promise.
    unsafe { planner::end(&*planning, planned) };
}

/// # Safety
/// `before` is valid.
#[pg_guard]
unsafe extern "C-unwind" fn check_planning(before: *const Before) {
    // SAFETY: the caller's promise.
    naked::check_planning(unsafe { *before });
}

/// # Safety
/// Called by the server with valid pointers.
#[cfg_attr(target_os = "linux", unsafe(link_section = ".text.hot.bulkhead"))]
unsafe extern "C-unwind" fn relation_info(
    root: *mut pg_sys::PlannerInfo,
    relation: pg_sys::Oid,
    is_parent: bool,
    rel: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: passes on what it was given.
    unsafe {
        if registry::peek(|known| known.is_free(relation)) != Some(true) {
            check_relation(root, relation, rel);
        }
        if let Some(next) = NEXT_RELATION_INFO.get() {
            next(root, relation, is_parent, rel);
        }
    }
}

/// # Safety
/// `root` and `rel` are valid.
#[pg_guard]
unsafe extern "C-unwind" fn check_relation(
    root: *mut pg_sys::PlannerInfo,
    relation: pg_sys::Oid,
    rel: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: the caller's promise.
    unsafe { planner::check_relation(root, relation, rel) };
}

/// Asks to hear of each table that TRUNCATE empties, those that it cascades to included. From this backend's first TRUNCATE on: the server
/// calls this hook for every function and schema that any statement looks up.
fn watch_truncate() {
    if !WATCHES_TRUNCATE.replace(true) {
        // SAFETY: as in `install`.
        unsafe { NEXT_OBJECT_ACCESS.set((&raw mut pg_sys::object_access_hook).replace(Some(object_access))) };
    }
}

/// # Safety
/// Called by the server.
unsafe extern "C-unwind" fn object_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub_id: c_int,
    argument: *mut c_void,
) {
    // SAFETY: passes on what it was given.
    unsafe {
        if access == pg_sys::ObjectAccessType::OAT_TRUNCATE && class == pg_sys::RelationRelationId {
            before_truncate(object);
        }
        if let Some(next) = NEXT_OBJECT_ACCESS.get() {
            next(access, class, object, sub_id, argument);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn before_truncate(relation: pg_sys::Oid) {
    utility::check_truncate(relation);
}

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
        let kind = (*(*statement).utilityStmt).type_;
        if kind == pg_sys::NodeTag::T_TruncateStmt {
            watch_truncate();
        }
        let alone = planned_stmt::goes_to_client(dest) && kind == pg_sys::NodeTag::T_VariableSetStmt;
        if alone {
            state::set_alone(true);
        }
        let nesting = nesting::now();
        let statement = before_utility(statement);
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
        after_utility(statement, nesting);
        if alone {
            state::set_alone(false);
        }
    }
}

/// # Safety
/// `statement` is valid.
#[pg_guard]
unsafe extern "C-unwind" fn before_utility(statement: *mut pg_sys::PlannedStmt) -> *mut pg_sys::PlannedStmt {
    // SAFETY: the caller's promise.
    unsafe { utility::before(statement) }
}

/// # Safety
/// `statement` was run.
#[pg_guard]
unsafe extern "C-unwind" fn after_utility(statement: *mut pg_sys::PlannedStmt, before: Nesting) {
    // SAFETY: the caller's promise.
    unsafe { utility::after(statement, before) };
}
