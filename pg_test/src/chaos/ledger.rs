//! What was acknowledged to the clients, and what was found to be wrong.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub struct Ledger {
    book: Mutex<Book>,
    /// See [`super::Options::too_early`].
    pub too_early: bool,
}

/// A tenant and what it calls its own.
pub type Name = (&'static str, String);

#[derive(Default)]
pub struct Book {
    /// Orders and the verdicts of their lines.
    pub orders: Vec<(Name, String)>,
    pub queued: Vec<Name>,
    pub keys: BTreeMap<Name, Key>,
    /// Of completed keys, in the order of their completion.
    pub completed: Vec<Name>,
    pub rows: Vec<Name>,
    pub leads: Vec<Name>,
    /// Partitions of past days that were attached with rows.
    pub expired: Vec<u64>,
    /// For each tenant, additions that were acknowledged, and others that may have happened.
    pub added: BTreeMap<&'static str, (i64, i64)>,
    /// Rows that readers looked at.
    pub read: u64,
    pub scored: u64,
    pub maintained: u64,
    pub drained: u64,
    /// How often there was no answer.
    pub gone: u64,
    pub faults: Vec<String>,
}

/// A claim that was acknowledged.
#[derive(Debug, Clone, Default)]
pub struct Key {
    pub by: String,
    pub completed: bool,
}

/// More faults than these tell nothing new.
const FAULTS: usize = 200;

impl Ledger {
    pub fn new(too_early: bool) -> Self {
        Self { too_early, ..Self::default() }
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn fault(&self, fault: String) {
        let mut book = self.book();
        if book.faults.len() < FAULTS {
            book.faults.push(fault);
        }
    }

    pub fn gone(&self) {
        self.book().gone += 1;
    }

    /// Somebody was told that the key is his.
    pub fn claimed(&self, name: Name, by: &str) {
        let before = self.book().keys.insert(name.clone(), Key { by: by.to_string(), completed: false });
        if let Some(before) = before {
            self.fault(format!("the key {name:?} was claimed by {} and by {by}", before.by));
        }
    }

    pub fn completed(&self, name: Name, by: &str) {
        let mut book = self.book();
        book.completed.push(name.clone());
        book.keys.insert(name, Key { by: by.to_string(), completed: true });
    }

    pub fn summary(&self) -> String {
        let book = self.book();
        format!(
            "acknowledged: {} orders, {} queued, {} claims, {} completed, {} rows, {} additions, {} leads, {} expired partitions; {} rows read; \
             {} drains, {} batches scored, {} maintenance runs; {} times no answer; {} faults",
            book.orders.len(),
            book.queued.len(),
            book.keys.len(),
            book.completed.len(),
            book.rows.len(),
            book.added.values().map(|(acknowledged, _)| acknowledged).sum::<i64>(),
            book.leads.len(),
            book.expired.len(),
            book.read,
            book.drained,
            book.scored,
            book.maintained,
            book.gone,
            book.faults.len()
        )
    }
}
