//! Rows of bulkhead.protection: written as the extension, whoever calls. A trigger of the table tells every session.

use pgrx::prelude::*;

use super::steps::{Earlier, FLOOR};
use crate::error::{self, Result};
use crate::pg::spi;
use crate::pg::{scan, security};

/// A registered table.
#[derive(Clone)]
pub struct Registered {
    /// The tenant column's name; empty for a shared table.
    pub column: String,
    pub shared: bool,
    pub inherited: bool,
    pub earlier: Earlier,
}

pub fn find(relation: pg_sys::Oid) -> Result<Option<Registered>> {
    let found = security::as_extension(|| {
        spi::row(
            "SELECT p.tenant_column::text, p.shared, p.inherited, p.earlier::text, p.home
               FROM bulkhead.protection p WHERE p.relation OPERATOR(pg_catalog.=) $1",
            &[relation.into()],
            |row| Ok((row.get::<String>(1)?, row.get(2)?, row.get(3)?, row.get::<String>(4)?, row.get::<String>(5)?)),
        )
    })?;
    let Some((column, shared, inherited, earlier, home)) = found else { return Ok(None) };
    let mut earlier: Earlier = serde_json::from_str(&earlier)
        .map_err(|error| error::internal(format!("bulkhead.protection.earlier: {error}")))?;
    // An oid means something only where it was given.
    if home != scan::home() {
        earlier.index = None;
    }
    Ok(Some(Registered { column, shared, inherited, earlier }))
}

/// Every registered table without a registered parent: unprotect() of that one reaches the rest, also what was protected by itself before it came there.
pub fn roots() -> Result<Vec<pg_sys::Oid>> {
    security::as_extension(|| {
        spi::rows(
            "SELECT p.relation::oid FROM bulkhead.protection p JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) p.relation
              WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i JOIN bulkhead.protection q ON q.relation OPERATOR(pg_catalog.=) i.inhparent
                                 WHERE i.inhrelid OPERATOR(pg_catalog.=) p.relation)
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
               SET tenant_attnum = excluded.tenant_attnum, tenant_column = excluded.tenant_column,
                   shared = excluded.shared, home = excluded.home, inherited = excluded.inherited,
                   earlier = CASE WHEN pg_catalog.jsonb_typeof(excluded.earlier OPERATOR(pg_catalog.->) 'index') OPERATOR(pg_catalog.=) 'number'
                                  THEN p.earlier OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('index', excluded.earlier OPERATOR(pg_catalog.->) 'index')
                                  ELSE p.earlier END",
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
    })
}

pub fn forget(relations: &[pg_sys::Oid]) -> Result<()> {
    security::as_extension(|| {
        spi::run(
            "DELETE FROM bulkhead.protection p WHERE p.relation OPERATOR(pg_catalog.=) ANY ($1)",
            &[relations.to_vec().into()],
        )
    })
}

/// After DDL: the recorded names follow renamed columns, and rows restored from a dump or copied with a database come home as soon as
/// their floor policy is there, which knows its column whatever its name and number are now.
pub fn follow() -> Result<()> {
    let home = scan::home();
    security::as_extension(|| {
        spi::rows(
            "WITH here AS (
               UPDATE bulkhead.protection p SET tenant_column = a.attname FROM pg_catalog.pg_attribute a
                WHERE p.home OPERATOR(pg_catalog.=) $1
                  AND a.attrelid OPERATOR(pg_catalog.=) p.relation AND a.attnum OPERATOR(pg_catalog.=) p.tenant_attnum
                  AND NOT a.attisdropped AND a.attname OPERATOR(pg_catalog.<>) p.tenant_column
               RETURNING 1),
             restored AS (
               UPDATE bulkhead.protection p SET tenant_attnum = a.attnum, tenant_column = a.attname, home = $1
                 FROM pg_catalog.pg_policy o, pg_catalog.pg_depend d, pg_catalog.pg_attribute a
                WHERE p.home OPERATOR(pg_catalog.<>) $1 AND o.polrelid OPERATOR(pg_catalog.=) p.relation
                  AND o.polname OPERATOR(pg_catalog.=) $2
                  AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_policy'::pg_catalog.regclass
                  AND d.objid OPERATOR(pg_catalog.=) o.oid
                  AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
                  AND d.refobjid OPERATOR(pg_catalog.=) p.relation AND d.refobjsubid OPERATOR(pg_catalog.>) 0
                  AND a.attrelid OPERATOR(pg_catalog.=) p.relation AND a.attnum OPERATOR(pg_catalog.=) d.refobjsubid
               RETURNING 1)
             SELECT 1 FROM here UNION ALL SELECT 1 FROM restored",
            &[home.as_str().into(), FLOOR.into()],
            |_| Ok(()),
        )
    })
    .map(drop)
}

