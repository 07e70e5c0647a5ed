//! The stored verdicts, as a batch sees them: what is known of its orders, and where its own verdicts go.
//!
//! An order has one verdict in all partitions. Two batches that decide it at once, and share no item whose lock would keep them apart, meet in the
//! index of the partition of the present moment: the second is raised as 40001. That they go to the same partition is made sure by the order of
//! things: the partition is chosen before the look-up, and the clock is asked again after the rows are in. If midnight has passed meanwhile, the batch is
//! raised as 40001; so whoever chooses the next partition looks up after everything that the former one will ever hold.

use std::collections::HashSet;
use std::rc::Rc;

use super::closed;
use super::fold::Verdict;
use super::section::Section;
use crate::error::{self, Result};
use crate::partition;
use crate::pg::verdicts::{self, Leaf, NewRow, Probe, Row, Table};
use crate::pg::wal::Lsn;
use crate::pg::{keys, settings};

/// The line number of the row that says that an order was given back.
pub const RELEASED: i32 = 0;

/// The partitions that a batch looks into, open.
pub struct VerdictStore {
    leaf: Leaf,
    /// Its place in `tables`.
    at: usize,
    /// The newest first.
    tables: Vec<Table>,
    now: i64,
}

/// Rows of one order.
pub struct Found {
    pub section: usize,
    pub order: usize,
    pub rows: Vec<Row>,
    /// Place of the partition in `VerdictStore::tables`.
    pub table: usize,
}

impl Found {
    /// Another transaction is deciding the order.
    pub fn is_busy(&self) -> bool {
        self.rows.iter().any(|row| row.is_uncommitted && row.line != RELEASED)
    }

    /// How far the log has to be on disk before anybody is told of the rows; 0 where it is.
    pub fn durable_at(&self) -> Lsn {
        self.rows.iter().map(|row| row.flush_lsn).max().unwrap_or(0)
    }
}

impl VerdictStore {
    /// Opens the partitions that retention reaches, and chooses the one for new verdicts.
    pub fn open() -> Result<VerdictStore> {
        // The partition for now may have to be made, or one may go while this opens them.
        for _ in 0..8 {
            let leaves = verdicts::leaves()?;
            let now = keys::now();
            if leaves.at(now).is_none() {
                partition::ensure_ours(leaves.parent, verdicts::leaves)?;
                continue;
            }
            let Some((opened, tables)) = open(&leaves, now, true) else { continue };
            // Verdicts never go back behind a day that has some: what is looked up there is complete.
            let newest = opened.iter().zip(&tables).position(|(leaf, table)| leaf.lower <= now || !table.is_empty());
            if let Some(at) = newest {
                return Ok(VerdictStore { leaf: opened[at], at, tables, now });
            }
        }
        Err(partition::not_there("bulkhead.order_verdict"))
    }

    /// For looking only. None where there is no partition.
    pub fn open_to_read() -> Result<Option<VerdictStore>> {
        for _ in 0..8 {
            let leaves = verdicts::leaves()?;
            let now = keys::now();
            if let Some((opened, tables)) = open(&leaves, now, false) {
                return Ok(opened.first().map(|leaf| VerdictStore { leaf: *leaf, at: 0, tables, now }));
            }
        }
        Err(error::internal("the partitions of bulkhead.order_verdict keep changing"))
    }

