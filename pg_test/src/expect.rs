//! Assertions on every field of an error that a client can see.
//!
//! A mismatch prints the whole error, so that one failing run is enough to know what came instead.

use std::fmt::Write as _;
use std::panic::Location;

use tokio_postgres::error::DbError;

/// What an error has to look like; a field that is `None` may be anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expect<'a> {
    pub sqlstate: Option<&'a str>,
    /// A part of the message.
    pub message: Option<&'a str>,
    /// A part of the detail.
    pub detail: Option<&'a str>,
    /// A part of the hint.
    pub hint: Option<&'a str>,
}

/// Panics unless `result` is an error of the server that looks as expected.
#[track_caller]
pub fn expect_error<T>(result: Result<T, tokio_postgres::Error>, expected: Expect) -> Refused {
    let refused = Refused::from_result(result, Location::caller(), "the statement");
    if let Some(state) = expected.sqlstate {
        refused.check("SQLSTATE", state, &refused.sqlstate, Match::Whole);
    }
    if let Some(text) = expected.message {
        refused.check("message", text, &refused.message, Match::Part);
    }
    if let Some(text) = expected.detail {
        refused.check("detail", text, &refused.detail, Match::Part);
    }
    if let Some(text) = expected.hint {
        refused.check("hint", text, &refused.hint, Match::Part);
    }
    refused
}

/// An error that the server gave, as was hoped for. Fields that it did not send are empty.
#[derive(Debug, Clone)]
pub struct Refused {
    pub sqlstate: String,
    pub message: String,
    pub detail: String,
    pub hint: String,
    at: &'static Location<'static>,
    what: String,
}

#[derive(Clone, Copy)]
enum Match {
    Whole,
    Part,
}

impl Refused {
    pub(crate) fn from_result<T>(
        result: Result<T, tokio_postgres::Error>,
        at: &'static Location<'static>,
        what: &str,
    ) -> Self {
        let error = match result {
            Ok(_) => panic!("{at}: this was not refused:\n{what}"),
            Err(error) => error,
        };
        let Some(db) = error.as_db_error() else {
            panic!("{at}: not an error of the server: {error}\n{what}");
        };
        Self {
            sqlstate: db.code().code().to_string(),
            message: db.message().to_string(),
            detail: db.detail().unwrap_or_default().to_string(),
            hint: db.hint().unwrap_or_default().to_string(),
            at,
            what: what.to_string(),
        }
    }

    /// The five characters.
    pub fn state(self, expected: &str) -> Self {
        self.check("SQLSTATE", expected, &self.sqlstate, Match::Whole);
        self
    }

    /// The whole message.
    pub fn message(self, expected: &str) -> Self {
        self.check("message", expected, &self.message, Match::Whole);
        self
    }

    pub fn message_contains(self, expected: &str) -> Self {
        self.check("message", expected, &self.message, Match::Part);
        self
    }

    /// The whole detail; `""` when there must be none.
    pub fn detail(self, expected: &str) -> Self {
        self.check("detail", expected, &self.detail, Match::Whole);
        self
    }

    pub fn detail_contains(self, expected: &str) -> Self {
        self.check("detail", expected, &self.detail, Match::Part);
        self
    }

    /// The whole hint; `""` when there must be none.
    pub fn hint(self, expected: &str) -> Self {
        self.check("hint", expected, &self.hint, Match::Whole);
        self
    }

    pub fn hint_contains(self, expected: &str) -> Self {
        self.check("hint", expected, &self.hint, Match::Part);
        self
    }

    fn check(&self, field: &str, expected: &str, got: &str, how: Match) {
        let fits = match how {
            Match::Whole => got == expected,
            Match::Part => got.contains(expected),
        };
        if !fits {
            let wanted = match how {
                Match::Whole => "is",
                Match::Part => "contains",
            };
            let whole = describe(&self.sqlstate, &self.message, &self.detail, &self.hint);
            panic!(
                "{}: expected an error whose {field} {wanted} {expected:?}, got\n{whole}from\n{}",
                self.at, self.what
            );
        }
    }
}

/// An error as psql would print it, with its SQLSTATE.
pub fn full_text(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => describe_db(db),
        None => format!("{error}\n"),
    }
}

fn describe_db(db: &DbError) -> String {
    let mut text =
        describe(db.code().code(), db.message(), db.detail().unwrap_or_default(), db.hint().unwrap_or_default());
    if let Some(context) = db.where_() {
        writeln!(text, "CONTEXT:  {context}").ok();
    }
    text
}

fn describe(sqlstate: &str, message: &str, detail: &str, hint: &str) -> String {
    let mut text = format!("ERROR:  {sqlstate}: {message}\n");
    for (name, value) in [("DETAIL", detail), ("HINT", hint)] {
        if !value.is_empty() {
            writeln!(text, "{name}:  {value}").ok();
        }
    }
    text
}
