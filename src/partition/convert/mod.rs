//! The statements that turn an ordinary table into a partitioned one while the application goes on.
//!
//! A new parent is made beside the table, like it. The table gets a constraint that says what it will hold, checked while it is in use, and the
//! unique indexes that a partitioned table can have, built concurrently. Then one short transaction swaps the names and attaches the
//! table as the first partition, which needs neither a scan nor an index. What needs a lock against everybody asks for it for a moment
//! only, and again and again: each such statement is a block that repeats itself.

mod keys;
mod parts;

use pgrx::prelude::*;

use self::parts::{Old, Reads};
use super::bound::{Edge, Kind};
use super::make::RANGE;
use super::span::{Every, Span};
use super::{admit, ledger, name, table};
use crate::error::{self, Result};
use crate::pg::{lock_timeout, registry, security, spi};
use crate::rls;

/// What the table is called when it is a partition, and the parent before it takes over the name.
const OLD: &str = "_before";
const NEW: &str = "_partitioned";

pub fn plan(relation: pg_sys::Oid, column: &str, every: Span) -> Result<Vec<String>> {
    let (old, kind) = admit_table(relation, column)?;
    let every = table::every(every, kind)?;
    let boundary = boundary(kind, every);
    let mut plan = vec![format!(
        "-- {} becomes the first partition of a table of that name; it holds what is before {}. Run these one by one, outside a transaction block",
        old.name, boundary.sql
    )];
    plan.extend(parts::remarks(&old)?);
    plan.extend(parent(&old)?);
    let keys = keys::of(&old)?;
    plan.extend(keys.prepare);
    let (without, with) = parts::vacuum(&old)?;
    plan.push(without);
    plan.extend(range(&old, &boundary));
    let mut swap = is_ready(&old, &keys.built);
    swap.extend([
        format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", old.name),
        format!("ALTER TABLE {} RENAME TO {}", old.name, spi::identifier(&old.old_relname)),
        format!("ALTER TABLE {} RENAME TO {}", old.new_name, spi::identifier(&old.relname)),
    ]);
    swap.extend(parts::policies(&old, Reads::Itself)?);
    swap.extend(keys.swap);
    swap.extend(parts::sequences(&old)?);
    swap.extend(parts::triggers(&old)?);
    swap.push(format!(
        "ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM (MINVALUE) TO ({})",
        old.name, old.old_name, boundary.sql
    ));
    swap.push(format!("ALTER TABLE {} DROP CONSTRAINT {RANGE}", old.old_name));
    plan.push(patiently(&swap));
    plan.push(with);
    plan.push(format!("ANALYZE {}", old.name));
    plan.push(format!(
        "-- then, with how long rows are kept: SELECT bulkhead.manage_partitions({}, {}, '1 year'); CALL bulkhead.maintain()",
        spi::literal(&old.name),
        spi::literal(&shown(every)),
    ));
    Ok(plan)
}

fn shown(every: Every) -> String {
    match every {
        Every::Months(1) => "1 month".to_owned(),
        Every::Months(months) => format!("{months} months"),
        Every::Fixed(super::time::DAY) => "1 day".to_owned(),
        Every::Fixed(_) if every.is_whole_days() => format!("{} days", every.length() / super::time::DAY),
        Every::Fixed(micros) => format!("{} seconds", micros / super::time::SECOND),
    }
}

/// At least one whole partition ahead, so that there is time for the plan and for maintain().
fn boundary(kind: Kind, every: Every) -> Edge {
    let present = every.aligned(ledger::now());
    Edge::at(kind, every.boundary(present, 2))
}

