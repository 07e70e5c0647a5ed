//! What is known of a role's queries: how they ended, and whether a canary came back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::canary::Detector;

/// Kept at most of leaks and internal errors: the first ones tell enough.
const EXAMPLES: usize = 20;

pub struct Watch {
    pub role: &'static str,
    pub detector: Detector,
    found: Mutex<Found>,
}

#[derive(Default)]
pub struct Found {
    pub queries: u64,
    pub succeeded: u64,
    /// Not sent, for what exclusions.rs says.
    pub excluded: u64,
    /// Bytes that the server sent, each of which was searched.
    pub bytes: u64,
    pub rows: u64,
    pub errors: BTreeMap<String, u64>,
    /// 42501 by message: what the roles were refused.
    pub refused: BTreeMap<String, u64>,
    /// XX000, by message.
    pub internal: BTreeMap<String, Internal>,
    pub leaks: Vec<Leak>,
    pub canaries: u64,
    /// Queries in the middle of which the server hung up without an error.
    pub lost: Vec<String>,
    /// Which tables sqlsmith is told of: a condition on information_schema.tables.
    pub shown: String,
    /// Whether it was told so.
    pub told: bool,
    /// The server's processes.
    pub backends: BTreeSet<u32>,
    /// Where queries that succeeded are kept for the comparison, and under which tenant.
    pub keep: Option<(File, String)>,
    pub kept: u64,
}

pub struct Internal {
    pub count: u64,
    /// The source file that raised it.
    pub file: String,
    pub query: String,
}

pub struct Leak {
    pub needle: String,
    pub query: String,
    pub message: String,
}

/// How one statement went, as far as the server has said.
#[derive(Default, Clone)]
pub struct Statement {
    pub text: String,
    /// One of sqlsmith's random ones; else it is BEGIN and the like, or reads the catalogs at the start.
    pub random: bool,
    pub excluded: bool,
    /// The client hung up, and waits for nothing.
    pub given_up: bool,
    pub error: Option<Error>,
    pub rows: u64,
}

#[derive(Default, Clone)]
pub struct Error {
    pub state: String,
    pub message: String,
    pub file: String,
}

impl Watch {
    pub fn new(role: &'static str) -> Self {
        Self { role, detector: Detector::new(), found: Mutex::default() }
    }

    pub fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn leak(&self, needle: String, statement: &Statement, message: &[u8]) {
        let mut found = self.found();
        found.canaries += 1;
        if found.leaks.len() < EXAMPLES {
            let shown: String = String::from_utf8_lossy(message)
                .chars()
                .take(400)
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect();
            found.leaks.push(Leak { needle, query: statement.text.clone(), message: shown });
        }
    }

    pub fn done(&self, statement: Statement) {
        let mut found = self.found();
        if statement.excluded {
            found.excluded += 1;
        } else if statement.random {
            found.queries += 1;
            found.rows += statement.rows;
            match statement.error {
                None => {
                    found.succeeded += 1;
                    found.keep(&statement.text);
                }
                Some(error) => found.failed(error, statement.text),
            }
        }
    }
}

impl Found {
    fn failed(&mut self, error: Error, query: String) {
        *self.errors.entry(error.state.clone()).or_default() += 1;
        if error.state == "42501" {
            *self.refused.entry(error.message.clone()).or_default() += 1;
        }
        if error.state == "XX000" {
            // Oids and the like, so that the same fault is one.
            let message: String = error.message.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
            let internal = self.internal.entry(message).or_insert(Internal { count: 0, file: error.file, query });
            internal.count += 1;
        }
    }

    /// One query a record; a zero byte ends each, since no text has one.
    fn keep(&mut self, text: &str) {
        if let Some((file, tenant)) = &mut self.keep
            && write!(file, "{tenant}\n{text}\0").is_ok()
        {
            self.kept += 1;
        }
    }
}
