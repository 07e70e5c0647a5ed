//! What a registered table has by itself, and not by protect() or share(): for tables that are made like it. One that took the rest over too
//! would have it recorded as its own when it is protected in its turn, and keep it when it is not protected any more.

use pgrx::prelude::*;

use super::facts::Facts;
use super::registry_rows;
use super::shape;
use super::steps::{self, Undo};
use crate::error::Result;
use crate::pg::spi;

/// Row level security, and FORCE: whether a table that has them has them by itself.
pub fn row_security(relation: pg_sys::Oid) -> Result<(bool, bool)> {
    Ok(registry_rows::find(relation)?.map_or((true, true), |row| (row.earlier.rls, row.earlier.forced)))
}

/// The statements that take protect()'s default and NOT NULL from `copy`, the partitioned table that is made like the registered one.
pub fn bare(relation: pg_sys::Oid, copy: &str) -> Result<Vec<String>> {
    let Some(row) = registry_rows::find(relation)? else { return Ok(Vec::new()) };
    let tree = shape::tree(relation, &row.column)?;
    let Some(table) = tree.into_iter().find(|shape| shape.oid == relation) else { return Ok(Vec::new()) };
    // The other differences LIKE does not copy.
    let facts = Facts { partitioned: true, rls: false, forced: false, policies: Vec::new(), ..table.facts };
    let column = spi::identifier(&row.column);
    let undo =
        Undo { name: copy, facts: &facts, earlier: &row.earlier, column: &column, partition: false, index: None };
    Ok(steps::unprotect(&undo).into_iter().map(|step| step.sql).collect())
}