fn admit_table(relation: pg_sys::Oid, column: &str) -> Result<(Old, Kind)> {
    admit::owner(relation)?;
    let name = security::relation_name(relation);
    let refuse =
        |why: &str, hint: &str| Err(error::argument(format!("cannot plan the partitioning of {name}: {why}"), hint));
    let facts = spi::row(
        "SELECT c.relkind = 'r' AND c.relpersistence <> 't', c.relkind = 'p',
                c.relispartition OR EXISTS (SELECT FROM pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent)),
                EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'),
                c.reloftype <> 0::oid,
                (SELECT min(quote_ident(k.conname)) FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('c', 'n') AND k.connoinherit)
           FROM pg_class c WHERE c.oid = $1",
        &[relation.into()],
        |row| {
            let forms = (row.get::<bool>(5)?, row.optional::<String>(6)?);
            Ok((row.get::<bool>(1)?, row.get::<bool>(2)?, row.get::<bool>(3)?, row.get::<bool>(4)?, forms))
        },
    )?;
    match facts {
        Some((_, true, ..)) => {
            return refuse(
                "it is partitioned already",
                "SELECT bulkhead.manage_partitions(...) has its partitions made and dropped.",
            );
        }
        Some((false, ..)) | None => return refuse("it is not an ordinary table", "Name a table."),
        Some((_, _, true, ..)) => {
            return refuse("it inherits, or is inherited from", "ALTER TABLE ... NO INHERIT first.");
        }
        Some((_, _, _, true, _)) => return refuse("it belongs to an extension", "Only the extension can change it."),
        Some((.., (true, _))) => {
            return refuse("it is a table of a composite type", "ALTER TABLE ... NOT OF first.");
        }
        Some((.., (_, Some(constraint)))) => {
            return refuse(
                &format!("its constraint {constraint} is NO INHERIT, which a partitioned table's cannot be"),
                "Drop the constraint, and add it without NO INHERIT.",
            );
        }
        Some(_) => {}
    }
    let found = spi::row(
        "SELECT a.attnum, quote_ident(a.attname), a.atttypid, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated <> ''
           FROM pg_attribute a WHERE a.attrelid = $1 AND a.attname = $2::text::name AND a.attnum > 0 AND NOT a.attisdropped",
        &[relation.into(), column.into()],
        |row| {
            Ok((row.get::<i16>(1)?, row.get::<String>(2)?, row.get::<pg_sys::Oid>(3)?, row.get::<String>(4)?, (row.get::<bool>(5)?, row.get::<bool>(6)?)))
        },
    )?;
    let Some((number, column, type_oid, type_name, (not_null, generated))) = found else {
        return refuse(&format!("it has no column \"{column}\""), "Name the column of time.");
    };
    let Some(kind) = Kind::of(security::base_type(type_oid)).filter(|_| !generated) else {
        return refuse(
            &format!("column {column} is {}{type_name}", if generated { "generated, and " } else { "" }),
            "The control column is of type timestamptz, timestamp, date, or uuid (holding UUIDv7), and is no generated one.",
        );
    };
    let shape = table::shape(relation)?.filter(|shape| shape.ascii);
    let Some(shape) = shape else {
        return refuse(
            "it has a name that is not ASCII, in a database that is not UTF8",
            "Rename it in ASCII, or move the database to encoding UTF8.",
        );
    };
    let [old_relname, new_relname] = [OLD, NEW].map(|suffix| name::with_suffix(&shape.relname, suffix));
    for taken in [&old_relname, &new_relname] {
        if spi::row(
            "SELECT true FROM pg_class c JOIN pg_class o ON o.relnamespace = c.relnamespace WHERE o.oid = $1 AND c.relname = $2::text::name",
            &[relation.into(), taken.as_str().into()],
            |row| row.get::<bool>(1),
        )?
        .is_some()
        {
            return Err(error::state(
                format!("there is a relation {taken} already"),
                "The plan needs that name.",
                "Rename or drop it; a plan that was begun has to be taken back first.",
            ));
        }
    }
    let qualified = |relname: &str| format!("{}.{}", shape.schema, spi::identifier(relname));
    let old = Old {
        oid: relation,
        name,
        old_name: qualified(&old_relname),
        new_name: qualified(&new_relname),
        relname: shape.relname.clone(),
        old_relname,
        new_relname,
        column,
        number,
        not_null,
    };
    Ok((old, kind))
}

