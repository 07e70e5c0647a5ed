//! DDL by others: the tree of a protected table stays protected, and the registry stays true.

use pgrx::prelude::*;

use super::registry_rows::{self, Below};
use super::{apply, share};
use crate::error::{self, Result};
use crate::inventory;
use crate::observe;
use crate::partition;
use crate::pg::{registry, scan, security, version};
use crate::scoring;

/// After DDL that touched `relations`, those with children marked so.
pub fn ddl(relations: &[(pg_sys::Oid, bool)]) -> Result<()> {
    inventory::follow(relations)?;
    // Nearly all DDL is about tables that are neither registered nor parents of any.
    let concerns_us =
        |(relation, has_children): &&(pg_sys::Oid, bool)| *has_children || registry::find(*relation).is_some();
    let relations: Vec<pg_sys::Oid> = relations.iter().filter(concerns_us).map(|(relation, _)| *relation).collect();
    if relations.is_empty() {
        return Ok(());
    }
    if security::has_transaction_snapshot() && !registry::strays().is_empty() {
        // What others registered since is in the list, but no query of this transaction would see it.
        return apply::refuse_old_snapshot();
    }
    version::require()?;
    registry_rows::follow()?;
    observe::follow()?;
    let candidates: Vec<pg_sys::Oid> = relations.into_iter().chain(registry::strays()).collect();
    for Below { child, ancestor, column } in registry_rows::strays(&candidates)? {
        match column {
            Some(column) => apply::adopt(child, ancestor, &column)?,
            None => share::adopt(child)?,
        }
    }
    if let Some((child, parent)) = registry_rows::exposed()? {
        return Err(error::state(
            format!(
                "protected table {} cannot become a child of {}",
                security::relation_name(child),
                security::relation_name(parent)
            ),
            "A query on the parent would read the child's rows without asking the child's policies.",
            "Protect the parent first.",
        ));
    }
    Ok(())
}

/// After `relations` were dropped.
pub fn drop(relations: &[pg_sys::Oid]) -> Result<()> {
    // DROP EXTENSION takes the registry with it.
    if relations.is_empty() || scan::protection_table() == pg_sys::InvalidOid {
        return Ok(());
    }
    partition::forget(relations)?;
    inventory::forget(relations)?;
    scoring::forget(relations)?;
    observe::remove(relations)?;
    registry_rows::forget(relations)?;
    Ok(())
}
