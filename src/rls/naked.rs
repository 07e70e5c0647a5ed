//! Statements that touch a protected table: refused without a tenant, and noted by the transaction's lock.

use pgrx::prelude::*;

use crate::context::state;
use crate::error;
use crate::pg::plan::Touched;
use crate::pg::settings::{ContextMode, MissingContext, context_mode, missing_context};
use crate::pg::{library, registry, security};

/// Called for each relation of each statement, before the statement yields its first row. Raises 42501 for a protected
/// relation that row level security filters for `touched.as_role` when there is no tenant that it could hold.
pub fn check(touched: &Touched) {
    let Some(key) = registry::find(touched.relation).and_then(|entry| entry.key) else { return };
    let (none, fits) = state::with_tenant(|tenant| (tenant.is_none(), key.fits(tenant)));
    if fits {
        state::touch();
        return;
    }
    if !security::rls_binds(touched.relation, touched.as_role) {
        // What row level security does not bind runs without a tenant too: migrations, and referential integrity.
        if !none {
            state::touch();
        }
        return;
    }
    if !library::preloaded() || missing_context() == MissingContext::Empty {
        state::touch();
        return;
    }
    let table = format!("protected table {}", security::relation_name(touched.relation));
    let report = if none {
        error::no_tenant(&table, state::ended_with_its_transaction(), state::is_hidden())
    } else {
        error::denied(
            format!("the tenant context cannot be a tenant of {table}"),
            format!("The table's tenant column is of type {0}, and the context is no {0}.", key.name()),
            "Set the tenant to a value of the tenant column's type.",
        )
    };
    report.report(PgLogLevel::ERROR);
}

/// Called when a statement was planned that began without a tenant. A function that the planner evaluates (one declared
/// IMMUTABLE) must not choose the tenant for it: the statement would run with rights nobody gave it.
pub fn check_planning() {
    if context_mode() == ContextMode::Open || state::with_tenant(|tenant| tenant.is_none()) {
        return;
    }
    error::denied(
        "the tenant was set while the statement was being planned",
        "A function called by the planner set bulkhead.tenant_context, and bulkhead.context_mode is locked.",
        "Declare functions that set the tenant VOLATILE, and call them before the statement.",
    )
    .report(PgLogLevel::ERROR);
}
