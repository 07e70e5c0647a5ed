//! lint: finds what would let a tenant see or change another's rows, and what would make a protected schema slow.
//!
//! A rule is a query in rules/, over the facts of facts.sql, run as whoever calls: any role may ask, since the catalogs are open
//! to all. `catalogue` (pure) knows the rules by name, `flaws` (pure) the server's own, `session` what only this library can tell.
//! `exceptions` keeps what was allowed. This file is the SQL surface; the functions are declared in sql/lint.sql.

mod catalogue;
mod exceptions;
mod flaws;
mod session;

use pgrx::prelude::*;

use crate::error::{self, Result};
use crate::pg::{client, security, spi, version};

::pgrx::extension_sql_file!("../../sql/lint.sql", name = "lint", requires = ["seal"]);

const FACTS: &str = include_str!("facts.sql");

/// From the gravest on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Level {
    Error,
    Warning,
    Info,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Info => "info",
        }
    }
}

struct Finding {
    level: Level,
    rule: &'static str,
    object: String,
    detail: String,
    remedy: Option<String>,
}

/// `lint()`: what it found, errors first, then in the order of docs/lint.md.
///
/// Any role may call it; it examines what the catalogs show that role and says what it could not. Raises nothing of its own. Locks: AccessShare
/// on catalogs and, while an expression or view is printed, on its table.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn lint() -> Result<
    TableIterator<
        'static,
        (
            name!(level, String),
            name!(rule, String),
            name!(object, String),
            name!(detail, String),
            name!(remedy, Option<String>),
        ),
    >,
> {
    let mut findings = session::findings()?;
    for rule in &catalogue::OF_THE_SCHEMA {
        pgrx::check_for_interrupts!();
        if let Some(sql) = rule.sql {
            findings.extend(find(rule.name, sql)?);
        }
    }
    let mut findings = exceptions::apply(findings)?;
    // Stable: within a level, rules and objects stay in their order.
    findings.sort_by_key(|finding| finding.level);
    Ok(TableIterator::new(findings.into_iter().map(|finding| {
        (finding.level.name().to_owned(), finding.rule.to_owned(), finding.object, finding.detail, finding.remedy)
    })))
}

/// `lint_allow(rule text, object text, reason text)`: records that a finding is meant, and why; a second call replaces the reason, and a
/// NULL reason takes the exception back.
///
/// `object` is as lint() prints it. Errors: 22023 for an unknown rule, a NULL rule or object, and an empty reason; 25006 read-only. Lock: RowExclusive
/// on bulkhead.lint_exceptions.
#[pg_extern(sql = false)]
fn lint_allow(rule: Option<String>, object: Option<String>, reason: Option<String>) -> Result<()> {
    version::require()?;
    client::refuse_read_only(c"lint_allow()");
    let (Some(rule), Some(object)) = (rule, object) else {
        return Err(error::argument(
            "the rule and the object must not be NULL",
            "Pass them as bulkhead.lint() shows them.",
        ));
    };
    if !catalogue::names().any(|known| known == rule) {
        return Err(error::argument(
            format!("there is no lint rule \"{rule}\""),
            format!("Did you mean \"{}\"? The rules are those that bulkhead.lint() shows.", catalogue::nearest(&rule)),
        ));
    }
    if reason.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
        return Err(error::argument(
            "the reason must not be empty",
            "Say why this finding is meant: whoever reads it next will ask. NULL takes an exception back.",
        ));
    }
    match reason {
        Some(reason) => exceptions::record(&rule, &object, &reason),
        None => exceptions::forget(&rule, &object),
    }
}

/// Runs a rule. SQL that passes through here is UTF-8: in a database of another encoding, other letters are shown as question marks, and a
/// remedy that needs them is left out.
fn find(rule: &'static str, sql: &str) -> Result<Vec<Finding>> {
    let (object, detail, remedy) = if security::database_is_utf8() {
        ("object", "detail", "remedy")
    } else {
        (
            "regexp_replace(object, '[^\\x01-\\x7f]', '?', 'g')",
            "regexp_replace(detail, '[^\\x01-\\x7f]', '?', 'g')",
            "CASE WHEN remedy !~ '[^\\x01-\\x7f]' THEN remedy END",
        )
    };
    // The line breaks end a comment that a rule may close with.
    let sql = format!(
        "{FACTS} SELECT level::text, {object}::text, {detail}::text, {remedy}::text
           FROM (\n{sql}\n) AS finding(level, object, detail, remedy) ORDER BY object COLLATE \"C\", detail COLLATE \"C\""
    );
    spi::look(&sql, &[], |row| {
        let level = match row.get::<String>(1)?.as_str() {
            "error" => Level::Error,
            "warning" => Level::Warning,
            _ => Level::Info,
        };
        Ok(Finding { level, rule, object: row.get(2)?, detail: row.get(3)?, remedy: row.optional(4)? })
    })
}
