//! Utility commands, as the seal and the lock see them: what has to be noted, rewritten or refused before one runs.

use std::cell::Cell;

use pgrx::prelude::*;

use super::cell::PerBackend;
use super::nesting::{self, Nesting};
use super::{copy, cursors, ddl, group, list, registry};
use crate::observe;
use crate::seal::{bypass, decision, housekeeping};

/// The table of the TRUNCATE in hand that was counted last: the server asks about a table again when it has heard of any change before it
/// had the table's lock.
static COUNTED_LAST: PerBackend<Cell<pg_sys::Oid>> = PerBackend::new(Cell::new(pg_sys::InvalidOid));

/// Called before a utility command; what is to be run in its place. What it notes, `nesting::leave` takes back.
///
/// # Safety
/// `statement` is valid.
pub unsafe fn before(statement: *mut pg_sys::PlannedStmt) -> *mut pg_sys::PlannedStmt {
    use pg_sys::NodeTag::*;
    // SAFETY: the caller's promise; nodes have the type that their tag says.
    unsafe {
        let node = (*statement).utilityStmt;
        match (*node).type_ {
            T_CopyStmt if is_idle() => {}
            T_CopyStmt if pg_sys::am_walsender => {
                nesting::enter(|now| now.replicating = true);
            }
            T_CopyStmt => match copy::rewrite(statement) {
                Ok(statement) => return statement,
                Err(report) => report.report(PgLogLevel::ERROR),
            },
            T_AlterTableStmt if !is_idle() => match ddl::begin() {
                Ok(altering) => {
                    let detaching = detaches(node.cast());
                    nesting::enter(|now| {
                        now.altering = altering;
                        now.detaching = detaching;
                    });
                }
                Err(report) => report.report(PgLogLevel::ERROR),
            },
            T_TruncateStmt => COUNTED_LAST.set(pg_sys::InvalidOid),
            T_FetchStmt | T_DoStmt | T_CallStmt => cursors::close_foreign(),
            T_DropdbStmt | T_RenameStmt | T_AlterDatabaseStmt | T_CreatedbStmt => group::away::before(node),
            _ => {}
        }
        statement
    }
}

/// DETACH PARTITION is a command of its own, which no other can be combined with.
///
/// # Safety
/// `command` is valid.
unsafe fn detaches(command: *const pg_sys::AlterTableStmt) -> bool {
    use pg_sys::AlterTableType::{AT_DetachPartition, AT_DetachPartitionFinalize};
    // SAFETY: the caller's promise; the list is of such nodes.
    unsafe {
        list::cells((*command).cmds).iter().all(|cell| {
            let part = (*cell.ptr_value.cast::<pg_sys::AlterTableCmd>()).subtype;
            part == AT_DetachPartition || part == AT_DetachPartitionFinalize
        })
    }
}

/// Called after a utility command that succeeded.
///
/// # Safety
/// `statement` is the valid statement that was run.
pub unsafe fn after(statement: *mut pg_sys::PlannedStmt, before: Nesting) {
    nesting::leave(before);
    // SAFETY: as above.
    unsafe {
        match (*(*statement).utilityStmt).type_ {
            pg_sys::NodeTag::T_DeclareCursorStmt => cursors::declared((*statement).utilityStmt.cast()),
            // The worker of this database has to see for itself what is there now.
            pg_sys::NodeTag::T_DropStmt => {
                let drop = (*statement).utilityStmt.cast::<pg_sys::DropStmt>();
                if (*drop).removeType == pg_sys::ObjectType::OBJECT_EXTENSION {
                    group::ringing::anything();
                }
            }
            // Of an update. Of what else is altered there, no session has to hear.
            pg_sys::NodeTag::T_AlterExtensionStmt => registry::announce_change(),
            pg_sys::NodeTag::T_TransactionStmt => {
                let command = (*statement).utilityStmt.cast::<pg_sys::TransactionStmt>();
                if (*command).kind == pg_sys::TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED {
                    group::ringing::prepared();
                }
            }
            _ => {}
        }
    }
}

fn is_idle() -> bool {
    !decision::in_force() || registry::is_not_installed()
}

/// Called for each table that TRUNCATE is about to empty, those that it cascades to included.
pub fn check_truncate(relation: pg_sys::Oid) {
    // SAFETY: reads a variable of the server's. A subscription's worker does what its publisher was allowed to.
    if is_idle() || unsafe { pg_sys::IsLogicalWorker() } || housekeeping::may_empty(relation) {
        return;
    }
    let decision = decision::command();
    let sealed = matches!(decision, decision::Decision::Sealed { .. });
    if decision == decision::Decision::Lifted && registry::is_protected(relation) {
        bypass::note();
    }
    if let Some(registry::Entry { border: registry::Border::Observed(_), .. }) = registry::find(relation)
        && sealed
        && COUNTED_LAST.replace(relation) != relation
    {
        observe::note(relation);
    }
    if sealed && registry::is_protected(relation) {
        let what = format!("TRUNCATE of protected table {}", super::security::relation_name(relation));
        if let Err(report) = bypass::require(&what, "It deletes the rows of all tenants.") {
            report.report(PgLogLevel::ERROR);
        }
    }
}
