//! COPY on a protected table: the server reads and writes its rows without a plan, so the border goes into the command.
//!
//! COPY TO becomes COPY of a query, which is planned and filtered like any other. COPY FROM gets a condition that raises
//! for a row of another tenant. Both are made from nodes, never from text.

use std::ffi::CStr;

use pgrx::prelude::*;

use super::filter::node;
use super::planned_stmt::Touched;
use super::registry::{self, Border, Entry};
use super::security::{self, Rls};
use super::{list, relations, version};
use crate::context::state;
use crate::context::tenant::Tenant;
use crate::error::{self, Result};
use crate::observe;
use crate::rls::key::Key;
use crate::rls::naked;
use crate::seal::bypass;
use crate::seal::decision::{self, Decision};

/// The statement to run in place of a COPY: itself, or a copy that keeps to the border.
///
/// # Safety
/// `statement` is a valid COPY.
pub unsafe fn rewrite(statement: *mut pg_sys::PlannedStmt) -> Result<*mut pg_sys::PlannedStmt> {
    // SAFETY: the caller's promise; nodes have the type that their field says.
    unsafe {
        let command = (*statement).utilityStmt.cast::<pg_sys::CopyStmt>();
        if (*command).relation.is_null() {
            return Ok(statement);
        }
        let lock = if (*command).is_from { pg_sys::RowExclusiveLock } else { pg_sys::AccessShareLock };
        let flags = pg_sys::RVROption::RVR_MISSING_OK;
        let relation =
            pg_sys::RangeVarGetRelidExtended((*command).relation, lock as i32, flags, None, std::ptr::null_mut());
        let decision = decision::command();
        let role = security::current_role();
        if let Some(Entry { border: Border::Observed(_), .. }) = registry::find(relation) {
            if naked::check(&Touched { relation, as_role: role }, decision) {
                observe::note(relation);
            }
            return Ok(statement);
        }
        let Some(found) = registry::find(relation).filter(|found| !matches!(found.border, Border::Shared)) else {
            return Ok(statement);
        };
        if !matches!(found.border, Border::Exposing) {
            version::require()?;
        }
        if !matches!(decision, Decision::Sealed { .. }) {
            bypass::note();
            return Ok(statement);
        }
        // A restored dump brings the rows of all tenants; nobody but the extension's owner may write there.
        if found.ours && (*command).is_from && state::with_tenant(Tenant::is_none) {
            return Ok(statement);
        }
        // Nor does a dump of a database that never used them need a bypass.
        if found.ours
            && !(*command).is_from
            && state::with_tenant(Tenant::is_none)
            && relations::was_never_filled(relation)
        {
            return Ok(statement);
        }
        if matches!(found.border, Border::Exposing) {
            // Copying out takes the parent's own rows only; copying in is routed to the partitions.
            if (*command).is_from && security::is_partitioned(relation) {
                naked::report_exposing(relation);
            }
            return Ok(statement);
        }
        // Core copies nothing into a table whose policies bind the role; nor does a partitioned table have rows to copy out.
        let core_refuses = if (*command).is_from {
            security::rls(relation, role) == Rls::Binds
        } else {
            security::is_partitioned(relation)
        };
        if core_refuses {
            return Ok(statement);
        }
        naked::check_copy(&Touched { relation, as_role: role }, (*command).is_from);
        let copy = pg_sys::copyObjectImpl(statement.cast()).cast::<pg_sys::PlannedStmt>();
        let command = (*copy).utilityStmt.cast::<pg_sys::CopyStmt>();
        // The name that was looked up, and no other that may come before it in the search path meanwhile.
        (*(*command).relation).schemaname = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        if (*command).is_from {
            check_rows(command, &found)?;
        } else {
            read_by_query(command, relation);
        }
        Ok(copy)
    }
}

