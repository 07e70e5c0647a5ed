//! Makes a partition: a table like the parent, dressed as its siblings are, then attached. Nobody sees it before that, and no query
//! or write on the parent waits for it: LIKE and ATTACH lock the parent against other DDL only.

use pgrx::prelude::*;

use super::bound::Range;
use super::table::Table;
use super::{dress, name, table};
use crate::error::Result;
use crate::pg::{lock_timeout, relation_locks, security, spi};

/// A table that stands under the name of the partition to be made, and is one that lost its parent: empty, and of the same form and owner.
struct Orphan(pg_sys::Oid);

/// What was made.
pub struct Made {
    /// `schema.name`, quoted.
    pub name: String,
    pub adopted: bool,
}

/// Which of the missing partitions to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    All,
    /// The present one and those ahead, and no hole of the past.
    Ahead,
}

/// The first of the missing partitions, if there is one; None also when somebody else was faster. Raises 55P03 when the table is
/// being altered. The inner error names a referenced table that could not be locked without waiting.
pub fn next(parent: pg_sys::Oid, now: i64, wanted: Wanted) -> Result<std::result::Result<Option<Made>, String>> {
    // Those of the past come last.
    let missing = |table: &Table| {
        let first = table.rule.missing(&table.ranges(), now, 1).into_iter().next();
        first.filter(|range| wanted == Wanted::All || range.upper.at > now)
    };
    match table::read(parent)? {
        Some(table) if missing(&table).is_some() => {}
        _ => return Ok(Ok(None)),
    }
    relation_locks::wait_for_relation(parent, relation_locks::Mode::ShareUpdate, lock_timeout::DDL);
    // A foreign key of the new partition makes a trigger on the table that it refers to.
    for referenced in referenced_by(parent)? {
        if !relation_locks::try_relation(referenced, relation_locks::Mode::ShareRow) {
            return Ok(Err(security::relation_name(referenced)));
        }
    }
    let Some(table) = table::read(parent)? else { return Ok(Ok(None)) };
    let Some(range) = missing(&table) else { return Ok(Ok(None)) };
    Ok(Ok(Some(partition(&table, &range)?)))
}

/// Tables that a relation's foreign keys refer to.
pub fn referenced_by(relation: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    spi::rows(
        "SELECT DISTINCT k.confrelid FROM pg_constraint k WHERE k.conrelid = $1 AND k.contype = 'f' AND k.confrelid <> $1 ORDER BY 1",
        &[relation.into()],
        |row| row.get(1),
    )
}

fn partition(table: &Table, range: &Range) -> Result<Made> {
    let monthly = table.is_monthly();
    if let Some(Orphan(orphan)) = orphan(table, &name::first(&table.relname, range, monthly))? {
        let name = security::relation_name(orphan);
        attach(table, &name, orphan, range)?;
        return Ok(Made { name, adopted: true });
    }
    let taken = taken(table)?;
    let relname = name::of(&table.relname, range, monthly, |name| taken.iter().any(|taken| taken == name));
    let name = format!("{}.{}", table.schema, spi::identifier(&relname));
    as_owner(table, &create(table, &name, range)?)?;
    let leaf = spi::row(
        "SELECT c.oid FROM pg_class c JOIN pg_class p ON p.relnamespace = c.relnamespace WHERE p.oid = $1 AND c.relname = $2::text::name",
        &[table.oid.into(), relname.as_str().into()],
        |row| row.get::<pg_sys::Oid>(1),
    )?
    .ok_or_else(|| crate::error::internal(format!("{name} was made and is not there")))?;
    attach(table, &name, leaf, range)?;
    Ok(Made { name, adopted: false })
}

fn as_owner(table: &Table, statement: &str) -> Result<()> {
    security::as_owner(table.oid, || spi::run(statement, &[]))
}

/// Names of the schema that look like the parent's partitions: of relations and of types, which share them.
fn taken(table: &Table) -> Result<Vec<String>> {
    spi::rows(
        "SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = (SELECT p.relnamespace FROM pg_class p WHERE p.oid = $1)
         UNION SELECT t.typname::text FROM pg_type t WHERE t.typnamespace = (SELECT p.relnamespace FROM pg_class p WHERE p.oid = $1)",
        &[table.oid.into()],
        |row| row.get(1),
    )
}