/// The new parent with all that makes rows safe in it, before it has any.
fn parent(old: &Old) -> Result<Vec<String>> {
    let mut plan = vec![format!(
        "CREATE TABLE {} (LIKE {} INCLUDING ALL EXCLUDING INDEXES) PARTITION BY RANGE ({})",
        old.new_name, old.name, old.column
    )];
    plan.extend(parts::rights(old)?);
    plan.extend(parts::comment(old)?);
    plan.extend(parts::policies(old, Reads::Others)?);
    match registry::find(old.oid) {
        Some(registry::Entry { border: registry::Border::Column(_), column, .. }) => {
            let column = spi::row(
                "SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = $1 AND a.attnum = $2",
                &[old.oid.into(), column.into()],
                |row| row.get::<String>(1),
            )?;
            let column = column.unwrap_or_default();
            plan.extend(rls::bare(old.oid, &old.new_name)?);
            plan.push(format!("SELECT bulkhead.protect({}, {})", spi::literal(&old.new_name), spi::literal(&column)));
        }
        Some(registry::Entry { border: registry::Border::Shared, .. }) => {
            plan.push(format!("SELECT bulkhead.share({})", spi::literal(&old.new_name)));
        }
        _ => {}
    }
    plan.extend(parts::foreign_keys(old)?);
    Ok(plan)
}

/// What the table holds, as a constraint: added at once, checked while the application goes on.
fn range(old: &Old, boundary: &Edge) -> Vec<String> {
    let condition = format!("{0} IS NOT NULL AND {0} OPERATOR(pg_catalog.<) {1}", old.column, boundary.sql);
    let mut plan = vec![
        patiently(&[format!("ALTER TABLE {} ADD CONSTRAINT {RANGE} CHECK ({condition}) NOT VALID", old.name)]),
        format!("ALTER TABLE {} VALIDATE CONSTRAINT {RANGE}", old.name),
    ];
    if !old.not_null {
        // The constraint spares it the scan.
        plan.push(patiently(&[format!("ALTER TABLE {} ALTER COLUMN {} SET NOT NULL", old.name, old.column)]));
        plan.push(format!("ALTER TABLE {} ALTER COLUMN {} SET NOT NULL", old.new_name, old.column));
    }
    plan
}

/// Stops the swap where an earlier statement failed, and was passed over: the server would do its work now, under the lock.
fn is_ready(old: &Old, indexes: &[String]) -> Vec<String> {
    let table = spi::literal(&old.name);
    let mut steps = vec![(
        format!("constraint {RANGE} is not validated"),
        format!(
            "pg_catalog.pg_constraint k WHERE k.conrelid OPERATOR(pg_catalog.=) {table}::pg_catalog.regclass AND k.conname OPERATOR(pg_catalog.=) '{RANGE}' AND k.convalidated"
        ),
    )];
    steps.extend(indexes.iter().map(|index| {
        let from = format!(
            "pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid OPERATOR(pg_catalog.=) x.indexrelid WHERE x.indrelid OPERATOR(pg_catalog.=) {table}::pg_catalog.regclass AND i.relname OPERATOR(pg_catalog.=) {} AND x.indisvalid",
            spi::literal(index)
        );
        (format!("index {index} is not there, or is invalid"), from)
    }));
    let stop = |(what, from): (String, String)| {
        let what = spi::literal(&what);
        format!(
            "IF NOT EXISTS (SELECT FROM {from}) THEN RAISE object_not_in_prerequisite_state USING MESSAGE = {what}, HINT = 'An earlier statement of the plan failed, or was not run: run it again.'; END IF"
        )
    };
    steps.into_iter().map(stop).collect()
}

/// A block that runs the statements as one, with a short wait for their locks, until that succeeds: 100 times at most.
fn patiently(statements: &[String]) -> String {
    let body: String = statements.iter().map(|statement| format!("\n      {statement};")).collect();
    let mut tag = "plan".to_owned();
    while body.contains(&format!("${tag}$")) {
        tag.push('_');
    }
    format!(
        "DO ${tag}$
BEGIN
  FOR attempt IN 1..100 LOOP
    BEGIN
      SET LOCAL lock_timeout = '{}';{body}
      RETURN;
    EXCEPTION WHEN lock_not_available THEN
      PERFORM pg_catalog.pg_sleep(0.1 + pg_catalog.random());
    END;
  END LOOP;
  RAISE lock_not_available USING MESSAGE = 'the table was in use all the time', HINT = 'Run this statement again.';
END
${tag}$",
        lock_timeout::text(lock_timeout::PLAN)
    )
}
