//! Whether the seal filters a statement, and if not, why not.

use pgrx::prelude::*;

use super::bypass;
use crate::error;
use crate::pg::planner::{Mode, Statement};
use crate::pg::{ddl, library, nesting, registry, security, settings};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The seal is not in force here, or the extension is not installed in this database.
    Off,
    /// Filtered by the tenant. `bypass_waits`: a bypass is there, for another role than the current one.
    Sealed { bypass_waits: bool },
    /// A foreign key's own query: it must see every row. Also what protect() and leak_test() ask about one table in that manner.
    Referential,
    /// The check of all rows when a foreign key is added or validated, or a partition detached.
    Validation,
    /// For a while: a bypass, or COPY by a process that replicates.
    Lifted,
}

/// Whether this session seals: the library was there before its first statement, and `bulkhead.seal` is on.
pub fn in_force() -> bool {
    library::preloaded() && settings::seal() && library::under_postmaster()
}

/// Whether every session does.
pub fn everywhere() -> bool {
    library::loaded() == library::Loaded::Shared && settings::seal() && library::under_postmaster()
}

/// For a statement that is about to be planned.
pub fn planning(statement: &Statement) -> Decision {
    if !in_force() || registry::is_not_installed() {
        return Decision::Off;
    }
    if nesting::is_referential() && statement.reads_one_table() {
        return Decision::Referential;
    }
    if ddl::validates() && statement.validates_foreign_key() {
        return Decision::Validation;
    }
    for_a_while()
}

/// For a planned statement that is about to start.
///
/// `referential`: it was planned as a query of referential integrity.
pub fn starting(referential: bool) -> Decision {
    match command() {
        Decision::Sealed { .. } | Decision::Lifted if referential && nesting::is_referential() => Decision::Referential,
        decision => decision,
    }
}

/// For COPY and TRUNCATE, which are never planned.
pub fn command() -> Decision {
    if !in_force() || registry::is_not_installed() {
        return Decision::Off;
    }
    for_a_while()
}

fn for_a_while() -> Decision {
    if nesting::now().replicating || bypass::acts() {
        return Decision::Lifted;
    }
    Decision::Sealed { bypass_waits: bypass::is_set() }
}

/// A protected relation is about to be looked up by the planner.
pub fn must_have_border(relation: pg_sys::Oid) -> bool {
    nesting::now().mode == Mode::Sealed && in_force() && registry::is_protected(relation)
}

pub fn refuse_without_border(relation: pg_sys::Oid) {
    let table = security::relation_name(relation);
    error::denied(
        format!("protected table {table} was reached without its tenant's filter"),
        "Something brought the table into the plan that the seal does not see: a parent that is not protected, or another extension.",
        "Query the protected table itself. SELECT * FROM bulkhead.protected_tables lists what is protected.",
    )
    .report(PgLogLevel::ERROR);
}
