//! What a table looks like now: read from the catalogs, judged, and handed to `steps`.

use pgrx::prelude::*;

use super::facts::{Facts, Policy};
use super::key::Key;
use crate::error::{self, Result};
use crate::pg::{relations, security, spi};

/// A table of the tree that protect() works on; the root comes first.
pub struct Shape {
    pub oid: pg_sys::Oid,
    /// `schema.name`, quoted.
    pub name: String,
    /// A partition, whose NOT NULL goes with its parent's.
    pub partition: bool,
    pub facts: Facts,
}

/// The tenant column of the root.
pub struct Column {
    pub number: i16,
    pub name: String,
    /// Quoted where SQL needs it.
    pub quoted: String,
    pub key: Key,
}

/// Refuses what cannot be registered: 42501 for a table of another role, 22023 for what is no ordinary table.
pub fn admit(relation: pg_sys::Oid) -> Result<()> {
    let (kind, persistence) = spi::row(
        "SELECT c.relkind::text, c.relpersistence::text FROM pg_class c WHERE c.oid = $1",
        &[relation.into()],
        |row| Ok((row.get::<String>(1)?, row.get::<String>(2)?)),
    )?
    .ok_or_else(|| error::argument(format!("there is no relation with oid {}", relation.to_u32()), "Name a table."))?;
    let name = security::relation_name(relation);
    refuse_foreign_name(relation)?;
    // The system's own tables belong to the bootstrap superuser, so this comes before the question of the owner.
    if relation.to_u32() < pg_sys::FirstNormalObjectId {
        return Err(error::argument(format!("{name} is a system table"), "Only user tables can be protected."));
    }
    if !security::owns(relation) {
        return Err(error::denied(
            format!("must be owner of table {name}"),
            "Only a table's owner may change its protection.",
            "Call the function as the owner, or have the owner call it.",
        ));
    }
    let refused = match (kind.as_str(), persistence.as_str()) {
        ("v", _) => {
            Some(("a view", "Protect the tables it reads, and create the view WITH (security_invoker = true)."))
        }
        ("m", _) => {
            Some(("a materialized view", "Its rows carry no policies: keep it away from tenants, or make it a table."))
        }
        ("f", _) => Some(("a foreign table", "Protect the table on the server where its rows are.")),
        ("r" | "p", "t") => Some(("a temporary table", "No other session sees its rows; it needs no protection.")),
        ("r" | "p", _) => None,
        _ => Some(("not a table", "Name a table or a partitioned table.")),
    };
    match refused {
        Some((what, hint)) => Err(error::argument(format!("{name} is {what} and cannot be protected"), hint)),
        None => Ok(()),
    }
}

/// SQL that is made here is UTF-8. In a database of another encoding only ASCII means the same in both, so a table with
/// another name is refused rather than missed.
fn refuse_foreign_name(relation: pg_sys::Oid) -> Result<()> {
    if security::database_is_utf8() {
        return Ok(());
    }
    let foreign = spi::row(
        "SELECT encode(textsend(n.nspname::text || c.relname::text), 'hex') ~ '^(..)*[89a-f]'
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1",
        &[relation.into()],
        |row| row.get::<bool>(1),
    )?;
    if foreign == Some(true) {
        return Err(foreign_name(&format!("the table with oid {}", relation.to_u32())));
    }
    Ok(())
}

fn foreign_name(what: &str) -> pgrx::pg_sys::panic::ErrorReport {
    error::argument(
        format!("{what} has a name that is not ASCII, in a database that is not UTF8"),
        "Rename it in ASCII, or move the database to encoding UTF8.",
    )
}

