//! leak_test: tries to cross the border between tenants, as every role that somebody can become, and rolls everything back.
//!
//! `tables` says what is tried by whom, `probe` puts rows of two tenants there, `attempts` (pure) knows the SQL, `run` tries it and judges. Every attempt runs in a subtransaction and a restricted security
//! context of its own, so that nothing of it stays and no function of a user's can become superuser. What a superuser's rights are
//! needed for touches no code of a user's: probe rows are made as the tables' owners. This file is the SQL surface; the function is declared in
//! sql/leak_test.sql.

mod attempts;
mod probe;
mod run;
mod tables;

use pgrx::prelude::*;

use crate::context::{acting, state};
use crate::error::{self, Result};
use crate::pg::name::Name;
use crate::pg::{lock_timeout, security, settings, spi, version};

::pgrx::extension_sql_file!("../../sql/leak_test.sql", name = "leak_test", requires = ["lint"]);

/// A line of the answer.
pub struct Outcome {
    pub relation: pg_sys::Oid,
    pub role: Option<String>,
    pub attempt: String,
    pub result: &'static str,
    pub detail: Option<String>,
}

pub const HELD: &str = "held";
pub const LEAKED: &str = "leaked";
pub const SKIPPED: &str = "skipped";

/// `leak_test(relation regclass DEFAULT NULL)`: every attempt on the protected table, or on all of them, and what came of it.
///
/// Superuser only. Errors: 42501 for others; 55000 when the relation is not protected; 57014 when the statement is cancelled. Locks: those of the attempts (TRUNCATE
/// included: ACCESS EXCLUSIVE for a moment), each released with its attempt.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn leak_test(
    relation: Option<pg_sys::Oid>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(relation, pg_sys::Oid),
            name!(role, Option<Name>),
            name!(attempt, String),
            name!(result, String),
            name!(detail, Option<String>),
        ),
    >,
> {
    version::require()?;
    if !security::is_superuser() {
        return Err(error::denied(
            "must be superuser to run bulkhead.leak_test()",
            "It acts as every role and for every tenant.",
            "bulkhead.lint() is for everybody.",
        ));
    }
    let outcomes = run::all(relation)?;
    Ok(TableIterator::new(outcomes.into_iter().map(|outcome| {
        (outcome.relation, outcome.role.map(Name), outcome.attempt, outcome.result.to_owned(), outcome.detail)
    })))
}

/// Sets the tenant, a literal, as SET LOCAL would, in the innermost subtransaction. Called by a superuser, before the role changes.
fn act_for(tenant: &str) -> Result<()> {
    acting::without_token(|mode| settings::set_local(c"bulkhead.context_mode", mode));
    lock_timeout::set(lock_timeout::ATTEMPT);
    state::set_alone(true);
    let set = spi::run(&format!("SELECT pg_catalog.set_config('bulkhead.tenant_context', {tenant}, true)"), &[]);
    state::set_alone(false);
    set
}

/// Runs `work`, which changes the role, under the search_path that users have: their functions may need it. What runs before and after, as
/// superuser, must not meet their operators.
fn under_path<R>(path: &str, work: impl FnOnce() -> Result<R>) -> Result<R> {
    let set = |path: &str| spi::run("SELECT pg_catalog.set_config('search_path', $1, true)", &[path.into()]);
    set(path)?;
    let result = work()?;
    // After an error, the subtransaction's end does this.
    set(settings::PINNED_PATH)?;
    Ok(result)
}
