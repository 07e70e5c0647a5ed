//! The tenant's border as a part of a query: `column = accessor()`, the same expression that protect()'s policies have.
//!
//! Added before planning to every range table entry of a protected relation, as its first security qualification: the
//! server then evaluates nothing that could leak before it, uses the index, and hands it down to partitions and
//! children. What is written gets it as a check. Where row level security has put it there already it is not added twice.

use std::ffi::c_void;

use pgrx::prelude::*;

use super::registry::{self, Border, Entry};
use super::{list, security};
use crate::rls::key::Key;
use crate::rls::naked;
use crate::type_oid;

/// What inlining functions has noted, for the plan to keep.
#[repr(C)]
pub struct Inlined {
    pub invalidation: *mut pg_sys::List,
    pub depends_on_role: bool,
}

/// Adds the border wherever the query, in any of its parts, meets a protected relation; one that it met, or 0.
///
/// # Safety
/// `query` is a valid query that may be changed, `inlined` is valid.
pub unsafe fn seal(query: *mut pg_sys::Query, params: pg_sys::ParamListInfo, inlined: *mut Inlined) -> pg_sys::Oid {
    // SAFETY: the caller's promise; the walk is given pointers that outlive it.
    unsafe {
        let mut walk = Walk { params, inlined, met: pg_sys::InvalidOid, depth: 0 };
        walk.query(query);
        walk.met
    }
}

struct Walk {
    params: pg_sys::ParamListInfo,
    inlined: *mut Inlined,
    met: pg_sys::Oid,
    /// Queries entered and not yet left.
    depth: u32,
}

impl Walk {
    /// # Safety
    /// `query` is valid and may be changed.
    unsafe fn query(&mut self, query: *mut pg_sys::Query) {
        // SAFETY: nodes of a valid query have the type that their tag or their field says.
        unsafe {
            // Guarded, so not for each of the few levels that a query has.
            if self.depth % 16 == 15 {
                pg_sys::check_stack_depth();
            }
            self.depth += 1;
            if self.calls_sql_function(query) {
                self.inline(query);
            }
            let target = (*query).resultRelation;
            for (at, cell) in list::cells((*query).rtable).iter().enumerate() {
                let entry = cell.ptr_value.cast::<pg_sys::RangeTblEntry>();
                let number = at as i32 + 1;
                match (*entry).rtekind {
                    pg_sys::RTEKind::RTE_RELATION => {
                        refuse_exposing(query, entry, number);
                        if let Some(found) = protected(entry) {
                            self.met = found.relation;
                            if number != target || (*query).commandType != pg_sys::CmdType::CMD_INSERT {
                                put_first(entry, &found, number);
                            }
                            if number == target {
                                check_writes(query, &found);
                            }
                        }
                    }
                    pg_sys::RTEKind::RTE_SUBQUERY => self.query((*entry).subquery),
                    _ => {}
                }
            }
            for cell in list::cells((*query).cteList) {
                let with = cell.ptr_value.cast::<pg_sys::CommonTableExpr>();
                self.query((*with).ctequery.cast());
            }
            if (*query).hasSubLinks {
                let flags = pg_sys::QTW_IGNORE_RT_SUBQUERIES | pg_sys::QTW_IGNORE_CTE_SUBQUERIES;
                let context = (&raw mut *self).cast::<c_void>();
                pg_sys::query_tree_walker(query, Some(sublinks), context, flags as i32);
            }
            self.depth -= 1;
        }
    }

    /// A function in FROM that the planner may inline, so that its query never comes to the planner hook.
    ///
    /// # Safety
    /// `query` is valid.
    unsafe fn calls_sql_function(&self, query: *mut pg_sys::Query) -> bool {
        // SAFETY: as above.
        unsafe {
            list::cells((*query).rtable).iter().any(|cell| {
                let entry = cell.ptr_value.cast::<pg_sys::RangeTblEntry>();
                if (*entry).rtekind != pg_sys::RTEKind::RTE_FUNCTION {
                    return false;
                }
                let [function] = list::cells((*entry).functions) else { return false };
                let call = (*function.ptr_value.cast::<pg_sys::RangeTblFunction>()).funcexpr.cast::<pg_sys::FuncExpr>();
                (*call).xpr.type_ == pg_sys::NodeTag::T_FuncExpr && security::is_sql_function((*call).funcid)
            })
        }
    }

