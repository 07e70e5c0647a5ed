//! The seal: protected tables are filtered for every role, superuser and BYPASSRLS roles too.
//!
//! `decision` says how a statement is treated; src/pg/planner.rs and src/pg/filter.rs put the tenant's border into its plan, src/pg/utility.rs
//! and src/pg/copy.rs look after what is not planned. `bypass` is the way past it, and `record` writes down who took it.
//! This file is the SQL surface; the functions are declared in sql/seal.sql.

pub mod bypass;
pub mod decision;
pub mod housekeeping;
mod record;

use pgrx::prelude::*;

use crate::context::state;
use crate::error::{self, Result};

::pgrx::extension_sql_file!("../../sql/seal.sql", name = "seal", requires = ["rls"]);

/// `begin_bypass(reason text)`: lifts the seal, never row level security, for the calling role until the transaction ends.
///
/// `reason`: 1 to 1,000 bytes, shown in the server log and in bulkhead.bypass_log. Errors: 22023 no reason; 42501 without EXECUTE, which
/// PUBLIC does not have. No locks beyond RowExclusive on the log.
#[pg_extern(sql = false)]
fn begin_bypass(reason: Option<&str>) -> Result<()> {
    bypass::begin(reason.unwrap_or_default())
}

/// `seal_active()`: whether protected tables are filtered for every role, in every session of the server.
#[pg_extern(sql = false)]
fn seal_active() -> bool {
    decision::everywhere()
}

macro_rules! copied_row {
    ($name:ident, $type:ty, $is_ours:expr) => {
        /// `copied_row(tenant)`: true for a row of the current tenant; the seal puts it into COPY FROM as a condition.
        ///
        /// Errors: 42501 for a row of another tenant, or of none. No locks.
        #[pg_extern(sql = false)]
        fn $name(tenant: Option<$type>) -> Result<bool> {
            let ours: fn(&crate::context::tenant::Tenant, $type) -> bool = $is_ours;
            match tenant {
                Some(tenant) if state::with_tenant(|current| ours(current, tenant)) => Ok(true),
                _ => Err(error::denied(
                    "a row of this COPY belongs to another tenant than the context",
                    "COPY FROM on a protected table takes rows of the current tenant only.",
                    "Set the tenant that the rows belong to, or leave the tenant column out: its default is the context.",
                )),
            }
        }
    };
}

copied_row!(copied_row_uuid, pgrx::Uuid, |current, row| current.uuid() == Some(row.as_bytes()));
copied_row!(copied_row_text, &[u8], |current, row| current.id() == row && !current.is_none());
copied_row!(copied_row_bigint, i64, |current, row| current.bigint() == Some(row));
