//! What a comparison has found, counted by what became of each statement.

use std::collections::BTreeMap;
use std::fmt;

/// What the contract has refused without a bypass, by words of the message.
const BY_CONTRACT: [(&str, &str); 5] = [
    ("TRUNCATE of protected table", "TRUNCATE needs a bypass"),
    ("could change the tenant", "COPY FROM into a table with a BEFORE ROW trigger"),
    ("BEFORE ROW trigger", "COPY FROM into a table with a BEFORE ROW trigger"),
    ("no protected parent", "a protected table under a parent that is not"),
    ("is not protected", "a protected table under a parent that is not"),
];

pub fn by_contract(message: &str) -> Option<&'static str> {
    BY_CONTRACT.iter().find(|(words, _)| message.contains(words)).map(|(_, reason)| *reason)
}

/// A statement to which the two servers did not answer the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub file: String,
    pub kind: &'static str,
    pub statement: String,
    pub plain: String,
    pub sealed: String,
}

#[derive(Debug, Default)]
pub struct Report {
    file: String,
    current: String,
    /// Statements with the same rows, counts and tables.
    pub equal: u64,
    /// Those of them that gave rows.
    pub with_rows: u64,
    /// Statements after which the tables were compared, and the same.
    pub tables_equal: u64,
    /// Statements after which a side could not be asked for its tables.
    pub tables_unknown: u64,
    /// Statements that fail with the same SQLSTATE on both.
    pub equal_errors: u64,
    pub refused: BTreeMap<&'static str, u64>,
    pub skipped: BTreeMap<&'static str, u64>,
    pub different: Vec<Difference>,
    /// Tables that cannot be protected, or get no tenant column.
    pub not_adopted: Vec<String>,
}

impl Report {
    pub fn new(file: &str) -> Self {
        Self { file: file.to_string(), ..Self::default() }
    }

    pub fn begin(&mut self, sql: &str) {
        self.current = sql.to_string();
    }

    pub fn last(&self) -> Option<&str> {
        (!self.current.is_empty()).then_some(self.current.as_str())
    }

    pub fn equal(&mut self, succeeded: bool, has_rows: bool) {
        if !succeeded {
            self.equal_errors += 1;
            return;
        }
        self.equal += 1;
        self.with_rows += u64::from(has_rows);
    }

    pub fn tables_equal(&mut self) {
        self.tables_equal += 1;
    }

    pub fn tables_unknown(&mut self) {
        self.tables_unknown += 1;
    }

    pub fn skip(&mut self, reason: &'static str) {
        *self.skipped.entry(reason).or_default() += 1;
    }

    pub fn refuse(&mut self, reason: &'static str) {
        *self.refused.entry(reason).or_default() += 1;
    }

    pub fn not_adopted(&mut self, tables: Vec<String>) {
        self.not_adopted.extend(tables);
    }

    pub fn differ(&mut self, kind: &'static str, sql: &str, plain: &str, sealed: &str) {
        self.different.push(Difference {
            file: self.file.clone(),
            kind,
            statement: sql.to_string(),
            plain: plain.to_string(),
            sealed: sealed.to_string(),
        });
    }

    pub fn compared(&self) -> u64 {
        self.equal + self.equal_errors + self.different.len() as u64
    }

    /// Another file's are added to these.
    pub fn add(&mut self, other: Report) {
        self.equal += other.equal;
        self.with_rows += other.with_rows;
        self.equal_errors += other.equal_errors;
        self.tables_equal += other.tables_equal;
        self.tables_unknown += other.tables_unknown;
        for (all, some) in [(&mut self.refused, other.refused), (&mut self.skipped, other.skipped)] {
            for (reason, count) in some {
                *all.entry(reason).or_default() += count;
            }
        }
        self.different.extend(other.different);
        self.not_adopted.extend(other.not_adopted);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let reasons = |of: &BTreeMap<&str, u64>| -> String {
            of.iter().map(|(reason, count)| format!("{count} ({reason})")).collect::<Vec<_>>().join(", ")
        };
        let Self { equal, with_rows, equal_errors, .. } = self;
        write!(f, "{}: {} compared, {equal} equal ({with_rows} with rows), ", self.file, self.compared())?;
        write!(f, "{equal_errors} the same error, tables compared after {}, ", self.tables_equal)?;
        if self.tables_unknown > 0 {
            write!(f, "not to be had after {}, ", self.tables_unknown)?;
        }
        write!(f, "{} different", self.different.len())?;
        if !self.refused.is_empty() {
            write!(f, "; refused by contract: {}", reasons(&self.refused))?;
        }
        if !self.skipped.is_empty() {
            write!(f, "; not compared: {}", reasons(&self.skipped))?;
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { file, kind, statement, plain, sealed } = self;
        write!(f, "{file}: {kind} of: {statement}\n  plain: {plain}\n  sealed: {sealed}")
    }
}