    /// Does what the planner would do next: replaces such functions by their queries, which the walk then enters.
    ///
    /// # Safety
    /// `query` is valid and may be changed.
    unsafe fn inline(&mut self, query: *mut pg_sys::Query) {
        // pgrx has no binding for it.
        unsafe extern "C-unwind" {
            fn preprocess_function_rtes(root: *mut pg_sys::PlannerInfo);
        }
        // SAFETY: the function reads of its argument only what is filled in here, as `subquery_planner` has it at that point.
        unsafe {
            let glob = node::<pg_sys::PlannerGlobal>(pg_sys::NodeTag::T_PlannerGlobal);
            (*glob).boundParams = self.params;
            let root = node::<pg_sys::PlannerInfo>(pg_sys::NodeTag::T_PlannerInfo);
            (*root).parse = query;
            (*root).glob = glob;
            (*root).query_level = 1;
            (*root).planner_cxt = pg_sys::CurrentMemoryContext;
            pg_sys::ffi::pg_guard_ffi_boundary(|| preprocess_function_rtes(root));
            let inlined = &mut *self.inlined;
            inlined.invalidation = pg_sys::list_concat(inlined.invalidation, (*glob).invalItems);
            inlined.depends_on_role |= (*glob).dependsOnRole;
        }
    }
}

/// # Safety
/// Called by the server's tree walkers; `context` is a `Walk`.
#[pg_guard]
unsafe extern "C-unwind" fn sublinks(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: the caller's promise; a query met here is that of a sublink.
    unsafe {
        if node.is_null() {
            return false;
        }
        if (*node).type_ == pg_sys::NodeTag::T_Query {
            (*context.cast::<Walk>()).query(node.cast());
            return false;
        }
        pg_sys::expression_tree_walker(node, Some(sublinks), context)
    }
}

/// The registry's entry for a range table entry that holds tenants' rows.
///
/// # Safety
/// `entry` is a valid entry of a relation.
unsafe fn protected(entry: *const pg_sys::RangeTblEntry) -> Option<Entry> {
    // SAFETY: the caller's promise. EXCLUDED is an entry of the target's oid, with this kind.
    unsafe {
        if (*entry).relkind as u8 == pg_sys::RELKIND_COMPOSITE_TYPE {
            return None;
        }
        registry::find((*entry).relid).filter(|found| matches!(found.border, Border::Column(_) | Border::Lost))
    }
}

/// Refuses what reads or writes a protected relation through a parent that has no border to hand down.
///
/// # Safety
/// `entry` stands at `number` of the range table of `query`.
unsafe fn refuse_exposing(query: *const pg_sys::Query, entry: *const pg_sys::RangeTblEntry, number: i32) {
    // SAFETY: the caller's promise.
    let (relation, goes_below) = unsafe {
        let inserts = number == (*query).resultRelation && security::is_partitioned((*entry).relid);
        ((*entry).relid, (*entry).inh || inserts)
    };
    if goes_below && registry::find(relation).is_some_and(|found| matches!(found.border, Border::Exposing)) {
        naked::report_exposing(relation);
    }
}

/// # Safety
/// `entry` is valid and stands at `number` of its range table.
unsafe fn put_first(entry: *mut pg_sys::RangeTblEntry, found: &Entry, number: i32) {
    // SAFETY: the caller's promise; the qualifications are expressions.
    unsafe {
        let is_border = |cell: &&pg_sys::ListCell| is_border(cell.ptr_value.cast(), found, number);
        let cells = list::cells((*entry).securityQuals);
        if cells.first().is_some_and(|first| is_border(&first)) {
            return;
        }
        let mut quals = pg_sys::lappend(std::ptr::null_mut(), border(found, number).cast());
        for cell in cells.iter().filter(|cell| !is_border(cell)) {
            quals = pg_sys::lappend(quals, cell.ptr_value);
        }
        (*entry).securityQuals = quals;
    }
}

