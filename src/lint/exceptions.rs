//! Findings that somebody has looked at and meant: rows of bulkhead.lint_exceptions, read and written as the extension.

use std::collections::HashMap;

use super::catalogue::{self, UNUSED_EXCEPTION};
use super::{Finding, Level};
use crate::error::Result;
use crate::pg::{security, spi};

struct Exception {
    object: String,
    reason: String,
    by: String,
    used: bool,
}

/// Allowed findings become notes that give the reason; exceptions that met no finding are noted too.
pub fn apply(findings: Vec<Finding>) -> Result<Vec<Finding>> {
    let mut exceptions = read()?;
    let mut findings: Vec<Finding> = findings
        .into_iter()
        .map(|finding| {
            let met = exceptions.get_mut(finding.rule).into_iter().flatten().find(|e| e.object == finding.object);
            let Some(exception) = met else { return finding };
            exception.used = true;
            Finding {
                level: Level::Info,
                detail: format!("allowed by {}: {} ({})", exception.by, exception.reason, finding.detail),
                remedy: None,
                ..finding
            }
        })
        .collect();
    let rules = exceptions.iter().flat_map(|(rule, of_rule)| of_rule.iter().map(move |e| (rule, e)));
    let mut unused: Vec<Finding> = rules.filter(|(_, e)| !e.used).map(|(rule, e)| unneeded(rule, e)).collect();
    unused.sort_by(|a, b| (&a.object, &a.detail).cmp(&(&b.object, &b.detail)));
    findings.extend(unused);
    Ok(findings)
}

fn unneeded(rule: &str, exception: &Exception) -> Finding {
    Finding {
        level: Level::Info,
        rule: UNUSED_EXCEPTION,
        object: exception.object.clone(),
        detail: format!("Nothing of rule {rule} is found for it any more; it was allowed by {}.", exception.by),
        remedy: Some(format!(
            "SELECT bulkhead.lint_allow({}, {}, NULL)",
            spi::literal(rule),
            spi::literal(&exception.object)
        )),
    }
}

fn read() -> Result<HashMap<String, Vec<Exception>>> {
    let rows = security::as_extension(|| {
        spi::look(
            "SELECT e.rule, e.object, e.reason, e.allowed_by::pg_catalog.text FROM bulkhead.lint_exceptions e",
            &[],
            |row| {
                let exception = Exception { object: row.get(2)?, reason: row.get(3)?, by: row.get(4)?, used: false };
                Ok((row.get::<String>(1)?, exception))
            },
        )
    })?;
    let mut exceptions: HashMap<String, Vec<Exception>> = HashMap::new();
    // A rule that this version does not know, from a dump of a later one, would only confuse.
    for (rule, exception) in rows.into_iter().filter(|(rule, _)| catalogue::names().any(|known| known == rule)) {
        exceptions.entry(rule).or_default().push(exception);
    }
    Ok(exceptions)
}

pub fn record(rule: &str, object: &str, reason: &str) -> Result<()> {
    let role = security::current_role();
    security::as_extension(|| {
        spi::run(
            "INSERT INTO bulkhead.lint_exceptions (rule, object, reason, allowed_by)
             VALUES ($1, $2, $3, pg_catalog.pg_get_userbyid($4))
             ON CONFLICT (rule, object) DO UPDATE
               SET reason = excluded.reason, allowed_by = excluded.allowed_by, allowed_at = excluded.allowed_at",
            &[rule.into(), object.into(), reason.into(), role.into()],
        )
    })
}

pub fn forget(rule: &str, object: &str) -> Result<()> {
    security::as_extension(|| {
        spi::run(
            "DELETE FROM bulkhead.lint_exceptions e
              WHERE e.rule OPERATOR(pg_catalog.=) $1 AND e.object OPERATOR(pg_catalog.=) $2",
            &[rule.into(), object.into()],
        )
    })
}
