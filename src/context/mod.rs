//! The context: the tenant that the current transaction acts for.
//!
//! The setting `bulkhead.tenant_context` is the only place a tenant comes from. Its hooks (src/pg/settings/context.rs) parse
//! it once and publish it in `state`; set_tenant() (src/pg/switch.rs) sets it; the accessors (src/pg/accessors.rs) hand it to
//! policies; `lock` keeps a transaction to one tenant. This file is the SQL surface; the functions are declared in sql/context.sql.

pub mod acting;
pub mod before;
pub mod lock;
pub mod poison;
pub mod state;
mod status;
pub mod tenant;
pub mod token;
pub mod tokens;

use pgrx::prelude::*;

use crate::error::Result;

::pgrx::extension_sql_file!("../../sql/context.sql", name = "context", requires = ["bootstrap"]);

/// `status()`: what is in force in this session and why, a line for each item. Raises nothing of its own; no locks
/// beyond AccessShare on catalogs.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn status()
-> Result<TableIterator<'static, (name!(item, String), name!(value, Option<String>), name!(detail, Option<String>))>> {
    Ok(TableIterator::new(status::lines()?.into_iter().map(|line| (line.item.to_owned(), line.value, line.detail))))
}
