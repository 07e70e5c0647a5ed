//! Does what `steps` says: protect, unprotect, and the adoption of new children.

use std::cell::Cell;

use pgrx::prelude::*;

use super::facts::Facts;
use super::registry_rows::{self, Registered};
use super::shape::{self, Column, Shape};
use super::steps::{self, Border, Earlier, Step, Undo};
use crate::error::{self, Result};
use crate::observe;
use crate::pg::cell::PerBackend;
use crate::pg::{security, spi};
use crate::seal::bypass;

/// On a table with more rows than this, building the index would hold up writers for too long.
const ROWS_TO_INDEX: i64 = 100_000;

/// Our own DDL fires the event trigger too, which must then stay out of the way.
static BUSY: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));

pub fn is_busy() -> bool {
    BUSY.get()
}

pub struct Busy(bool);

impl Busy {
    pub fn begin() -> Busy {
        Busy(BUSY.replace(true))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.set(self.0);
    }
}

/// What these functions look up must be what is there now, also what others committed since the transaction began.
pub fn refuse_old_snapshot() -> Result<()> {
    if !security::has_transaction_snapshot() {
        return Ok(());
    }
    Err(error::transaction(
        "the protection of tables cannot be changed under REPEATABLE READ or SERIALIZABLE",
        "Such a transaction does not see partitions and registrations that others committed since it began.",
        "Use a READ COMMITTED transaction.",
    ))
}

/// Locks the table and all below it, and looks again: until then it could be renamed, dropped or given away.
pub fn lock(relation: pg_sys::Oid) -> Result<()> {
    security::lock_tree(relation);
    shape::admit(relation)
}

pub fn protect(relation: pg_sys::Oid, column: &str) -> Result<Vec<String>> {
    refuse_old_snapshot()?;
    shape::admit(relation)?;
    let column = shape::column(relation, column)?;
    let below = shape::parent(relation)?.is_some();
    let mut done = Vec::new();
    match registry_rows::find(relation)? {
        Some(registered) if below && registered.column == column.name => return Ok(done),
        Some(_) | None if below => return Err(below_a_parent(relation)),
        Some(registered) if registered.shared || registered.column != column.name => done = take_off(relation)?,
        Some(_) | None => {}
    }
    let _busy = Busy::begin();
    done.extend(apply(relation, &column, false)?);
    Ok(done)
}

/// A table's rows can be read through its parent, past its own policies: so the parent is what has to be protected.
pub fn below_a_parent(relation: pg_sys::Oid) -> pgrx::pg_sys::panic::ErrorReport {
    let parent = match shape::parent(relation) {
        Ok(parent) => parent.map_or_else(|| "its parent".to_owned(), security::relation_name),
        Err(report) => return report,
    };
    error::state(
        format!("{} inherits from {parent}", security::relation_name(relation)),
        "A query on the parent reads the child's rows without asking the child's policies.",
        "Call the function for the parent: its partitions and children are covered, also those that come later.",
    )
}

/// A child that appeared below a protected table.
pub fn adopt(child: pg_sys::Oid, ancestor: pg_sys::Oid, column: &str) -> Result<()> {
    let _busy = Busy::begin();
    shape::admit(child).map_err(|report| {
        error::state(
            format!(
                "{} cannot become a child of protected table {}",
                security::relation_name(child),
                security::relation_name(ancestor)
            ),
            report.message().to_owned(),
            report.hint().unwrap_or_default().to_owned(),
        )
    })?;
    let column = shape::column(child, column)?;
    apply(child, &column, true).map(drop)
}