/// # Safety
/// `query` is valid and its target is the relation of `found`.
unsafe fn check_writes(query: *mut pg_sys::Query, found: &Entry) {
    use pg_sys::WCOKind::*;
    // SAFETY: the caller's promise.
    unsafe {
        let target = (*query).resultRelation;
        let kinds: &[u32] = match (*query).commandType {
            pg_sys::CmdType::CMD_INSERT => match (*query).onConflict.as_ref() {
                Some(conflict) if conflict.action == pg_sys::OnConflictAction::ONCONFLICT_UPDATE => {
                    &[WCO_RLS_INSERT_CHECK, WCO_RLS_CONFLICT_CHECK, WCO_RLS_UPDATE_CHECK]
                }
                _ => &[WCO_RLS_INSERT_CHECK],
            },
            pg_sys::CmdType::CMD_UPDATE => &[WCO_RLS_UPDATE_CHECK],
            #[cfg(not(feature = "pg14"))]
            pg_sys::CmdType::CMD_MERGE => &[WCO_RLS_INSERT_CHECK, WCO_RLS_UPDATE_CHECK],
            _ => &[],
        };
        // In front of the policies' own checks, in the order of `kinds`.
        for kind in kinds.iter().rev() {
            let there = list::cells((*query).withCheckOptions).iter().any(|cell| {
                let check = cell.ptr_value.cast::<pg_sys::WithCheckOption>();
                (*check).kind == *kind && is_border((*check).qual, found, target)
            });
            if !there {
                let check = node::<pg_sys::WithCheckOption>(pg_sys::NodeTag::T_WithCheckOption);
                (*check).kind = *kind;
                (*check).relname = pg_sys::get_rel_name(found.relation);
                (*check).polname = pg_sys::pstrdup(c"bulkhead_seal".as_ptr());
                (*check).qual = border(found, target);
                (*query).withCheckOptions = pg_sys::lcons(check.cast(), (*query).withCheckOptions);
            }
        }
    }
}

/// `column = accessor()` for the relation at `number` of the range table; false when its tenant column is lost.
///
/// # Safety
/// The relation of `found` is locked by the statement.
unsafe fn border(found: &Entry, number: i32) -> *mut pg_sys::Node {
    // SAFETY: look-ups in the system caches, and nodes made of what they say.
    unsafe {
        let Border::Column(key) = found.border else {
            return pg_sys::makeBoolConst(false, false);
        };
        let (mut column_type, mut modifier, mut collation) = (pg_sys::InvalidOid, 0, pg_sys::InvalidOid);
        pg_sys::get_atttypetypmodcoll(found.relation, found.column, &mut column_type, &mut modifier, &mut collation);
        #[cfg(feature = "pg14")]
        let number = number as u32;
        let column = pg_sys::makeVar(number, found.column, column_type, modifier, collation, 0);
        let (operator, operand, result) = comparison(key, column_type);
        let mut left = column.cast::<pg_sys::Expr>();
        if operand != column_type {
            let cast = pg_sys::CoercionForm::COERCE_IMPLICIT_CAST;
            left = pg_sys::makeRelabelType(left, operand, -1, collation, cast).cast();
        }
        let text_collation = if key == Key::Text { pg_sys::DEFAULT_COLLATION_OID } else { pg_sys::InvalidOid };
        let call = pg_sys::CoercionForm::COERCE_EXPLICIT_CALL;
        let accessor = registry::accessor(key);
        let right =
            pg_sys::makeFuncExpr(accessor, result, std::ptr::null_mut(), text_collation, pg_sys::InvalidOid, call);
        let none = pg_sys::InvalidOid;
        let equal = pg_sys::make_opclause(operator, pg_sys::BOOLOID, false, left, right.cast(), none, collation);
        (*equal.cast::<pg_sys::OpExpr>()).opfuncid = pg_sys::get_opcode(operator);
        equal.cast()
    }
}

