//! DDL by others: the tree of a protected table stays protected, and the registry stays true.

use pgrx::prelude::*;

use super::{apply, ledger};
use crate::error::Result;
use crate::pg::registry;

/// After CREATE TABLE, ALTER TABLE or CREATE POLICY touched `relations`.
pub fn ddl(relations: &[pg_sys::Oid]) -> Result<()> {
    if relations.is_empty() || apply::is_busy() || registry::is_empty() {
        return Ok(());
    }
    ledger::follow(relations)?;
    for (child, ancestor, column) in ledger::unprotected_descendants(relations)? {
        apply::adopt(child, ancestor, &column)?;
    }
    Ok(())
}

/// After `relations` were dropped.
pub fn drop(relations: &[pg_sys::Oid]) -> Result<()> {
    if relations.is_empty() || registry::is_empty() {
        return Ok(());
    }
    ledger::forget(relations)
}
