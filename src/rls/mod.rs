//! rls: protect a table's tenants in one call, and keep them protected.
//!
//! `shape` reads what a table looks like, `steps` (pure) says what has to be done, `apply` does it; in the same way `share`
//! does what `shared` says, and `online_plan` asks `online_steps` how to go about a table under load. `registry_rows` keeps the registry, `follow` reacts
//! to later DDL, `own` tells what a protected table has by itself, `naked` refuses statements without a tenant. This file is the SQL surface; the functions are declared in
//! sql/rls.sql.

mod apply;
pub mod facts;
mod follow;
pub mod key;
pub mod naked;
mod online_plan;
mod online_steps;
mod own;
mod registry_rows;
mod shape;
mod share;
mod shared;
mod steps;

use std::ffi::CStr;

use pgrx::prelude::*;

use crate::error::{self, Result};
use crate::observe;
use crate::pg::inventory::all_registered;
use crate::pg::{client, registry, spi, version};

::pgrx::extension_sql_file!("../../sql/rls.sql", name = "rls", requires = ["context"]);

pub use apply::observe;
pub use own::{bare, row_security};
pub use steps::FLOOR;

type Lines = SetOfIterator<'static, String>;

/// An argument that must not be NULL: a call that silently did nothing would leave a table open.
pub fn given<T>(argument: Option<T>) -> Result<T> {
    argument.ok_or_else(|| {
        error::argument("the relation and the tenant column must not be NULL", "Name a table and its column.")
    })
}

/// `protect(relation regclass, tenant_column name DEFAULT 'tenant_id')`: isolates the table's tenants, children included.
///
/// Returns the statements that it ran, none when everything was in place; comments say what it left alone. Errors: 42501 not
/// the owner; 22023 no such column, an unfit type or relation; 55000 NULLs in the column, no index on a large table, or a parent that
/// is not protected; 25006 read-only. Takes ACCESS EXCLUSIVE on the table and its children when there is anything to do.
#[pg_extern(sql = false)]
fn protect(relation: Option<pg_sys::Oid>, tenant_column: Option<&CStr>) -> Result<Lines> {
    version::require()?;
    client::refuse_read_only(c"protect()");
    Ok(SetOfIterator::new(apply::protect(given(relation)?, &given(tenant_column)?.to_string_lossy())?))
}

/// `protect_plan(relation regclass, tenant_column name DEFAULT 'tenant_id')`: the statements that protect a table under load.
///
/// Errors as protect(). Changes nothing and takes no lock.
#[pg_extern(sql = false)]
fn protect_plan(relation: Option<pg_sys::Oid>, tenant_column: Option<&CStr>) -> Result<Lines> {
    version::require()?;
    Ok(SetOfIterator::new(online_plan::plan(given(relation)?, &given(tenant_column)?.to_string_lossy())?))
}

/// `unprotect(relation regclass)`: the state that protect() or share() found. Returns the statements that it ran. For an observed table:
/// ends the observation.
///
/// Errors: 42501 not the owner; 55000 not registered, or registered through a parent; 25006 read-only. Takes ACCESS EXCLUSIVE.
#[pg_extern(sql = false)]
fn unprotect(relation: Option<pg_sys::Oid>) -> Result<Lines> {
    version::require()?;
    client::refuse_read_only(c"unprotect()");
    Ok(SetOfIterator::new(apply::unprotect(given(relation)?)?))
}

/// `unprotect_all()`: unprotect() for every registered and every observed table. Errors and locks as unprotect().
#[pg_extern(sql = false)]
fn unprotect_all() -> Result<Lines> {
    version::require()?;
    client::refuse_read_only(c"unprotect_all()");
    let mut done = Vec::new();
    let observed = observe::recorded()?;
    for relation in registry_rows::roots()?.into_iter().chain(observed) {
        pgrx::check_for_interrupts!();
        done.extend(apply::unprotect(relation)?);
    }
    Ok(SetOfIterator::new(done))
}

/// `share(relation regclass)`: every tenant reads the table, and none writes it; its owner does.
///
/// Returns the statements that it ran. Errors: 42501 not the owner; 22023 an unfit relation; 55000 a child table; 25006 read-only. Takes ACCESS EXCLUSIVE.
#[pg_extern(sql = false)]
fn share(relation: Option<pg_sys::Oid>) -> Result<Lines> {
    version::require()?;
    client::refuse_read_only(c"share()");
    Ok(SetOfIterator::new(share::share(given(relation)?)?))
}

/// Trigger on the registry: every session reads it anew.
#[pg_extern(sql = false)]
fn announce_protection() {
    registry::announce_change();
}

/// Event trigger at the end of DDL: partitions and children of protected tables become protected, renames are followed.
#[pg_extern(sql = false)]
fn follow_ddl() -> Result<()> {
    // Before any query: all DDL of the database passes here.
    if apply::is_busy() || (registry::has_only_ours() && all_registered().is_empty()) {
        return Ok(());
    }
    let touched = spi::rows(
        "SELECT c.oid, c.relhassubclass FROM pg_event_trigger_ddl_commands() d JOIN pg_class c ON c.oid = d.objid
          WHERE d.classid = 'pg_class'::regclass
         UNION
         SELECT c.oid, c.relhassubclass FROM pg_event_trigger_ddl_commands() d JOIN pg_policy p ON p.oid = d.objid
           JOIN pg_class c ON c.oid = p.polrelid
          WHERE d.classid = 'pg_policy'::regclass",
        &[],
        |row| Ok((row.get(1)?, row.get(2)?)),
    )?;
    follow::ddl(&touched)
}

/// Event trigger after drops: what is gone is forgotten.
#[pg_extern(sql = false)]
fn follow_drop() -> Result<()> {
    let dropped = spi::rows(
        "SELECT o.objid FROM pg_event_trigger_dropped_objects() o
          WHERE o.classid = 'pg_class'::regclass AND o.objsubid = 0 AND o.object_type IN ('table', 'foreign table')",
        &[],
        |row| row.get(1),
    )?;
    follow::drop(&dropped)
}