/// The tenant column, or why it cannot be one: 22023 for an unknown column or an unfit type.
pub fn column(relation: pg_sys::Oid, name: &str) -> Result<Column> {
    if !name.is_ascii() && !security::database_is_utf8() {
        return Err(foreign_name("the tenant column"));
    }
    let found = spi::row(
        "SELECT a.attnum, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), a.atttypid,
                coalesce(l.collisdeterministic, true)
           FROM pg_attribute a LEFT JOIN pg_collation l ON l.oid = a.attcollation
          WHERE a.attrelid = $1 AND a.attname = $2::text::name AND a.attnum > 0 AND NOT a.attisdropped",
        &[relation.into(), name.into()],
        |row| {
            Ok((
                row.get::<i16>(1)?,
                row.get::<String>(2)?,
                row.get::<String>(3)?,
                row.get::<pg_sys::Oid>(4)?,
                row.get::<bool>(5)?,
            ))
        },
    )?;
    let table = security::relation_name(relation);
    let Some((number, quoted, type_name, type_oid, deterministic)) = found else {
        return Err(no_column(relation, &table, name)?);
    };
    let Some(key) = Key::of(security::base_type(type_oid)) else {
        return Err(error::argument(
            format!("column {quoted} of {table} is of type {type_name}, which cannot tell tenants apart safely"),
            "A tenant column is of type uuid, text, varchar, bigint or integer. ALTER TABLE ... ALTER COLUMN ... TYPE text keeps citext and char(n) values.",
        ));
    };
    if !deterministic {
        return Err(error::argument(
            format!(
                "column {quoted} of {table} has a nondeterministic collation, under which different tenants can be equal"
            ),
            "Give the column a deterministic collation, for example COLLATE \"C\".",
        ));
    }
    Ok(Column { number, name: name.to_owned(), quoted, key })
}

fn no_column(relation: pg_sys::Oid, table: &str, name: &str) -> Result<pgrx::pg_sys::panic::ErrorReport> {
    let candidates = spi::rows(
        "SELECT quote_ident(a.attname) FROM pg_attribute a
          WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
            AND a.atttypid IN ('uuid'::regtype, 'text'::regtype, 'varchar'::regtype, 'int8'::regtype, 'int4'::regtype)
            AND (getdatabaseencoding() = 'UTF8' OR encode(textsend(a.attname::text), 'hex') !~ '^(..)*[89a-f]')
          ORDER BY a.attname NOT LIKE '%\\_id', a.attnum LIMIT 12",
        &[relation.into()],
        |row| row.get::<String>(1),
    )?;
    let hint = if candidates.is_empty() {
        "The table has no column of type uuid, text, varchar, bigint or integer.".to_owned()
    } else {
        format!("Name the tenant column as the second argument. Candidates: {}.", candidates.join(", "))
    };
    Ok(error::argument(format!("table {table} has no column \"{name}\""), hint))
}

/// A parent through which the table's rows can be read, past the table's own policies; none for a root.
pub fn parent(relation: pg_sys::Oid) -> Result<Option<pg_sys::Oid>> {
    spi::row("SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = $1 LIMIT 1", &[relation.into()], |row| {
        row.get(1)
    })
}

/// The table and everything that inherits from it, the root first.
pub fn tree(root: pg_sys::Oid, column: &str) -> Result<Vec<Shape>> {
    for relation in relations::unlocked_family(root) {
        refuse_foreign_name(relation)?;
    }
    let tables = spi::rows(
        "WITH RECURSIVE tree(oid) AS (
           SELECT $1::oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid)
         SELECT c.oid, format('%I.%I', n.nspname, c.relname), c.relkind = 'p', c.relkind = 'f', c.relrowsecurity, c.relforcerowsecurity,
                coalesce(a.attnotnull, false), coalesce(a.atthasdef OR a.attidentity <> '', false),
                EXISTS (SELECT FROM pg_index x WHERE x.indrelid = c.oid AND x.indkey[0] = a.attnum AND x.indisvalid
                                                 AND x.indisready AND x.indpred IS NULL),
                c.relispartition,
                coalesce((SELECT pg_get_expr(d.adbin, d.adrelid) LIKE 'bulkhead.tenant\\_id%' FROM pg_attrdef d
                           WHERE d.adrelid = c.oid AND d.adnum = a.attnum), false)
           FROM tree JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace
           LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $2::text::name AND NOT a.attisdropped
          ORDER BY c.oid <> $1, c.oid",
        &[root.into(), column.into()],
        |row| {
            let foreign = row.get::<bool>(4)?;
            let shape = Shape {
                oid: row.get(1)?,
                name: row.get(2)?,
                partition: row.get(10)?,
                facts: Facts {
                    partitioned: row.get(3)?,
                    rls: row.get(5)?,
                    forced: row.get(6)?,
                    not_null: row.get(7)?,
                    default: row.get(8)?,
                    default_is_ours: row.get(11)?,
                    indexed: row.get(9)?,
                    policies: Vec::new(),
                },
            };
            Ok((foreign, shape))
        },
    )?;
    if let Some((_, shape)) = tables.iter().find(|(foreign, _)| *foreign) {
        return Err(error::state(
            format!("{} is a foreign table below a table that is to be protected", shape.name),
            "A foreign table has no row level security, so reading it directly would show every tenant.",
            "Detach it, or protect its table on the server where the rows are.",
        ));
    }
    let mut tree: Vec<Shape> = tables.into_iter().map(|(_, shape)| shape).collect();
    for shape in &mut tree {
        pgrx::check_for_interrupts!();
        shape.facts.policies = policies(shape.oid)?;
    }
    Ok(tree)
}