fn apply(root: pg_sys::Oid, column: &Column, inherited: bool) -> Result<Vec<String>> {
    let border = Border { column: &column.quoted, accessor: column.key.accessor() };
    let before = shape::tree(root, &column.name)?;
    let mut done = Vec::new();
    let registered = |shape: &Shape| Ok(registry_rows::find(shape.oid)?.filter(|row| !row.shared));
    let mut settled = work(&before, border).iter().all(|(_, steps)| steps.is_empty());
    for shape in &before {
        settled &= registered(shape)?.is_some_and(|row| row.column == column.name);
    }
    if settled {
        return Ok(done);
    }
    // The strongest lock first, so that two calls cannot wait for each other, and then another look.
    lock(root)?;
    let tree = shape::tree(root, &column.name)?;
    security::as_unforced_owner(root, || refuse_unready(&tree, border))?;
    // An index on a partitioned table takes over those of its partitions: then it is not only ours.
    let takes_over = tree.iter().any(|shape| shape.partition && shape.facts.indexed);
    for (shape, steps) in work(&tree, border) {
        let first = registered(shape)?.is_none();
        let index = run(shape, &steps, &mut done)?;
        if first {
            done.extend(steps::kept(&shape.name, &shape.facts));
        }
        register(shape, column, inherited, index.filter(|_| !takes_over), root)?;
    }
    Ok(done)
}

/// What has to be done for each table of the tree, the root first.
fn work<'a>(tree: &'a [Shape], border: Border) -> Vec<(&'a Shape, Vec<Step>)> {
    let Some((root, children)) = tree.split_first() else { return Vec::new() };
    let mut work = vec![(root, steps::protect(&root.name, &root.facts, None, border, lacks_index(tree)))];
    for child in children {
        // An index on a partitioned root reaches its partitions; inheritance children need their own.
        let index = !root.facts.partitioned && !child.facts.indexed;
        work.push((child, steps::protect(&child.name, &child.facts, Some(&root.facts), border, index)));
    }
    work
}

pub fn lacks_index(tree: &[Shape]) -> bool {
    let Some((root, children)) = tree.split_first() else { return false };
    let children: Vec<&Facts> = children.iter().map(|child| &child.facts).collect();
    steps::lacks_index(&root.facts, &children)
}

/// Called as the owner that row level security does not bind: it counts what SET NOT NULL would meet.
fn refuse_unready(tree: &[Shape], border: Border) -> Result<()> {
    let Some(root) = tree.first() else { return Ok(()) };
    let (name, column) = (&root.name, border.column);
    if tree.iter().any(|shape| !shape.facts.not_null) {
        let nulls = shape::nulls(name, column)?;
        if nulls > 0 {
            return Err(error::state(
                format!("{name} has {nulls} rows without a tenant"),
                format!("Column {column} is NULL there, and no tenant could ever see them."),
                format!("Give each row its tenant, or delete it: SELECT * FROM {name} WHERE {column} IS NULL;"),
            ));
        }
    }
    let lacking: Vec<&Shape> =
        work(tree, border).iter().filter(|(_, steps)| steps.iter().any(|s| s.makes_index)).map(|(s, _)| *s).collect();
    for shape in lacking {
        let rows = shape::rows_at_least(shape.oid, &shape.name, ROWS_TO_INDEX)?;
        if rows > ROWS_TO_INDEX {
            let hint = if shape.facts.partitioned {
                format!(
                    "Run the statements of SELECT bulkhead.protect_plan('{}') first.",
                    shape.name.replace('\'', "''")
                )
            } else {
                format!("CREATE INDEX CONCURRENTLY ON {} ({column});", shape.name)
            };
            return Err(error::state(
                format!("{} has no index that begins with {column}, and more than {ROWS_TO_INDEX} rows", shape.name),
                "Building one here would hold up every writer of the table.",
                hint,
            ));
        }
    }
    Ok(())
}

/// Runs the steps as the table's owner; the oid of the index that one of them made.
pub fn run(shape: &Shape, steps: &[Step], done: &mut Vec<String>) -> Result<Option<u32>> {
    let mut index = None;
    for step in steps {
        pgrx::check_for_interrupts!();
        security::as_owner(shape.oid, || spi::run(&step.sql, &[]))?;
        done.push(step.sql.clone());
        if step.makes_index {
            index = shape::newest_index(shape.oid)?;
        }
    }
    Ok(index)
}