/// `bulkhead_range` tells the server that there is nothing to scan for, and goes once the partition is attached.
pub const RANGE: &str = "bulkhead_range";

fn create(table: &Table, name: &str, range: &Range) -> Result<String> {
    let storage = dress::storage(table)?;
    let mut parts = vec![
        // Indexes come with ATTACH, from the parent's; an identity column is the parent's.
        format!("LIKE {} INCLUDING ALL EXCLUDING INDEXES EXCLUDING IDENTITY", table.name),
        format!("CONSTRAINT {RANGE} CHECK ({})", range.condition(&table.column)),
    ];
    if !table.managed.leaf_key.is_empty() {
        let columns: Vec<String> = table.managed.leaf_key.iter().map(|column| spi::identifier(column)).collect();
        parts.push(format!("PRIMARY KEY ({})", columns.join(", ")));
    }
    Ok(format!("CREATE {}TABLE {name} ({}){}", storage.unlogged, parts.join(", "), storage.clauses))
}

fn attach(table: &Table, name: &str, leaf: pg_sys::Oid, range: &Range) -> Result<()> {
    for statement in dress::before(table, name, leaf)? {
        pgrx::check_for_interrupts!();
        as_owner(table, &statement)?;
    }
    as_owner(table, &format!("ALTER TABLE {} ATTACH PARTITION {name} FOR VALUES {}", table.name, range.values()))?;
    as_owner(table, &format!("ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {RANGE}"))?;
    for statement in dress::after(table, name, leaf)? {
        as_owner(table, &statement)?;
    }
    Ok(())
}

/// A run that was interrupted, or another tool, may have left it: only what holds nothing and would be made just so is taken in.
fn orphan(table: &Table, relname: &str) -> Result<Option<Orphan>> {
    let found = spi::row(
        "SELECT c.oid FROM pg_class c JOIN pg_class p ON p.oid = $1
          WHERE c.relname = $2::text::name AND c.relnamespace = p.relnamespace AND c.relowner = p.relowner
            AND c.relkind = 'r' AND NOT c.relispartition AND NOT c.relhassubclass AND c.relpersistence <> 't'
            AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
            AND NOT EXISTS (SELECT FROM pg_constraint k WHERE c.oid IN (k.conrelid, k.confrelid) AND k.contype = 'f')
            AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid)
            AND (SELECT array_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), a.attcollation, a.attgenerated)
                                  ORDER BY a.attname)
                   FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
              = (SELECT array_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), a.attcollation, a.attgenerated)
                                  ORDER BY a.attname)
                   FROM pg_attribute a WHERE a.attrelid = p.oid AND a.attnum > 0 AND NOT a.attisdropped)",
        &[table.oid.into(), relname.into()],
        |row| row.get::<pg_sys::Oid>(1),
    )?;
    let Some(orphan) = found else { return Ok(None) };
    // Locked before it is looked into, so that nobody fills it now.
    if !relation_locks::try_relation(orphan, relation_locks::Mode::Access) || table::has_pages(orphan)? {
        return Ok(None);
    }
    Ok(Some(Orphan(orphan)))
}

/// Tables that look like partitions which lost their parent.
pub fn orphans(table: &Table) -> Result<Vec<String>> {
    let candidates = spi::rows(
        "SELECT c.relname::text FROM pg_class c JOIN pg_class p ON p.oid = $1
          WHERE c.relnamespace = p.relnamespace AND c.relowner = p.relowner AND c.relkind = 'r' AND NOT c.relispartition
            AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
          ORDER BY 1",
        &[table.oid.into()],
        |row| row.get::<String>(1),
    )?;
    let like = candidates.into_iter().filter(|candidate| name::is_like(&table.relname, candidate));
    Ok(like.map(|relname| format!("{}.{}", table.schema, spi::identifier(&relname))).collect())
}
