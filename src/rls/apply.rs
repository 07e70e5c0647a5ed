//! Does what `steps` says: protect, unprotect, share, and the adoption of new children.

use std::cell::Cell;

use pgrx::prelude::*;

use super::facts::Facts;
use super::ledger::{self, Registered};
use super::shape::{self, Column, Shape};
use super::steps::{self, Border, Earlier, Step};
use crate::error::{self, Result};
use crate::pg::cell::PerBackend;
use crate::pg::{security, spi};

/// On a table with more rows than this, building the index would hold up writers for too long.
const ROWS_TO_INDEX: i64 = 100_000;

/// Our own DDL fires the event trigger too, which must then stay out of the way.
static BUSY: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));

pub fn is_busy() -> bool {
    BUSY.get()
}

struct Busy(bool);

impl Busy {
    fn begin() -> Busy {
        Busy(BUSY.replace(true))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.set(self.0);
    }
}

pub fn protect(relation: pg_sys::Oid, column: &str) -> Result<Vec<String>> {
    let _busy = Busy::begin();
    shape::admit(relation)?;
    let column = shape::column(relation, column)?;
    let mut done = Vec::new();
    let below = shape::parent(relation)?.is_some();
    match ledger::find(relation)? {
        Some(registered) if below && registered.inherited && registered.column == column.name => return Ok(done),
        Some(_) | None if below => return Err(below_a_parent(relation)),
        Some(registered) if registered.shared || registered.column != column.name => done = unprotect(relation)?,
        Some(_) | None => {}
    }
    done.extend(apply(relation, &column, false)?);
    Ok(done)
}

/// A table's rows can be read through its parent, past its own policies: so the parent is what has to be protected.
fn below_a_parent(relation: pg_sys::Oid) -> pgrx::pg_sys::panic::ErrorReport {
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
    if work(&before, border).iter().any(|(_, steps)| !steps.is_empty()) {
        // The strongest lock first, so that two calls cannot wait for each other, and then another look.
        spi::run(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", before[0].name), &[])?;
        let tree = shape::tree(root, &column.name)?;
        refuse_unready(&tree, border)?;
        for (shape, steps) in work(&tree, border) {
            let earlier = ledger::find(shape.oid)?;
            let index = run(shape, &steps, &mut done)?;
            if earlier.is_none() {
                done.extend(steps::kept(&shape.name, &shape.facts));
            }
            register(shape, column, inherited || shape.oid != root, index)?;
        }
    } else {
        for shape in &before {
            if ledger::find(shape.oid)?.is_none() {
                register(shape, column, inherited || shape.oid != root, None)?;
            }
        }
    }
    Ok(done)
}

/// What has to be done for each table of the tree, the root first.
fn work<'a>(tree: &'a [Shape], border: Border) -> Vec<(&'a Shape, Vec<Step>)> {
    let Some((root, children)) = tree.split_first() else { return Vec::new() };
    let facts: Vec<&Facts> = children.iter().map(|child| &child.facts).collect();
    let root_index = steps::lacks_index(&root.facts, &facts);
    let mut work = vec![(root, steps::protect(&root.name, &root.facts, None, border, root_index))];
    for child in children {
        // An index on a partitioned root reaches its partitions; inheritance children need their own.
        let index = !root.facts.partitioned && !child.facts.indexed;
        work.push((child, steps::protect(&child.name, &child.facts, Some(&root.facts), border, index)));
    }
    work
}

