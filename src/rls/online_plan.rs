//! Reads what `online_steps` needs to know of a table under load.

use pgrx::prelude::*;

use super::apply;
use super::online_steps::{self, Check, Table};
use super::shape;
use crate::error::Result;
use crate::pg::spi;

pub fn plan(relation: pg_sys::Oid, column: &str) -> Result<Vec<String>> {
    shape::admit(relation)?;
    if shape::parent(relation)?.is_some() {
        return Err(apply::below_a_parent(relation));
    }
    let column = shape::column(relation, column)?;
    let tree = shape::tree(relation, &column.name)?;
    let Some(root) = tree.first() else { return Ok(Vec::new()) };
    let tables = tables(relation, &column.name)?;
    let mut plan =
        online_steps::plan(&tables, &column.quoted, apply::lacks_index(&tree), root.facts.not_null, check(relation)?);
    plan.push(format!("SELECT bulkhead.protect({}, {})", spi::literal(&root.name), spi::literal(&column.name)));
    Ok(plan)
}

/// The tree, parents before their children.
fn tables(root: pg_sys::Oid, column: &str) -> Result<Vec<Table>> {
    spi::rows(
        "WITH RECURSIVE tree(oid, parent, depth) AS (
           SELECT $1::oid, NULL::oid, 0
           UNION ALL SELECT i.inhrelid, i.inhparent, t.depth + 1 FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid),
         beginning AS (
           SELECT x.indrelid, x.indexrelid, x.indisvalid AND x.indisready AS whole, format('%I.%I', n.nspname, i.relname) AS name,
                  i.relname
             FROM tree JOIN pg_index x ON x.indrelid = tree.oid JOIN pg_class i ON i.oid = x.indexrelid
             JOIN pg_namespace n ON n.oid = i.relnamespace
             JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0] AND a.attname = $2::text::name
            WHERE x.indpred IS NULL)
         SELECT DISTINCT ON (t.depth, c.oid) format('%I.%I', n.nspname, c.relname), c.oid, t.parent, c.relkind = 'p',
                EXISTS (SELECT FROM beginning l WHERE l.indrelid = c.oid AND l.whole),
                ARRAY(SELECT l.name FROM beginning l WHERE l.indrelid = c.oid AND NOT l.whole AND c.relkind = 'r'),
                p.indexrelid IS NOT NULL,
                EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = p.indexrelid)
           FROM tree t JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace
           LEFT JOIN beginning p ON p.indrelid = c.oid AND p.relname = format('bulkhead_%s_tenant_idx', c.oid)
          ORDER BY t.depth, c.oid",
        &[root.into(), column.into()],
        |row| {
            Ok(Table {
                name: row.get(1)?,
                id: row.get::<pg_sys::Oid>(2)?.to_u32(),
                parent: row.optional::<pg_sys::Oid>(3)?.map(pg_sys::Oid::to_u32),
                partitioned: row.get(4)?,
                indexed: row.get(5)?,
                broken: row.get(6)?,
                planned: row.get(7)?,
                attached: row.get(8)?,
            })
        },
    )
}

fn check(relation: pg_sys::Oid) -> Result<Check> {
    let validated = spi::row(
        "SELECT c.convalidated FROM pg_constraint c WHERE c.conrelid = $1 AND c.conname = 'bulkhead_not_null' AND c.contype = 'c'",
        &[relation.into()],
        |row| row.get::<bool>(1),
    )?;
    Ok(match validated {
        None => Check::Absent,
        Some(false) => Check::NotValid,
        Some(true) => Check::Valid,
    })
}
