//! The context: the tenant that the current transaction acts for.
//!
//! The setting `bulkhead.tenant_context` is the only place a tenant comes from. Its hooks (src/pg/settings/context.rs) parse
//! it once and publish it in `state`; `lock` keeps a transaction to one tenant.
//!
//! The SQL functions, declared in sql/context.sql:
//! - status(): here
//! - tenant_id(), its siblings and require_tenant(), which policies call: src/pg/accessors.rs
//! - claims(), user_id(), has_role(), has_permission(): src/pg/claims.rs
//! - set_tenant(): src/pg/switch.rs

pub mod acting;
pub mod before;
pub mod lock;
pub mod revocation;
pub mod session_tokens;
pub mod state;
mod status;
pub mod tenant;
pub mod token;

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
