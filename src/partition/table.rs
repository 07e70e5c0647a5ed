//! A managed table as it is now: what it is partitioned by, its partitions, its rule.

use pgrx::prelude::*;

use super::bound::{Kind, Range};
use super::due::RetentionRule;
use super::ledger::{self, Managed};
use super::span::{Every, Span, Unfit};
use super::time;
use crate::error::{self, Result};
use crate::pg::{security, spi};

/// A partition.
#[derive(Clone, Debug)]
pub struct Leaf {
    pub oid: pg_sys::Oid,
    /// `schema.name`, quoted.
    pub name: String,
    pub range: Range,
    /// An ordinary table, and not one that is partitioned again or foreign.
    pub plain: bool,
    /// A DETACH CONCURRENTLY was begun and not ended.
    pub pending: bool,
    pub held: bool,
    pub archived: bool,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub oid: pg_sys::Oid,
    /// `schema.name`, quoted.
    pub name: String,
    /// Without its schema, as it is.
    pub relname: String,
    /// Quoted.
    pub schema: String,
    /// The control column, quoted.
    pub column: String,
    pub managed: Managed,
    pub rule: RetentionRule,
    /// In the order of their ranges.
    pub leaves: Vec<Leaf>,
}

impl Table {
    pub fn ranges(&self) -> Vec<Range> {
        self.leaves.iter().map(|leaf| leaf.range.clone()).collect()
    }

    /// Whose settings a new partition takes over.
    pub fn newest(&self) -> Option<&Leaf> {
        self.leaves.iter().rev().find(|leaf| leaf.plain && !leaf.pending)
    }

    /// One of the extension's own that nobody has needed so far: its first row makes the partitions.
    pub fn is_unused(&self) -> bool {
        self.managed.retain.is_none() && self.leaves.is_empty()
    }

    pub fn is_monthly(&self) -> bool {
        matches!(self.rule.every, Every::Months(_))
    }
}

/// What the catalogs say about a relation that may be managed.
pub struct Shape {
    pub relname: String,
    pub schema: String,
    pub partitioned: bool,
    pub persistence: String,
    pub is_partition: bool,
    /// `r` for range, `l` for list, `h` for hash.
    pub strategy: String,
    pub columns: i16,
    /// Quoted; None for an expression.
    pub column: Option<String>,
    pub type_oid: pg_sys::Oid,
    pub type_name: String,
    pub usual_order: bool,
    pub has_default: bool,
    pub ascii: bool,
}

pub fn shape(relation: pg_sys::Oid) -> Result<Option<Shape>> {
    spi::row(
        "SELECT c.relname::text, quote_ident(n.nspname), c.relkind = 'p', c.relpersistence::text, c.relispartition,
                coalesce(p.partstrat::text, ''), coalesce(p.partnatts, 0::int2), quote_ident(a.attname), coalesce(a.atttypid, 0::oid),
                coalesce(format_type(a.atttypid, a.atttypmod), ''), coalesce(o.opcdefault, false), coalesce(p.partdefid, 0::oid) <> 0::oid,
                getdatabaseencoding() = 'UTF8'
                  OR encode(textsend(concat(n.nspname, c.relname, a.attname)), 'hex') !~ '^(..)*[89a-f]'
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid
           LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0] AND a.attnum > 0
           LEFT JOIN pg_opclass o ON o.oid = p.partclass[0]
          WHERE c.oid = $1",
        &[relation.into()],
        |row| {
            Ok(Shape {
                relname: row.get(1)?,
                schema: row.get(2)?,
                partitioned: row.get(3)?,
                persistence: row.get(4)?,
                is_partition: row.get(5)?,
                strategy: row.get(6)?,
                columns: row.get(7)?,
                column: row.optional(8)?,
                type_oid: row.get(9)?,
                type_name: row.get(10)?,
                usual_order: row.get(11)?,
                has_default: row.get(12)?,
                ascii: row.get(13)?,
            })
        },
    )
}

