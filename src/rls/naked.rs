//! Statements that touch a protected table: refused without a tenant, and noted by the transaction's lock.

use pgrx::prelude::*;

use crate::context::before::Before;
use crate::context::state;
use crate::context::tenant::Tenant;
use crate::error;
use crate::pg::planned_stmt::Touched;
use crate::pg::registry::{Border, Entry};
use crate::pg::security::Rls;
use crate::pg::settings::{ContextMode, MissingContext, context_mode, missing_context};
use crate::pg::{library, nesting, registry, security, settings, version};
use crate::rls::key::Key;
use crate::seal::decision::Decision;
use crate::seal::{bypass, housekeeping};

/// Nothing to check: the extension is not installed in this database, or protect() itself asks, under its exclusive lock. Whatever else runs meanwhile is a function
/// of the owner's.
///
/// `referential`: planned as a query of referential integrity.
pub fn is_idle(referential: bool) -> bool {
    registry::is_not_installed() || referential && super::apply::is_busy()
}

/// Called for each relation of each statement, before the statement yields its first row. Raises 42501 for a protected
/// relation when there is no tenant that it could hold: under the seal for every role, and otherwise where row level security filters
/// it for `touched.as_role`. True for an observed relation whose statement would be refused.
pub fn check(touched: &Touched, decision: Decision) -> bool {
    let Some(entry) = registry::find(touched.relation) else { return false };
    if let Border::Observed(key) = entry.border {
        return matches!(decision, Decision::Sealed { .. }) && !state::with_tenant(|tenant| key.fits(tenant));
    }
    check_protected(touched, entry, decision);
    false
}

fn check_protected(touched: &Touched, entry: Entry, decision: Decision) {
    let sealed = matches!(decision, Decision::Sealed { .. });
    let key = match entry.border {
        Border::Shared | Border::Exposing | Border::Observed(_) => return,
        Border::Column(key) => key,
        Border::Lost => return check_lost(touched, sealed),
    };
    if settings::seal()
        && let Err(report) = version::require()
    {
        report.report(PgLogLevel::ERROR);
    }
    let (none, fits) = state::with_tenant(|tenant| (tenant.is_none(), key.fits(tenant)));
    if sealed {
        if fits || missing_context() == MissingContext::Empty {
            return state::touch();
        }
        return report_missing(touched, key, none);
    }
    if !entry.own && !security::bypasses_rls(touched.as_role) {
        return report_stray(touched);
    }
    let rls = if fits && !nesting::unforced() { Rls::Binds } else { security::rls(touched.relation, touched.as_role) };
    match rls {
        Rls::Suspended if nesting::inside_referential() => report_trigger(touched.relation),
        // What row level security does not bind runs without a tenant too: migrations, and referential integrity.
        Rls::Suspended | Rls::Exempt if none => {}
        Rls::Suspended | Rls::Exempt => state::touch(),
        Rls::Binds if fits || !library::preloaded() || missing_context() == MissingContext::Empty => state::touch(),
        Rls::Binds => report_missing(touched, key, none),
    }
}

/// COPY of a protected table under the seal. Rows that come in need a tenant, whatever `bulkhead.missing_context` says.
pub fn check_copy(touched: &Touched, is_from: bool) {
    let Some(entry) = registry::find(touched.relation) else { return };
    check_protected(touched, entry, Decision::Sealed { bypass_waits: false });
    if is_from
        && let Border::Column(key) = entry.border
        && !state::with_tenant(|tenant| key.fits(tenant))
    {
        report_missing(touched, key, state::with_tenant(Tenant::is_none));
    }
}

fn report_missing(touched: &Touched, key: Key, none: bool) {
    let table = format!("protected table {}", security::relation_name(touched.relation));
    let report = if none {
        let exempt = security::bypasses_rls(security::current_role());
        error::no_tenant(&table, exempt)
    } else {
        error::denied(
            format!("the tenant context cannot be a tenant of {table}"),
            format!("The table's tenant column is of type {0}, and the context is no {0}.", key.name()),
            "Set the tenant to a value of the tenant column's type.",
        )
    };
    report.report(PgLogLevel::ERROR);
}