/// The `=` between a column of this type and its accessor (oids that pg_operator.dat fixes), the type that its left side has,
/// and the accessor's type.
fn comparison(key: Key, column_type: pg_sys::Oid) -> (pg_sys::Oid, pg_sys::Oid, pg_sys::Oid) {
    let (operator, operand, result) = match (key, security::base_type(column_type)) {
        (Key::Uuid, _) => (2972, pg_sys::UUIDOID, pg_sys::UUIDOID),
        (Key::Text, _) => (98, pg_sys::TEXTOID, pg_sys::TEXTOID),
        (Key::Bigint, type_oid::INT4) => (15, pg_sys::INT4OID, pg_sys::INT8OID),
        (Key::Bigint, _) => (410, pg_sys::INT8OID, pg_sys::INT8OID),
    };
    (pg_sys::Oid::from(operator), operand, result)
}

/// Whether this is the border of `found` at `number`, also as the planner has simplified it.
///
/// # Safety
/// `qual` is NULL or a valid expression.
unsafe fn is_border(qual: *mut pg_sys::Node, found: &Entry, number: i32) -> bool {
    // SAFETY: the caller's promise; nodes have the type that their tag says.
    unsafe {
        if qual.is_null() {
            return false;
        }
        let Border::Column(key) = found.border else {
            let constant = qual.cast::<pg_sys::Const>();
            return (*qual).type_ == pg_sys::NodeTag::T_Const
                && ((*constant).constisnull || (*constant).constvalue.value() == 0);
        };
        if (*qual).type_ != pg_sys::NodeTag::T_OpExpr {
            return false;
        }
        let equal = qual.cast::<pg_sys::OpExpr>();
        let [left, right] = list::cells((*equal).args) else { return false };
        let mut left = left.ptr_value.cast::<pg_sys::Node>();
        while (*left).type_ == pg_sys::NodeTag::T_RelabelType {
            left = (*left.cast::<pg_sys::RelabelType>()).arg.cast();
        }
        let (column, accessor) = (left.cast::<pg_sys::Var>(), right.ptr_value.cast::<pg_sys::FuncExpr>());
        (*left).type_ == pg_sys::NodeTag::T_Var
            && i64::from((*column).varno) == i64::from(number)
            && (*column).varattno == found.column
            && (*column).varlevelsup == 0
            && (*accessor).xpr.type_ == pg_sys::NodeTag::T_FuncExpr
            && (*accessor).funcid == registry::accessor(key)
            && (*equal).opno == comparison(key, (*column).vartype).0
    }
}

/// Whether a protected relation that the planner is about to read has its border: its own, or that of the parent
/// for which it stands.
///
/// # Safety
/// `root` is valid and `number` is in its range table.
pub unsafe fn is_sealed(root: *const pg_sys::PlannerInfo, number: u32) -> bool {
    // SAFETY: the planner's arrays have an element for each entry of the range table, when they are there.
    unsafe {
        let mut number = number as usize;
        loop {
            let entry = *(*root).simple_rte_array.add(number);
            if (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION
                && let Some(found) = protected(entry)
                && list::cells((*entry).securityQuals).iter().any(|cell| {
                    let qual = cell.ptr_value.cast::<pg_sys::Node>();
                    is_border(qual, &found, number as i32) || is_border_of_list(qual, &found, number as i32)
                })
            {
                return true;
            }
            if (*root).append_rel_array.is_null() {
                return false;
            }
            let Some(append) = (*(*root).append_rel_array.add(number)).as_ref() else { return false };
            number = append.parent_relid as usize;
        }
    }
}

/// The planner turns each qualification into a list of what it joins by AND.
///
/// # Safety
/// `qual` is NULL or a valid expression or list.
unsafe fn is_border_of_list(qual: *mut pg_sys::Node, found: &Entry, number: i32) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        !qual.is_null()
            && (*qual).type_ == pg_sys::NodeTag::T_List
            && list::cells(qual.cast()).iter().any(|cell| is_border(cell.ptr_value.cast(), found, number))
    }
}

/// A new node, all zero but for its tag.
///
/// # Safety
/// `T` is the struct of that tag.
pub unsafe fn node<T>(tag: pg_sys::NodeTag) -> *mut T {
    // SAFETY: the caller's promise; every node begins with its tag, and palloc never returns NULL.
    unsafe {
        let node = pg_sys::palloc0(size_of::<T>());
        node.cast::<pg_sys::NodeTag>().write(tag);
        node.cast()
    }
}