fn refuse_unready(tree: &[Shape], border: Border) -> Result<()> {
    let Some(root) = tree.first() else { return Ok(()) };
    let (name, column) = (&root.name, border.column);
    // Under row level security the owner would count only what the policies show; SET NOT NULL looks at every row anyhow.
    let counts = !security::rls_binds(root.oid, security::current_role());
    if counts && tree.iter().any(|shape| !shape.facts.not_null) {
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
        let rows = shape::rows_at_least(shape.oid, &shape.name, ROWS_TO_INDEX, counts)?;
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

/// Runs the steps; the name of the index that one of them made.
fn run(shape: &Shape, steps: &[Step], done: &mut Vec<String>) -> Result<Option<String>> {
    let mut index = None;
    for step in steps {
        pgrx::check_for_interrupts!();
        spi::run(&step.sql, &[])?;
        done.push(step.sql.clone());
        if step.makes_index {
            index = shape::newest_index(shape.oid)?;
        }
    }
    Ok(index)
}

fn register(shape: &Shape, column: &Column, inherited: bool, index: Option<String>) -> Result<()> {
    let earlier = Earlier { index, ..Earlier::of(&shape.facts) };
    let number = shape::column(shape.oid, &column.name)?.number;
    ledger::record(shape.oid, number, &Registered { column: column.name.clone(), shared: false, inherited, earlier })
}

pub fn share(relation: pg_sys::Oid) -> Result<Vec<String>> {
    let _busy = Busy::begin();
    shape::admit(relation)?;
    let mut done = Vec::new();
    if shape::parent(relation)?.is_some() {
        return Err(below_a_parent(relation));
    }
    if ledger::find(relation)?.is_some_and(|registered| !registered.shared) {
        done = unprotect(relation)?;
    }
    for shape in shape::tree(relation, "")? {
        let steps = steps::share(&shape.name, &shape.facts);
        run(&shape, &steps, &mut done)?;
        let inherited = shape.oid != relation;
        let earlier = Earlier::of(&shape.facts);
        ledger::record(shape.oid, 0, &Registered { column: String::new(), shared: true, inherited, earlier })?;
    }
    Ok(done)
}

pub fn unprotect(relation: pg_sys::Oid) -> Result<Vec<String>> {
    let _busy = Busy::begin();
    shape::admit(relation)?;
    let name = security::relation_name(relation);
    let root = match ledger::find(relation)? {
        Some(root) if root.inherited && shape::parent(relation)?.is_some() => return Err(below_a_parent(relation)),
        Some(root) => root,
        None => {
            return Err(error::state(
                format!("{name} is not registered"),
                "Neither protect() nor share() was called for it.",
                "SELECT * FROM bulkhead.protected_tables lists what is.",
            ));
        }
    };
    spi::run(&format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"), &[])?;
    let mut done = Vec::new();
    let tree = shape::tree(relation, &root.column)?;
    for shape in &tree {
        let Some(registered) = ledger::find(shape.oid)? else { continue };
        let column = shape::quoted(&root.column);
        let own_default = shape::default_is_ours(shape.oid, &root.column)?;
        let is_root = shape.oid == relation;
        let steps = steps::unprotect(&shape.name, &shape.facts, &registered.earlier, &column, own_default, is_root);
        run(shape, &steps, &mut done)?;
    }
    ledger::forget(&tree.iter().map(|shape| shape.oid).collect::<Vec<_>>())?;
    Ok(done)
}

pub fn plan(relation: pg_sys::Oid, column: &str) -> Result<Vec<String>> {
    shape::admit(relation)?;
    if shape::parent(relation)?.is_some() {
        return Err(below_a_parent(relation));
    }
    let column = shape::column(relation, column)?;
    let border = Border { column: &column.quoted, accessor: column.key.accessor() };
    let tree = shape::tree(relation, &column.name)?;
    let Some((root, children)) = tree.split_first() else { return Ok(Vec::new()) };
    let leaves: Vec<(String, u32, bool)> = tree
        .iter()
        .filter(|shape| !shape.facts.partitioned)
        .map(|shape| (shape.name.clone(), shape.oid.to_u32(), shape.facts.indexed))
        .collect();
    let facts: Vec<&Facts> = children.iter().map(|child| &child.facts).collect();
    let mut root_facts = root.facts.clone();
    root_facts.indexed |= !steps::lacks_index(&root.facts, &facts);
    let mut plan = steps::live(&root.name, root.oid.to_u32(), &root_facts, &leaves, border);
    plan.push(format!("SELECT bulkhead.protect({}, {})", spi::literal(&root.name), spi::literal(&column.name)));
    Ok(plan)
}