    /// What is known of the orders of these sections, in no particular order; nothing of those that are new.
    pub fn look_up(&self, sections: &[Section]) -> Result<Vec<Found>> {
        let mut asked: Vec<([u8; 16], usize, usize)> = Vec::new();
        for (at, section) in sections.iter().enumerate() {
            asked.extend(section.asked().map(|(digest, order)| (digest, at, order)));
        }
        // Neighbours in the index are looked up one after the other.
        asked.sort_unstable();
        closed::only(&self.tables);
        let mut found: Vec<Found> = Vec::new();
        for (number, table) in self.tables.iter().enumerate() {
            if asked.is_empty() {
                break;
            }
            if table.is_empty() {
                continue;
            }
            let mut probe = Probe::new(table);
            let before = found.len();
            let mut perhaps = Vec::with_capacity(asked.len());
            if number > self.at && !self.tables[self.at].is_empty() {
                closed::filter_by_bloom(table, &asked, |(digest, ..)| digest, |one| perhaps.push(*one));
            } else {
                perhaps.clone_from(&asked);
            }
            for (at, (digest, section, order)) in perhaps.iter().enumerate() {
                if at % 1_000 == 999 {
                    pgrx::check_for_interrupts!();
                }
                let mut rows = Vec::new();
                probe.each(digest, |row| rows.push(row));
                if !rows.is_empty() {
                    belong(&rows, &sections[*section].tenant, sections[*section].id(*order))?;
                    found.push(Found { section: *section, order: *order, rows, table: number });
                }
            }
            drop(probe);
            if found.len() > before {
                let known: HashSet<(usize, usize)> =
                    found[before..].iter().map(|found| (found.section, found.order)).collect();
                asked.retain(|(_, section, order)| !known.contains(&(*section, *order)));
            }
        }
        Ok(found)
    }

    /// Stores the new verdicts of all sections.
    pub fn store(&self, relation: pgrx::pg_sys::Oid, sections: &[Section]) -> Result<()> {
        let decided_at = self.now.max(self.leaf.lower);
        let mut rows: Vec<NewRow> = Vec::new();
        for section in sections {
            section.decided(|line| {
                rows.push(NewRow {
                    digest: line.digest,
                    decided_at,
                    quantity: line.quantity,
                    remaining: line.answer.remaining,
                    relation,
                    line: line.line,
                    verdict: line.answer.verdict.letter(),
                    tenant: &section.tenant,
                    order: line.order,
                    item: line.item,
                });
            });
        }
        rows.sort_unstable_by_key(|row| (row.digest, row.line));
        if rows.is_empty() {
            return Ok(());
        }
        if !self.tables[self.at].add(&rows) {
            return Err(busy());
        }
        if keys::now() >= self.leaf.upper {
            return Err(error::retry(
                "the day of the verdicts ended while they were given",
                "They would lie in the partition of a day that is over.",
            ));
        }
        Ok(())
    }

    /// Marks an order as given back, beside its verdicts; false when it is marked already, or another transaction is about to.
    pub fn release(&self, relation: pgrx::pg_sys::Oid, found: &Found, section: &Section) -> bool {
        let digest = section.asked().find(|(_, order)| *order == found.order).map(|(digest, _)| digest);
        let Some(digest) = digest else { return false };
        let row = NewRow {
            digest: &digest,
            // In the range of its partition, as every row is.
            decided_at: found.rows.first().map_or(self.now, |row| row.decided_at),
            quantity: None,
            remaining: None,
            relation,
            line: RELEASED,
            verdict: Verdict::Accepted.letter(),
            tenant: &section.tenant,
            order: section.id(found.order),
            item: None,
        };
        self.tables[found.table].add(&[row])
    }
}

/// 40001: the same order is being decided elsewhere.
pub fn busy() -> pgrx::pg_sys::panic::ErrorReport {
    error::retry(
        "an order of the batch is being decided by another transaction",
        "An order has one verdict, and the other transaction has not ended.",
    )
}

/// None when the partitions are not those any more.
fn open(leaves: &Rc<verdicts::Leaves>, now: i64, writes: bool) -> Option<(Vec<Leaf>, Vec<Table>)> {
    let since = now.saturating_sub(settings::order_retention());
    let mut opened = (Vec::new(), Vec::new());
    for leaf in leaves.since(since) {
        // A partition that is gone since took nothing with it that retention reaches.
        if let Some(table) = Table::open(&leaf, writes) {
            opened.0.push(leaf);
            opened.1.push(table);
        }
    }
    // All are locked: only now is it certain that none was detached, and that the indexes are still theirs.
    verdicts::are_current(leaves).then_some(opened)
}

/// The index has a digest only; that two orders share one is not to be expected in the lifetime of the universe.
fn belong(rows: &[Row], tenant: &[u8], order: &[u8]) -> Result<()> {
    if rows.iter().all(|row| row.tenant == tenant && row.order == order) {
        return Ok(());
    }
    Err(error::internal("two orders have the same digest"))
}
