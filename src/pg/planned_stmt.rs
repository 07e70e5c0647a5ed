//! Reads plans: which relations a statement touches, and whether it is a lone switch of the tenant.

use std::ffi::CStr;

use pgrx::prelude::*;

use super::registry::{self, Border};
use super::{list, security};
use crate::rls::key::Key;

/// A relation that a statement names, directly or through a view or an inlined function.
pub struct Touched {
    pub relation: pg_sys::Oid,
    /// The role whose rights count: the current one, or the owner of the view that names the relation.
    pub as_role: pg_sys::Oid,
}

/// Every relation of the statement whose privileges the server will check, in range-table order. Children that the
/// planner added for a parent are left out: their parent stands for them.
pub fn relations(statement: &pg_sys::PlannedStmt) -> impl Iterator<Item = Touched> {
    // SAFETY: the lists belong to the plan, which outlives this call, and hold nodes of the type their field says.
    unsafe {
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let permissions = list::cells(statement.permInfos);
        list::cells(statement.rtable).iter().filter_map(move |cell| {
            let entry = &*cell.ptr_value.cast::<pg_sys::RangeTblEntry>();
            if entry.rtekind != pg_sys::RTEKind::RTE_RELATION || !is_named(entry) {
                return None;
            }
            #[cfg(any(feature = "pg14", feature = "pg15"))]
            let as_role = entry.checkAsUser;
            #[cfg(not(any(feature = "pg14", feature = "pg15")))]
            let as_role = {
                let at = entry.perminfoindex as usize - 1;
                (*permissions.get(at)?.ptr_value.cast::<pg_sys::RTEPermissionInfo>()).checkAsUser
            };
            let as_role = if as_role == pg_sys::InvalidOid { security::current_role() } else { as_role };
            Some(Touched { relation: entry.relid, as_role })
        })
    }
}

/// What a statement that is about to start is to us.
pub enum Concern {
    /// Nothing: its relations are not registered.
    None,
    /// It reaches this observed relation, once, and nothing else that is registered.
    Observed(pg_sys::Oid, Key),
    /// To be looked at.
    Unknown,
}

/// Calls nothing of the server's, so that it needs no guard.
///
/// # Safety
/// `statement` is valid.
#[inline(always)]
pub unsafe fn concern(statement: *const pg_sys::PlannedStmt) -> Concern {
    let concern = registry::peek(|known| {
        let mut concern = Concern::None;
        // SAFETY: the caller's promise; the entries of a range table.
        for cell in unsafe { list::cells((*statement).rtable) } {
            // SAFETY: as above.
            let entry = unsafe { &*cell.ptr_value.cast::<pg_sys::RangeTblEntry>() };
            if entry.rtekind != pg_sys::RTEKind::RTE_RELATION {
                continue;
            }
            concern = match (known.border(entry.relid), concern) {
                (None, concern) => concern,
                (Some(Border::Observed(key)), Concern::None) if is_named(entry) => Concern::Observed(entry.relid, key),
                _ => return Concern::Unknown,
            };
        }
        concern
    });
    concern.unwrap_or(Concern::Unknown)
}

/// The server will check privileges for it: it is not a child that the planner added.
fn is_named(entry: &pg_sys::RangeTblEntry) -> bool {
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    return entry.requiredPerms != 0;
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    return entry.perminfoindex != 0;
}

/// Every cached plan of this backend is made again before its next use.
pub fn forget_cached() {
    // SAFETY: marks the plans of a list; raises nothing.
    unsafe { pg_sys::ResetPlanCache() };
}

/// Whether the receiver sends rows or the completion straight to the client: only a top-level statement has such a one.
///
/// # Safety
/// `dest` is NULL or valid.
pub unsafe fn goes_to_client(dest: *const pg_sys::DestReceiver) -> bool {
    use pg_sys::CommandDest as To;
    // SAFETY: the caller's promise.
    unsafe { dest.as_ref() }
        .is_some_and(|dest| [To::DestRemote, To::DestRemoteExecute, To::DestRemoteSimple].contains(&dest.mydest))
}

/// The cheap part of `is_lone_switch`, which settles nearly every statement: a plan without any input.
///
/// # Safety
/// `query` is valid.
pub unsafe fn may_be_lone_switch(query: *const pg_sys::QueryDesc) -> bool {
    // SAFETY: the caller's promise; a query's plan tree is never NULL but for utility commands.
    unsafe {
        let statement = &*(*query).plannedstmt;
        statement.commandType == pg_sys::CmdType::CMD_SELECT
            && !statement.planTree.is_null()
            && (*statement.planTree).type_ == pg_sys::NodeTag::T_Result
            && (*statement.planTree).lefttree.is_null()
            && statement.subplans.is_null()
            && goes_to_client((*query).dest)
    }
}

/// Whether a top-level query is `SELECT set_config(…)` or `SELECT bulkhead.set_tenant(…)` on constants and parameters and
/// nothing else: no other expression can then run between the switch and the end of the statement.
///
/// # Safety
/// `query` is valid and `may_be_lone_switch`.
pub unsafe fn is_lone_switch(query: *const pg_sys::QueryDesc) -> bool {
    // SAFETY: the caller's promise; nodes have the type that their tag says.
    unsafe {
        let result = (*(*query).plannedstmt).planTree.cast::<pg_sys::Result>();
        if !(*result).resconstantqual.is_null() {
            return false;
        }
        let [target] = list::cells((*(*(*query).plannedstmt).planTree).targetlist) else { return false };
        let call = (*target.ptr_value.cast::<pg_sys::TargetEntry>()).expr.cast::<pg_sys::FuncExpr>();
        (*call).xpr.type_ == pg_sys::NodeTag::T_FuncExpr
            && is_switch((*call).funcid)
            && list::cells((*call).args).iter().all(|argument| is_plain(argument.ptr_value.cast()))
    }
}

fn is_switch(function: pg_sys::Oid) -> bool {
    if function.to_u32() == pg_sys::F_SET_CONFIG {
        return true;
    }
    // SAFETY: look-ups in the system caches; the names are palloc'd or NULL.
    unsafe {
        let name = pg_sys::get_func_name(function);
        let schema = pg_sys::get_namespace_name(pg_sys::get_func_namespace(function));
        !name.is_null()
            && !schema.is_null()
            && CStr::from_ptr(name) == c"set_tenant"
            && CStr::from_ptr(schema) == c"bulkhead"
    }
}

/// A constant or a parameter, at most cast between built-in types: nothing that could run a user's code.
///
/// # Safety
/// `node` is a valid expression.
unsafe fn is_plain(node: *mut pg_sys::Node) -> bool {
    // SAFETY: the caller's promise; nodes have the type that their tag says.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_Const | pg_sys::NodeTag::T_Param => true,
            pg_sys::NodeTag::T_RelabelType => is_plain((*node.cast::<pg_sys::RelabelType>()).arg.cast()),
            pg_sys::NodeTag::T_CoerceViaIO => {
                let argument = (*node.cast::<pg_sys::CoerceViaIO>()).arg.cast();
                pg_sys::exprType(argument).to_u32() < pg_sys::FirstNormalObjectId && is_plain(argument)
            }
            _ => false,
        }
    }
}
