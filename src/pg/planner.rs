//! How statements are planned: under the seal, or past it for one of the reasons of `seal::decision`.
//!
//! The planner hook adds the border to what it is given; functions inlined later, children and other extensions may bring relations past it, so
//! the hook for each relation that is about to be read refuses a protected one without its border. A plan made past the seal
//! for a while (a bypass) carries a tag, and does not run when that while is over.

use pgrx::prelude::*;

use super::filter::{self, Inlined};
use super::{ddl, foreign_key, list, nesting, registry, version};
use crate::rls::naked;
use crate::seal::bypass;
use crate::seal::decision::{self, Decision};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mode {
    /// The seal is not in force here.
    Off,
    Sealed,
    /// Past the seal.
    Lifted,
}

/// What `begin` hands to `end`: plain values, because an error may jump over it.
#[repr(C)]
pub struct Planning {
    before: nesting::Nesting,
    inlined: Inlined,
    /// What the plan carries: 0 for nothing.
    tag: i32,
    depends_on_role: bool,
}

/// Made past the seal: may run only while what lifted it lasts. Never the number of a system cache, so the server never looks at the item.
const LIFTED: i32 = -77;
/// The server's own check of all rows in ALTER TABLE.
const VALIDATION: i32 = -78;
/// A query of referential integrity.
const REFERENTIAL: i32 = -79;

/// Nearly every query of a database with few protected tables: plain, on tables that are not protected, outside of everything that counts here.
/// Told apart without a call that could raise, so without a guard. What other extensions bring in is refused in `check_relation` all the same.
///
/// # Safety
/// `query` is valid.
#[inline(always)]
pub unsafe fn is_none_of_our_business(query: *const pg_sys::Query) -> bool {
    use pg_sys::RTEKind::{RTE_JOIN, RTE_RELATION, RTE_RESULT, RTE_VALUES};
    // SAFETY: the caller's promise; the entries of a range table.
    unsafe {
        nesting::is_nowhere()
            && !ddl::is_learning()
            && !bypass::is_set()
            && !(*query).hasSubLinks
            && (*query).cteList.is_null()
            && registry::peek(|known| {
                list::cells((*query).rtable).iter().all(|cell| {
                    let entry = &*cell.ptr_value.cast::<pg_sys::RangeTblEntry>();
                    match entry.rtekind {
                        RTE_RELATION => known.is_free(entry.relid),
                        RTE_JOIN | RTE_VALUES | RTE_RESULT => true,
                        _ => false,
                    }
                })
            }) == Some(true)
    }
}

/// # Safety
/// `query` is valid and may be changed; `options` is valid.
pub unsafe fn begin(query: *mut pg_sys::Query, options: &mut i32, params: pg_sys::ParamListInfo) -> Planning {
    let inlined = Inlined { invalidation: std::ptr::null_mut(), depends_on_role: false };
    let mut planning = Planning { before: nesting::now(), inlined, tag: 0, depends_on_role: false };
    // SAFETY: the caller's promise.
    let statement = unsafe { Statement::new(query) };
    let decision = decision::planning(&statement);
    let referential = matches!(decision, Decision::Off) && nesting::is_referential() && statement.reads_one_table();
    let mode = match decision {
        Decision::Off => Mode::Off,
        Decision::Sealed { .. } => Mode::Sealed,
        _ => Mode::Lifted,
    };
    nesting::enter(|now| now.mode = mode);
    let nested = nesting::may_be_nested_referential();
    // Also for what a rule has added: the functions that the planner calls for it are no queries of referential integrity.
    nesting::begin_referential();
    // SAFETY: as above.
    unsafe {
        match decision {
            // Row level security alone has to know as well.
            Decision::Off if referential => planning.tag = REFERENTIAL,
            Decision::Off => {}
            Decision::Sealed { bypass_waits } => {
                let met = filter::seal(query, params, &mut planning.inlined);
                if met != pg_sys::InvalidOid && nested {
                    naked::report_trigger(met);
                }
                let met = met != pg_sys::InvalidOid;
                // The same cached plan must not serve the role that holds the bypass.
                planning.depends_on_role = met && bypass_waits;
            }
            Decision::Referential => planning.tag = REFERENTIAL,
            Decision::Validation => {
                unfilter(query);
                planning.tag = VALIDATION;
            }
            Decision::Lifted => {
                planning.tag = LIFTED;
                planning.depends_on_role = true;
            }
        }
    }
    if mode == Mode::Lifted {
        // A worker could not tell that the seal is lifted.
        *options &= !(pg_sys::CURSOR_OPT_PARALLEL_OK as i32);
    }
    planning
}

/// # Safety
/// `plan` is the plan that was made since `begin`.
pub unsafe fn end(planning: &Planning, plan: *mut pg_sys::PlannedStmt) {
    nesting::leave(planning.before);
    // SAFETY: the caller's promise; the list and its items are allocated where the plan is.
    unsafe {
        if !planning.inlined.invalidation.is_null() {
            (*plan).invalItems = pg_sys::list_concat((*plan).invalItems, planning.inlined.invalidation);
        }
        (*plan).dependsOnRole |= planning.depends_on_role || planning.inlined.depends_on_role;
        if planning.tag != 0 && names_registered(plan) {
            let item = filter::node::<pg_sys::PlanInvalItem>(pg_sys::NodeTag::T_PlanInvalItem);
            (*item).cacheId = planning.tag;
            (*plan).invalItems = pg_sys::lcons(item.cast(), (*plan).invalItems);
        }
    }
}