/// `COPY t (a, b) TO` becomes `COPY (SELECT a, b FROM ONLY t) TO`.
///
/// # Safety
/// `command` is valid, may be changed, and names `relation`.
unsafe fn read_by_query(command: *mut pg_sys::CopyStmt, relation: pg_sys::Oid) {
    // SAFETY: the caller's promise; lists are of the nodes that the grammar makes.
    unsafe {
        let mut columns = (*command).attlist;
        if columns.is_null() {
            columns = copied_columns(relation);
        }
        let mut targets = std::ptr::null_mut();
        for column in list::cells(columns) {
            let reference = column_reference(column.ptr_value.cast());
            let target = node::<pg_sys::ResTarget>(pg_sys::NodeTag::T_ResTarget);
            (*target).val = reference;
            (*target).location = -1;
            targets = pg_sys::lappend(targets, target.cast());
        }
        // Core copies a table without its children.
        (*(*command).relation).inh = false;
        let select = node::<pg_sys::SelectStmt>(pg_sys::NodeTag::T_SelectStmt);
        (*select).targetList = targets;
        (*select).fromClause = pg_sys::lappend(std::ptr::null_mut(), (*command).relation.cast());
        (*command).query = select.cast();
        (*command).relation = std::ptr::null_mut();
        (*command).attlist = std::ptr::null_mut();
    }
}

/// `COPY t FROM … WHERE c` gets `WHERE c AND bulkhead.copied_row_uuid(tenant_column)`, or the one for text or bigint.
///
/// # Safety
/// As above.
unsafe fn check_rows(command: *mut pg_sys::CopyStmt, found: &Entry) -> Result<()> {
    let Border::Column(key) = found.border else { return Ok(()) };
    let table = security::relation_name(found.relation);
    if relations::is_generated(found.relation, found.column) {
        return Err(error::state(
            format!("cannot copy into {table}: its tenant column is generated"),
            "The seal could not check the rows, because the column has no value yet when it looks.",
            "Use INSERT, or a bypass.",
        ));
    }
    if relations::family(found.relation, pg_sys::AccessShareLock as i32)
        .into_iter()
        .any(relations::has_before_insert_trigger)
    {
        return Err(error::state(
            format!("cannot copy into {table}: it has a BEFORE INSERT trigger for each row"),
            "The trigger could change a row's tenant after the seal has checked it.",
            "Copy into a staging table and use INSERT ... SELECT, or use a bypass.",
        ));
    }
    let name = match key {
        Key::Uuid => c"copied_row_uuid",
        Key::Text => c"copied_row_text",
        Key::Bigint => c"copied_row_bigint",
    };
    // SAFETY: nodes as the grammar makes them, from palloc'd strings.
    unsafe {
        let string = |text: &CStr| pg_sys::makeString(pg_sys::pstrdup(text.as_ptr()));
        let mut path = pg_sys::lappend(std::ptr::null_mut(), string(c"bulkhead").cast());
        path = pg_sys::lappend(path, string(name).cast());
        let column = pg_sys::makeString(pg_sys::get_attname(found.relation, found.column, false));
        let arguments = pg_sys::lappend(std::ptr::null_mut(), column_reference(column.cast()).cast());
        let call = pg_sys::makeFuncCall(path, arguments, pg_sys::CoercionForm::COERCE_EXPLICIT_CALL, -1);
        (*command).whereClause = if (*command).whereClause.is_null() {
            call.cast()
        } else {
            let both = pg_sys::lappend(std::ptr::null_mut(), (*command).whereClause.cast());
            pg_sys::makeBoolExpr(pg_sys::BoolExprType::AND_EXPR, pg_sys::lappend(both, call.cast()), -1).cast()
        };
    }
    Ok(())
}

/// # Safety
/// `name` is a string node.
unsafe fn column_reference(name: *mut pg_sys::Node) -> *mut pg_sys::Node {
    // SAFETY: the caller's promise.
    unsafe {
        let reference = node::<pg_sys::ColumnRef>(pg_sys::NodeTag::T_ColumnRef);
        (*reference).fields = pg_sys::lappend(std::ptr::null_mut(), name.cast());
        (*reference).location = -1;
        reference.cast()
    }
}

/// The columns that COPY without a list copies: all but the generated ones.
fn copied_columns(relation: pg_sys::Oid) -> *mut pg_sys::List {
    let mut columns = std::ptr::null_mut();
    for number in relations::stored_columns(relation) {
        // SAFETY: the column is there, under the relation's lock.
        unsafe {
            let name = pg_sys::makeString(pg_sys::get_attname(relation, number, false));
            columns = pg_sys::lappend(columns, name.cast());
        }
    }
    columns
}