fn policies(relation: pg_sys::Oid) -> Result<Vec<Policy>> {
    spi::rows(
        "SELECT CASE WHEN encode(textsend(p.polname::text), 'hex') ~ '^(..)*[89a-f]' AND getdatabaseencoding() <> 'UTF8'
                     THEN 'number ' || p.oid ELSE p.polname::text END,
                p.polpermissive, p.polcmd::text, p.polroles = '{0}',
                CASE WHEN p.polname LIKE 'bulkhead\\_%' THEN pg_get_expr(p.polqual, p.polrelid) END,
                CASE WHEN p.polname LIKE 'bulkhead\\_%' THEN pg_get_expr(p.polwithcheck, p.polrelid) END
           FROM pg_policy p WHERE p.polrelid = $1 ORDER BY p.polname",
        &[relation.into()],
        |row| {
            Ok(Policy {
                name: row.get(1)?,
                permissive: row.get(2)?,
                command: row.get(3)?,
                public: row.get(4)?,
                using: row.optional(5)?,
                check: row.optional(6)?,
            })
        },
    )
}

/// Rows of the tree by the planner's statistics or by a bounded count, whichever is more.
pub fn rows_at_least(root: pg_sys::Oid, name: &str, limit: i64) -> Result<i64> {
    let estimate = spi::row(
        "WITH RECURSIVE tree(oid) AS (
           SELECT $1::oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid)
         SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::int8 FROM tree JOIN pg_class c ON c.oid = tree.oid WHERE c.relkind = 'r'",
        &[root.into()],
        |row| row.get::<i64>(1),
    )?
    .unwrap_or(0);
    if estimate > limit {
        return Ok(estimate);
    }
    let sql = format!("SELECT count(*) FROM (SELECT FROM {name} LIMIT {}) AS t", limit + 1);
    Ok(estimate.max(spi::row(&sql, &[], |row| row.get(1))?.unwrap_or(0)))
}

/// How many rows have no tenant.
pub fn nulls(name: &str, column: &str) -> Result<i64> {
    let sql = format!("SELECT count(*) FROM {name} WHERE {column} IS NULL");
    Ok(spi::row(&sql, &[], |row| row.get(1))?.unwrap_or(0))
}

/// The index that was made last.
pub fn newest_index(relation: pg_sys::Oid) -> Result<Option<u32>> {
    let newest = spi::row(
        "SELECT x.indexrelid FROM pg_index x WHERE x.indrelid = $1 ORDER BY x.indexrelid DESC LIMIT 1",
        &[relation.into()],
        |row| row.get::<pg_sys::Oid>(1),
    )?;
    Ok(newest.map(pg_sys::Oid::to_u32))
}

/// The quoted name of the table's index with this oid, if there still is one that begins with the column.
pub fn index_name(relation: pg_sys::Oid, index: u32, column: &str) -> Result<Option<String>> {
    spi::row(
        "SELECT format('%I.%I', n.nspname, c.relname)
           FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
          WHERE x.indrelid = $1 AND x.indexrelid = $2 AND a.attname = $3::text::name",
        &[relation.into(), pg_sys::Oid::from(index).into(), column.into()],
        |row| row.get(1),
    )
}