/// A table below a registered one.
pub struct Below {
    pub child: pg_sys::Oid,
    pub ancestor: pg_sys::Oid,
    /// The ancestor's tenant column; none when it is shared.
    pub column: Option<String>,
}

/// Those of these tables, and of their children, that are not registered as a registered ancestor is, topmost first. A protected
/// ancestor counts before a shared one.
pub fn strays(relations: &[pg_sys::Oid]) -> Result<Vec<Below>> {
    security::as_extension(|| {
        spi::rows(
            "WITH RECURSIVE candidate(oid) AS (
               SELECT r.oid FROM pg_catalog.unnest($1) AS r(oid)
               UNION
               SELECT i.inhrelid FROM pg_catalog.unnest($1) AS r(oid)
                 JOIN pg_catalog.pg_inherits i ON i.inhparent OPERATOR(pg_catalog.=) r.oid),
             above(oid, ancestor, depth) AS (
               SELECT c.oid, i.inhparent, 1 FROM candidate c JOIN pg_catalog.pg_inherits i ON i.inhrelid OPERATOR(pg_catalog.=) c.oid
               UNION
               SELECT a.oid, i.inhparent, a.depth OPERATOR(pg_catalog.+) 1
                 FROM above a JOIN pg_catalog.pg_inherits i ON i.inhrelid OPERATOR(pg_catalog.=) a.ancestor),
             stray AS (
               SELECT DISTINCT ON (a.oid) a.oid, p.relation::oid AS ancestor,
                      CASE WHEN NOT p.shared THEN p.tenant_column::text END AS tenant_column, a.depth
                 FROM above a JOIN bulkhead.protection p ON p.relation OPERATOR(pg_catalog.=) a.ancestor
                WHERE NOT EXISTS (SELECT FROM bulkhead.protection own WHERE own.relation OPERATOR(pg_catalog.=) a.oid
                         AND (p.shared OR (NOT own.shared AND own.tenant_column OPERATOR(pg_catalog.=) p.tenant_column)))
                ORDER BY a.oid, p.shared, p.inherited)
             SELECT s.oid, s.ancestor, s.tenant_column FROM stray s ORDER BY s.depth, s.oid",
            &[relations.to_vec().into()],
            |row| Ok(Below { child: row.get(1)?, ancestor: row.get(2)?, column: row.optional(3)? }),
        )
    })
}

/// A protected table that can be read through a parent that is not protected, and that parent.
pub fn exposed() -> Result<Option<(pg_sys::Oid, pg_sys::Oid)>> {
    security::as_extension(|| {
        spi::row(
            "SELECT i.inhrelid, i.inhparent
               FROM bulkhead.protection p JOIN pg_catalog.pg_inherits i ON i.inhrelid OPERATOR(pg_catalog.=) p.relation
              WHERE NOT p.shared
                AND NOT EXISTS (SELECT FROM bulkhead.protection q WHERE q.relation OPERATOR(pg_catalog.=) i.inhparent AND NOT q.shared)
              LIMIT 1",
            &[],
            |row| Ok((row.get(1)?, row.get(2)?)),
        )
    })
}

/// Those of a tree, but its root, that a protected table outside the tree covers as well.
pub fn covered_by_others(tree: &[pg_sys::Oid]) -> Result<Vec<pg_sys::Oid>> {
    security::as_extension(|| {
        spi::rows(
            "WITH RECURSIVE above(oid, ancestor) AS (
               SELECT r.oid, i.inhparent FROM pg_catalog.unnest($1) AS r(oid)
                 JOIN pg_catalog.pg_inherits i ON i.inhrelid OPERATOR(pg_catalog.=) r.oid
               UNION
               SELECT a.oid, i.inhparent FROM above a JOIN pg_catalog.pg_inherits i ON i.inhrelid OPERATOR(pg_catalog.=) a.ancestor)
             SELECT DISTINCT a.oid FROM above a JOIN bulkhead.protection p ON p.relation OPERATOR(pg_catalog.=) a.ancestor
              WHERE NOT p.shared AND a.ancestor OPERATOR(pg_catalog.<>) ALL ($1)",
            &[tree.to_vec().into()],
            |row| row.get(1),
        )
    })
}