fn register(shape: &Shape, column: &Column, inherited: bool, index: Option<u32>, root: pg_sys::Oid) -> Result<()> {
    let mut earlier = Earlier { index, ..Earlier::of(&shape.facts) };
    // A child that comes later has our default and NOT NULL because its parent has: they are its own as far as they are the parent's.
    if inherited {
        let parent = match shape::parent(root)? {
            Some(parent) => registry_rows::find(parent)?.map(|parent| parent.earlier),
            None => None,
        };
        earlier.default &= !shape.facts.default_is_ours || parent.as_ref().is_some_and(|parent| parent.default);
        earlier.not_null &= parent.is_none_or(|parent| parent.not_null);
    }
    let inherited = inherited || shape.oid != root;
    let number = shape::column(shape.oid, &column.name)?.number;
    observe::remove(&[shape.oid])?;
    registry_rows::record(
        shape.oid,
        number,
        &Registered { column: column.name.clone(), shared: false, inherited, earlier },
    )
}

/// Registers a table to be observed; one that was protected is taken out first.
pub fn observe(relation: pg_sys::Oid, column: &str) -> Result<()> {
    refuse_old_snapshot()?;
    shape::admit(relation)?;
    let column = shape::column(relation, column)?;
    if registry_rows::find(relation)?.is_some() {
        take_off(relation)?;
    }
    // Its plans are made again, and every statement after that is seen.
    lock(relation)?;
    observe::record(relation, column.number, &column.name)?;
    security::forget_plans(relation);
    Ok(())
}

pub fn unprotect(relation: pg_sys::Oid) -> Result<Vec<String>> {
    refuse_old_snapshot()?;
    shape::admit(relation)?;
    if observe::recorded()?.contains(&relation) {
        lock(relation)?;
        observe::remove(&[relation])?;
        return Ok(vec![format!("-- {} is not observed any more", security::relation_name(relation))]);
    }
    take_off(relation)
}

/// Out of the registry, back to what protect() or share() found. The caller has admitted the table.
pub fn take_off(relation: pg_sys::Oid) -> Result<Vec<String>> {
    if registry_rows::find(relation)?.is_some_and(|registered| !registered.shared) {
        bypass::require(
            &format!("changing the protection of {}", security::relation_name(relation)),
            "The seal is on, and this would take the table out of it.",
        )?;
    }
    let _busy = Busy::begin();
    let name = security::relation_name(relation);
    let root = registry_rows::find(relation)?.ok_or_else(|| {
        error::state(
            format!("{name} is not registered"),
            "Neither protect() nor share() was called for it.",
            "SELECT * FROM bulkhead.protected_tables lists what is.",
        )
    })?;
    if let Some(parent) = shape::parent(relation)?
        && registry_rows::find(parent)?.is_some()
    {
        return Err(below_a_parent(relation));
    }
    lock(relation)?;
    let mut done = Vec::new();
    let tree = shape::tree(relation, &root.column)?;
    let covered = registry_rows::covered_by_others(&tree.iter().map(|shape| shape.oid).collect::<Vec<_>>())?;
    let tree: Vec<Shape> = tree.into_iter().filter(|shape| !covered.contains(&shape.oid)).collect();
    for shape in &tree {
        let Some(registered) = registry_rows::find(shape.oid)? else { continue };
        let index = match registered.earlier.index {
            Some(index) => shape::index_name(shape.oid, index, &root.column)?,
            None => None,
        };
        let steps = steps::unprotect(&Undo {
            name: &shape.name,
            facts: &shape.facts,
            earlier: &registered.earlier,
            column: &spi::identifier(&root.column),
            partition: shape.partition,
            index,
        });
        run(shape, &steps, &mut done)?;
    }
    registry_rows::forget(&tree.iter().map(|shape| shape.oid).collect::<Vec<_>>())?;
    Ok(done)
}
