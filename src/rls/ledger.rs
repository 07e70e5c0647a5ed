//! Rows of bulkhead.protection: written as the extension, whoever calls.

use pgrx::prelude::*;

use super::steps::Earlier;
use crate::error::{self, Result};
use crate::pg::spi;
use crate::pg::{registry, scan, security};

/// A registered table.
pub struct Registered {
    pub column: String,
    pub shared: bool,
    pub inherited: bool,
    pub earlier: Earlier,
}

pub fn find(relation: pg_sys::Oid) -> Result<Option<Registered>> {
    let found = security::as_extension(|| {
        spi::row(
            "SELECT p.tenant_column::text, p.shared, p.inherited, p.earlier::text
               FROM bulkhead.protection p WHERE p.relation OPERATOR(pg_catalog.=) $1",
            &[relation.into()],
            |row| Ok((row.get::<String>(1)?, row.get(2)?, row.get(3)?, row.get::<String>(4)?)),
        )
    })?;
    found
        .map(|(column, shared, inherited, earlier)| {
            Ok(Registered { column, shared, inherited, earlier: read_earlier(&earlier)? })
        })
        .transpose()
}

fn read_earlier(json: &str) -> Result<Earlier> {
    serde_json::from_str(json).map_err(|error| error::internal(format!("bulkhead.protection.earlier: {error}")))
}

/// Every registered table that is not there only because its parent is; a detached partition stands for itself.
pub fn roots() -> Result<Vec<pg_sys::Oid>> {
    security::as_extension(|| {
        spi::rows(
            "SELECT p.relation::oid FROM bulkhead.protection p JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) p.relation
              WHERE NOT p.inherited
                 OR NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid OPERATOR(pg_catalog.=) p.relation)
              ORDER BY 1",
            &[],
            |row| row.get(1),
        )
    })
}

/// Registers a table, or renews its row; what was there before it was first registered stays recorded.
pub fn record(relation: pg_sys::Oid, attnum: i16, row: &Registered) -> Result<()> {
    let earlier = serde_json::to_string(&row.earlier).map_err(|error| error::internal(error.to_string()))?;
    let role = security::current_role();
    let home = scan::home();
    security::as_extension(|| {
        spi::run(
            "INSERT INTO bulkhead.protection AS p
               (relation, tenant_attnum, tenant_column, shared, home, inherited, earlier, protected_by)
             VALUES ($1, $2, $3::pg_catalog.text::pg_catalog.name, $4, $5, $6, $7::pg_catalog.text::pg_catalog.jsonb,
                     pg_catalog.pg_get_userbyid($8))
             ON CONFLICT (relation) DO UPDATE
               SET tenant_attnum = excluded.tenant_attnum, tenant_column = excluded.tenant_column, home = excluded.home",
            &[
                relation.into(),
                attnum.into(),
                row.column.as_str().into(),
                row.shared.into(),
                home.as_str().into(),
                row.inherited.into(),
                earlier.as_str().into(),
                role.into(),
            ],
        )
    })?;
    registry::announce_change();
    Ok(())
}

pub fn forget(relations: &[pg_sys::Oid]) -> Result<()> {
    security::as_extension(|| {
        spi::run(
            "DELETE FROM bulkhead.protection p WHERE p.relation OPERATOR(pg_catalog.=) ANY ($1)",
            &[relations.to_vec().into()],
        )
    })?;
    registry::announce_change();
    Ok(())
}

/// After DDL on these tables: the recorded names follow renamed columns, and a row restored from a dump comes home as soon
/// as its floor policy is there.
pub fn follow(relations: &[pg_sys::Oid]) -> Result<()> {
    let home = scan::home();
    let changed = security::as_extension(|| {
        spi::rows(
            "WITH here AS (
               UPDATE bulkhead.protection p SET tenant_column = a.attname FROM pg_catalog.pg_attribute a
                WHERE p.relation OPERATOR(pg_catalog.=) ANY ($1) AND p.home OPERATOR(pg_catalog.=) $2
                  AND a.attrelid OPERATOR(pg_catalog.=) p.relation AND a.attnum OPERATOR(pg_catalog.=) p.tenant_attnum
                  AND NOT a.attisdropped AND a.attname OPERATOR(pg_catalog.<>) p.tenant_column
               RETURNING 1),
             restored AS (
               UPDATE bulkhead.protection p SET tenant_attnum = a.attnum, home = $2 FROM pg_catalog.pg_attribute a
                WHERE p.relation OPERATOR(pg_catalog.=) ANY ($1) AND p.home OPERATOR(pg_catalog.<>) $2
                  AND a.attrelid OPERATOR(pg_catalog.=) p.relation AND a.attname OPERATOR(pg_catalog.=) p.tenant_column
                  AND EXISTS (SELECT FROM pg_catalog.pg_policy o WHERE o.polrelid OPERATOR(pg_catalog.=) p.relation
                                 AND o.polname OPERATOR(pg_catalog.=) 'bulkhead_floor')
               RETURNING 1)
             SELECT 1 FROM here UNION ALL SELECT 1 FROM restored",
            &[relations.to_vec().into(), home.as_str().into()],
            |_| Ok(()),
        )
    })?;
    if !changed.is_empty() {
        registry::announce_change();
    }
    Ok(())
}

/// Tables at or below these that are not registered although an ancestor is protected, with the tenant column's name.
pub fn unprotected_descendants(relations: &[pg_sys::Oid]) -> Result<Vec<(pg_sys::Oid, pg_sys::Oid, String)>> {
    security::as_extension(|| {
        spi::rows(
            "WITH RECURSIVE below(oid) AS (
               SELECT r.oid FROM pg_catalog.unnest($1) AS r(oid)
               UNION
               SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN below b ON i.inhparent OPERATOR(pg_catalog.=) b.oid),
             above(oid, ancestor) AS (
               SELECT b.oid, i.inhparent FROM below b JOIN pg_catalog.pg_inherits i ON i.inhrelid OPERATOR(pg_catalog.=) b.oid
                WHERE NOT EXISTS (SELECT FROM bulkhead.protection p WHERE p.relation OPERATOR(pg_catalog.=) b.oid AND NOT p.shared)
               UNION
               SELECT a.oid, i.inhparent FROM above a JOIN pg_catalog.pg_inherits i ON i.inhrelid OPERATOR(pg_catalog.=) a.ancestor)
             SELECT DISTINCT ON (a.oid) a.oid, p.relation::oid, p.tenant_column::text
               FROM above a JOIN bulkhead.protection p ON p.relation OPERATOR(pg_catalog.=) a.ancestor AND NOT p.shared
              ORDER BY a.oid, p.inherited",
            &[relations.to_vec().into()],
            |row| Ok((row.get(1)?, row.get(2)?, row.get(3)?)),
        )
    })
}