/// A parent without a border, above a protected table: the event trigger that refuses it did not run.
pub fn report_exposing(relation: pg_sys::Oid) {
    let table = security::relation_name(relation);
    error::denied(
        format!("{table} is a parent of a protected table, but is not protected"),
        "A query on the parent would reach the protected rows without their tenant's filter.",
        format!("SELECT bulkhead.protect('{table}'), or query it with ONLY."),
    )
    .report(PgLogLevel::ERROR);
}

/// A plan that was made past the seal must not run when what lifted it is over.
pub fn check_lifted_plan(decision: Decision) {
    if decision == Decision::Lifted {
        bypass::note();
    }
    if matches!(decision, Decision::Lifted | Decision::Off) {
        return;
    }
    crate::pg::planned_stmt::forget_cached();
    error::state(
        "this plan was made under a bypass that is not in force any more",
        "A bypass ends with its transaction, and acts only for the role that began it; so do the cursors opened under it.",
        "Run the statement again; it is then planned anew.",
    )
    .report(PgLogLevel::ERROR);
}

/// A cursor that outlives its transaction would take rows of all tenants with it.
pub fn refuse_held() {
    error::state(
        "a cursor of a bypass cannot outlive its transaction",
        "Its rows were read past the seal, and the bypass ends with the transaction.",
        "Read it to its end before COMMIT, or declare it WITHOUT HOLD.",
    )
    .report(PgLogLevel::ERROR);
}

/// The tenant column was dropped, with CASCADE and its policies.
fn check_lost(touched: &Touched, sealed: bool) {
    if sealed || security::rls(touched.relation, touched.as_role) == Rls::Binds {
        let table = security::relation_name(touched.relation);
        error::state(
            format!("protected table {table} has lost its tenant column"),
            "Nobody's rows can be told apart any more.",
            format!("Add the column again and call bulkhead.protect(), or SELECT bulkhead.unprotect('{table}')."),
        )
        .report(PgLogLevel::ERROR);
    }
}

/// A child that appeared where the event trigger does not fire: its parent's tenants are in it, and no policy of its own.
fn report_stray(touched: &Touched) {
    let table = security::relation_name(touched.relation);
    error::state(
        format!("{table} is below a protected table, but has no protection of its own"),
        "It appeared while event triggers were off.",
        "Call bulkhead.protect() for its parent again.",
    )
    .report(PgLogLevel::ERROR);
}

/// A BEFORE trigger that fires inside a foreign key's action runs with forced row level security off, so it would see and
/// write every tenant.
pub fn report_trigger(relation: pg_sys::Oid) {
    let table = security::relation_name(relation);
    if housekeeping::is_archiving() {
        return error::denied(
            format!("an on_expire function cannot use protected table {table}"),
            "It may read the rows of all tenants in the partition that it was called for, and in no other protected table.",
            "Read the partition that is its argument, not its parent.",
        )
        .report(PgLogLevel::ERROR);
    }
    error::denied(
        format!("a trigger inside a foreign key action cannot use protected table {table}"),
        "PostgreSQL suspends the owner's row level security there, so the trigger would see every tenant's rows.",
        "Make it an AFTER trigger: those fire when the action is done.",
    )
    .report(PgLogLevel::ERROR);
}

/// Called when a statement starts that may use parallel workers. What functions read in a worker cannot be noted here, so
/// the transaction is taken to have touched; and a worker would not know of a tenant that is hidden.
pub fn check_parallel() {
    if state::is_hidden() {
        error::no_tenant("a parallel query", false).report(PgLogLevel::ERROR);
    }
    if !state::with_tenant(|tenant| tenant.is_none()) {
        state::touch();
    }
}

/// Called when the setting changed while a statement was planned. A function that the planner evaluates (one declared
/// IMMUTABLE) must not choose the tenant that the statement runs with.
pub fn check_planning(before: Before) {
    if context_mode() == ContextMode::Open || !before.has_another_come() {
        return;
    }
    error::denied(
        "the tenant was set while the statement was being planned",
        "A function called by the planner set bulkhead.tenant_context, and bulkhead.context_mode is not open.",
        "Declare functions that set the tenant VOLATILE, and call them before the statement.",
    )
    .report(PgLogLevel::ERROR);
}