/// The length of a partition, or why it cannot be one: 22023.
pub fn every(span: Span, kind: Kind) -> Result<Every> {
    let refuse = |why: &str| {
        Err(error::argument(
            format!("every cannot be the length of a partition: {why}"),
            "Use months ('1 month'), or days and shorter ('1 day', '7 days', '1 hour').",
        ))
    };
    match Every::of(span) {
        Err(Unfit::NotPositive) => refuse("it is not longer than nothing"),
        Err(Unfit::Mixed) => refuse("months, which differ in length, are mixed with days or hours"),
        Err(Unfit::TooShort) => refuse("it is shorter than a minute"),
        Err(Unfit::TooLong) => refuse("it is longer than a hundred years"),
        Ok(every) if kind == Kind::Date && !every.is_whole_days() => {
            refuse("the control column is a date, and it is no whole number of days")
        }
        Ok(every) => Ok(every),
    }
}

/// Reads a managed table; None when it is gone or not managed any more. 55000 when it cannot be managed any more.
pub fn read(parent: pg_sys::Oid) -> Result<Option<Table>> {
    let Some(managed) = ledger::find(parent)? else { return Ok(None) };
    let Some(shape) = shape(parent)? else { return Ok(None) };
    let name = security::relation_name(parent);
    let (Some(column), Some(kind)) = (shape.column, Kind::of(security::base_type(shape.type_oid))) else {
        return Err(error::internal(format!("{name} is managed and has no control column")));
    };
    let retain = managed.retain.unwrap_or_else(|| super::retention(parent));
    let rule = RetentionRule { kind, every: every(managed.every, kind)?, retain, premake: i64::from(managed.premake) };
    let leaves = leaves(parent, &name, kind)?;
    Ok(Some(Table { oid: parent, name, relname: shape.relname, schema: shape.schema, column, managed, rule, leaves }))
}

/// The partitions in the order of their ranges. 55000 for one whose range cannot be told: DEFAULT.
pub fn leaves(parent: pg_sys::Oid, name: &str, kind: Kind) -> Result<Vec<Leaf>> {
    let found = security::as_extension(|| {
        spi::rows(
            "SELECT c.oid, format('%I.%I', n.nspname, c.relname), pg_get_expr(c.relpartbound, c.oid), c.relkind = 'r', i.inhdetachpending,
                    EXISTS (SELECT FROM bulkhead.partition_hold h WHERE h.partition = c.oid),
                    EXISTS (SELECT FROM bulkhead.partition_archived a WHERE a.partition = c.oid)
               FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE i.inhparent = $1",
            &[parent.into()],
            |row| {
                let bound = row.get::<String>(3)?;
                let range = Range::parse(kind, &bound);
                let empty = super::bound::Edge { at: time::PAST, sql: String::new() };
                let leaf = Leaf {
                    oid: row.get(1)?,
                    name: row.get(2)?,
                    range: range.clone().unwrap_or(Range { lower: empty.clone(), upper: empty }),
                    plain: row.get(4)?,
                    pending: row.get(5)?,
                    held: row.get(6)?,
                    archived: row.get(7)?,
                };
                Ok((leaf, range.is_none().then_some(bound)))
            },
        )
    })?;
    if let Some((leaf, Some(bound))) = found.iter().find(|(_, unknown)| unknown.is_some()) {
        return Err(error::state(
            format!("partition {} of {name} is {bound}", leaf.name),
            "With a DEFAULT partition every new one has to wait until that has been searched for its rows, under an exclusive lock.",
            format!("Move its rows, and ALTER TABLE {name} DETACH PARTITION {};", leaf.name),
        ));
    }
    let mut leaves: Vec<Leaf> = found.into_iter().map(|(leaf, _)| leaf).collect();
    leaves.sort_by_key(|leaf| (leaf.range.lower.at, leaf.range.upper.at));
    Ok(leaves)
}

/// Whether the relation holds anything at all, dead rows included. Locks it against nothing but its own drop.
pub fn has_pages(relation: pg_sys::Oid) -> Result<bool> {
    let size = spi::row("SELECT pg_relation_size($1::oid::regclass) > 0", &[relation.into()], |row| row.optional(1))?;
    Ok(size.flatten().unwrap_or(false))
}
