//! The context: the tenant that the current transaction acts for.
//!
//! The setting `bulkhead.tenant_context` is the only place a tenant comes from. Its hooks (src/pg/settings.rs) parse
//! it once and publish it in `state`; the accessors (src/pg/accessors.rs) hand it to policies; `lock` keeps a transaction to
//! one tenant. This file is the SQL surface; the functions are declared in sql/context.sql.

pub mod lock;
pub mod state;
mod status;
pub mod tenant;

use std::ffi::CString;

use pgrx::prelude::*;

use crate::error::{self, Result};
use crate::pg::settings;
use crate::pg::transaction;

::pgrx::extension_sql_file!("../../sql/context.sql", name = "context", requires = ["bootstrap"]);

/// `set_tenant(context text, is_local boolean DEFAULT true)`: the same as SET LOCAL, or SET, bulkhead.tenant_context.
///
/// Errors: 22023 for NULL or text that is no tenant id; 42501 when the mode does not allow the switch. No locks.
#[pg_extern(sql = false)]
fn set_tenant(context: Option<&str>, is_local: Option<bool>) -> Result<()> {
    let (Some(context), Some(is_local)) = (context, is_local) else {
        return Err(error::argument(
            "the tenant and is_local must not be NULL",
            "Pass '' to clear the context. A NULL tenant is most often a look-up that found nothing.",
        ));
    };
    let value = CString::new(context)
        .map_err(|_| error::argument("invalid tenant id: a NUL byte", "Strip it before the id is set."))?;
    // A NULL above must not leave the former tenant in force unnoticed, hence the error; a local value outside a block is
    // only useless, so it warns, as SET LOCAL does.
    if is_local && state::is_alone() {
        transaction::warn_outside_block();
    }
    settings::set_tenant_context(&value, is_local);
    Ok(())
}

/// `require_tenant()`: the tenant's id as text. Errors: 42501 when there is none. No locks.
#[pg_extern(sql = false)]
fn require_tenant() -> Result<String> {
    state::with_tenant(|tenant| (!tenant.is_none()).then(|| String::from_utf8_lossy(tenant.id()).into_owned()))
        .ok_or_else(|| {
            error::no_tenant("bulkhead.require_tenant()", state::ended_with_its_transaction(), state::is_hidden())
        })
}

/// `status()`: what is in force in this session and why, a line for each item. Raises nothing of its own; no locks
/// beyond AccessShare on catalogs.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn status()
-> Result<TableIterator<'static, (name!(item, String), name!(value, Option<String>), name!(detail, Option<String>))>> {
    Ok(TableIterator::new(status::lines()?.into_iter().map(|line| (line.item.to_owned(), line.value, line.detail))))
}