/// # Safety
/// `plan` is valid.
unsafe fn names_registered(plan: *const pg_sys::PlannedStmt) -> bool {
    // SAFETY: the caller's promise.
    unsafe { list::cells((*plan).relationOids) }.iter().any(|cell| {
        // SAFETY: a list of oids.
        registry::find(unsafe { cell.oid_value }).is_some()
    })
}

/// A plan without a tag.
///
/// # Safety
/// `plan` is valid.
pub unsafe fn is_plain(plan: *const pg_sys::PlannedStmt) -> bool {
    // SAFETY: the caller's promise.
    unsafe { tag(plan) == 0 }
}

/// Whether a plan was made past the seal.
///
/// # Safety
/// `plan` is valid.
pub unsafe fn is_lifted(plan: *const pg_sys::PlannedStmt) -> bool {
    // SAFETY: the caller's promise.
    unsafe { tag(plan) == LIFTED }
}

/// Whether a plan is the server's own check of all rows in ALTER TABLE.
///
/// # Safety
/// `plan` is valid.
pub unsafe fn is_validation(plan: *const pg_sys::PlannedStmt) -> bool {
    // SAFETY: the caller's promise.
    unsafe { tag(plan) == VALIDATION }
}

/// Whether a plan is that of a query of referential integrity.
///
/// # Safety
/// `plan` is valid.
pub unsafe fn is_referential(plan: *const pg_sys::PlannedStmt) -> bool {
    // SAFETY: the caller's promise.
    unsafe { tag(plan) == REFERENTIAL }
}

/// # Safety
/// `plan` is valid.
unsafe fn tag(plan: *const pg_sys::PlannedStmt) -> i32 {
    // SAFETY: the caller's promise; the items are of this type.
    unsafe {
        let first = list::cells((*plan).invalItems).first();
        first.map_or(0, |first| (*first.ptr_value.cast::<pg_sys::PlanInvalItem>()).cacheId)
    }
}

/// What `decision` asks of a statement.
pub struct Statement(*const pg_sys::Query);

impl Statement {
    /// # Safety
    /// `query` outlives the result.
    unsafe fn new(query: *const pg_sys::Query) -> Statement {
        Statement(query)
    }

    /// A query as referential integrity makes it: on one table, and nothing that a rule of that table could have added.
    pub fn reads_one_table(&self) -> bool {
        // SAFETY: `new` promises that the query is valid.
        unsafe { reads_one_table(self.0) }
    }

    /// The server's own check of all rows: for a foreign key that is added or validated, or, in DETACH PARTITION, where no
    /// function of a user's has a place, for what refers to the partition.
    pub fn validates_foreign_key(&self) -> bool {
        // SAFETY: `new` promises that the query is valid.
        unsafe {
            foreign_key::is_initial_check(self.0) || (nesting::now().detaching && foreign_key::joins_key_to_key(self.0))
        }
    }
}

/// A rule gives queries of their own, or adds its condition to the one that it replaces.
///
/// # Safety
/// `query` is valid.
unsafe fn reads_one_table(query: *const pg_sys::Query) -> bool {
    // SAFETY: the caller's promise; nodes have the type that their field says.
    unsafe {
        let [only] = list::cells((*query).rtable) else { return false };
        let entry = only.ptr_value.cast::<pg_sys::RangeTblEntry>();
        (*query).querySource == pg_sys::QuerySource::QSRC_ORIGINAL
            && !(*query).hasSubLinks
            && (*query).cteList.is_null()
            && match (*entry).rtekind {
                pg_sys::RTEKind::RTE_RELATION => true,
                // PostgreSQL 18 asks so about a key WITHOUT OVERLAPS.
                pg_sys::RTEKind::RTE_SUBQUERY => reads_one_table((*entry).subquery),
                _ => false,
            }
    }
}

/// Takes off what row level security has added: a foreign key is valid for all rows or not at all.
///
/// # Safety
/// `query` is valid and may be changed.
unsafe fn unfilter(query: *mut pg_sys::Query) {
    // SAFETY: the caller's promise.
    for cell in unsafe { list::cells((*query).rtable) } {
        // SAFETY: entries of a range table.
        unsafe { (*cell.ptr_value.cast::<pg_sys::RangeTblEntry>()).securityQuals = std::ptr::null_mut() };
    }
}

/// Called for each relation that the planner is about to look up. Raises 42501 for a protected one without its border.
///
/// # Safety
/// `root` and `rel` are valid.
pub unsafe fn check_relation(root: *const pg_sys::PlannerInfo, relation: pg_sys::Oid, rel: *const pg_sys::RelOptInfo) {
    // SAFETY: the caller's promise. What plans CLUSTER and CREATE INDEX makes a query without a join tree.
    let has_query = unsafe { !(*root).parse.is_null() && !(*(*root).parse).jointree.is_null() };
    // SAFETY: as above.
    if has_query && decision::must_have_border(relation) {
        if let Err(report) = version::require() {
            report.report(PgLogLevel::ERROR);
        }
        // SAFETY: as above.
        if !unsafe { filter::is_sealed(root, (*rel).relid) } {
            decision::refuse_without_border(relation);
        }
    }
}
