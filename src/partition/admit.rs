//! Which tables can be managed, and how: 42501 for a table of another role, 22023 and 55000 for what cannot be.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::bound::Kind;
use super::span::Span;
use super::table::{self, Shape};
use super::time::LAST;
use super::{due::RetentionRule, ledger};
use crate::error::{self, Result};
use crate::pg::{registry, security, spi};
use crate::seal::bypass;

/// The table's owner, a member of that role, or a superuser.
pub fn owner(relation: pg_sys::Oid) -> Result<()> {
    security::require_owner(relation, "Only a table's owner may have its partitions made and dropped.")
}

/// Refuses what is not partitioned as it has to be; what the table is partitioned by.
pub fn parent(relation: pg_sys::Oid) -> Result<(Shape, Kind)> {
    owner(relation)?;
    let name = security::relation_name(relation);
    let shape =
        table::shape(relation)?.ok_or_else(|| error::argument(format!("there is no table {name}"), "Name a table."))?;
    let refuse =
        |why: &str, hint: &str| Err(error::argument(format!("cannot manage the partitions of {name}: {why}"), hint));
    if !shape.ascii {
        return refuse(
            "it has a name that is not ASCII, in a database that is not UTF8",
            "Rename it in ASCII, or move the database to encoding UTF8.",
        );
    }
    if !shape.partitioned {
        return refuse(
            "it is not partitioned",
            "SELECT bulkhead.partition_plan(...) gives the statements that turn it into a partitioned table.",
        );
    }
    if shape.persistence == "t" {
        return refuse("it is temporary", "No other session sees its rows, and it ends with its own.");
    }
    if shape.is_partition {
        return refuse("it is itself a partition", "Call the function for the table that the application names.");
    }
    if shape.strategy != "r" {
        return refuse("it is not partitioned by range", "A range of time is what can be made ahead and expire.");
    }
    if shape.columns != 1 {
        return refuse(
            "it is partitioned by more than one column",
            "Partition it by the column of time alone; others can be in its indexes.",
        );
    }
    if shape.column.is_none() {
        return refuse("it is partitioned by an expression", "Partition it by a column.");
    }
    let Some(kind) = Kind::of(security::base_type(shape.type_oid)) else {
        return refuse(
            &format!("it is partitioned by a column of type {}", shape.type_name),
            "The control column is of type timestamptz, timestamp, date, or uuid (holding UUIDv7).",
        );
    };
    if !shape.usual_order {
        return refuse("its partition key has an operator class of its own", "Use the type's default operator class.");
    }
    let leaves = table::leaves(relation, &name, kind)?;
    if shape.has_default {
        return refuse("it has a DEFAULT partition", "Move its rows, and detach it.");
    }
    if let Some(leaf) = leaves.iter().find(|leaf| !leaf.plain) {
        return refuse(
            &format!("partition {} is partitioned again, or foreign", leaf.name),
            "Each partition has to be an ordinary table.",
        );
    }
    Ok((shape, kind))
}

/// Judges the numbers: the rule that they make.
pub fn rule(kind: Kind, every: Span, retain: Span, premake: i32) -> Result<RetentionRule> {
    let every = table::every(every, kind)?;
    if retain.months < 0 || retain.days < 0 || retain.micros < 0 {
        // One month less 29 days is as long as the month is: it may be less than nothing.
        return Err(error::argument(
            "retain has a part that is negative",
            "How long that is depends on the month: say it in one unit, '30 days' for example.",
        ));
    }
    if retain.length() < every.length() {
        return Err(error::argument(
            "retain is shorter than every",
            "Rows are dropped by whole partitions: make retain at least as long as one.",
        ));
    }
    if !(1..=1000).contains(&premake) {
        return Err(error::argument(
            format!("premake is {premake}, and has to be from 1 to 1000"),
            "It is the number of partitions ahead of the present one: the default is 3.",
        ));
    }
    let rule = RetentionRule { kind, every, retain, premake: i64::from(premake) };
    if every.boundary(ledger::now(), rule.premake) >= LAST {
        return Err(error::argument("every times premake goes beyond the year 9999", "Make one of them smaller."));
    }
    Ok(rule)
}

/// A function that takes a regclass and gives nothing back that matters.
pub fn on_expire(parent: pg_sys::Oid, function: pg_sys::Oid) -> Result<()> {
    let fits = spi::row(
        "SELECT p.prokind = 'f' AND p.pronargs = 1 AND p.proargtypes[0] = 'regclass'::regtype AND NOT p.proretset
           FROM pg_proc p WHERE p.oid = $1",
        &[function.into()],
        |row| row.get::<bool>(1),
    )?;
    if fits != Some(true) {
        return Err(error::argument(
            "on_expire must be a function with one argument of type regclass, which returns no set",
            "CREATE FUNCTION archive(partition regclass) RETURNS void ...",
        ));
    }
    if registry::is_protected(parent) {
        let table = security::relation_name(parent);
        bypass::require(
            &format!("an on_expire function for protected table {table}"),
            "It is given the rows of all tenants.",
        )?;
    }
    Ok(())
}

/// The managed table that the relation is a partition of.
pub fn partition_of(relation: pg_sys::Oid) -> Result<pg_sys::Oid> {
    owner(relation)?;
    let parent = spi::row(
        "SELECT i.inhparent FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent WHERE i.inhrelid = $1 AND c.relkind = 'p'",
        &[relation.into()],
        |row| row.get::<pg_sys::Oid>(1),
    )?;
    if let Some(parent) = parent
        && ledger::find(parent)?.is_some()
    {
        return Ok(parent);
    }
    Err(error::state(
        format!("{} is not a partition of a managed table", security::relation_name(relation)),
        "Only maintain() drops partitions, and only those of managed tables.",
        "SELECT * FROM bulkhead.managed_partitions lists the managed tables.",
    ))
}

pub fn not_managed(parent: pg_sys::Oid) -> ErrorReport {
    error::state(
        format!("the partitions of {} are not managed", security::relation_name(parent)),
        "bulkhead.manage_partitions() was not called for it.",
        "SELECT * FROM bulkhead.managed_partitions lists the managed tables.",
    )
}

pub fn managed(parent: pg_sys::Oid) -> Result<()> {
    match ledger::find(parent)? {
        Some(_) => Ok(()),
        None => Err(not_managed(parent)),
    }
}
