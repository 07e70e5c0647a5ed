//! scoring: rule sets stored as JSON, compiled once, run on binary jsonb, with an explanation.
//!
//! `compile` and `rules` make a `program` of JsonLogic; `run` walks it over one document (`jsonb`), `score` adds up and explains. All of that imports no server.
//! `sets` finds the rule set that is active for the running statement, `put` writes one; src/pg/scoring reads and makes the server's values.
//!
//! The SQL functions, declared in sql/scoring.sql:
//! - jsonlogic(), score() and its siblings, and those that put and activate rule sets: src/pg/scoring/calls.rs
//! - attach_scoring(), detach_scoring(): attach.rs
//! - what score_pending() and rescore() call: batch.rs
//! - what the view rule_sets calls: put.rs

mod arithmetic;
mod attach;
mod batch;
pub mod build;
pub mod cache;
mod call;
mod column;
mod compare;
mod compile;
mod date;
mod decimal;
mod each;
pub mod encode;
mod fault;
mod intern;
mod jsonb;
mod lag;
mod look;
pub mod number;
mod operator;
mod program;
mod put;
mod rules;
mod run;
mod score;
mod sets;
mod settle;
mod statement;
mod text;
mod value;

use std::cell::RefCell;

use bumpalo::Bump;
use pgrx::pg_sys;

use crate::error::{self, Result, given};
use crate::pg::cell::PerBackend;
use crate::pg::{client, interrupts, settings};
pub use attach::forget;
use compile::Refusal;
use fault::Fault;
pub use lag::{estimate, waiting};
use number::Number;
pub use put::{activate, put};
use run::Limits;

::pgrx::extension_sql_file!("../../sql/scoring.sql", name = "scoring", requires = ["idempotency"]);

/// Memory that an evaluation leaves to the next one; more is given back.
const KEPT: usize = 256 * 1024;

static ARENA: PerBackend<RefCell<Option<Bump>>> = PerBackend::new(RefCell::new(None));

/// Runs `work` with memory that is empty, and empty again after it.
fn with_arena<R>(work: impl FnOnce(&Bump) -> R) -> R {
    let Ok(mut kept) = ARENA.try_borrow_mut() else { return work(&Bump::new()) };
    let arena = kept.get_or_insert_with(Bump::new);
    // What an error ended has left something.
    arena.reset();
    let result = work(arena);
    arena.reset();
    if arena.allocated_bytes() > KEPT {
        *kept = None;
    }
    result
}

/// One clock a statement: the client's, which parallel workers have as well.
fn limits() -> Limits<'static> {
    const EPOCH: i64 = 946_684_800_000_000;
    Limits {
        operations: settings::score_budget_ops(),
        bytes: settings::score_budget_bytes(),
        poll: &interrupts::check,
        now: client::statement_start().saturating_add(EPOCH),
    }
}

/// `score(rule_set, document)`: the sum of the rules that hold, as `make` makes it.
///
/// Errors: 55000 no such rule set; 54000 over a budget. A rule that fails counts nothing. No locks but ACCESS SHARE on the extension's tables.
#[inline]
pub fn score(name: &[u8], document: &[u8], make: impl FnOnce(&Number) -> pg_sys::Datum) -> Result<pg_sys::Datum> {
    let set = sets::current(name)?;
    interrupts::check_stack();
    with_arena(|arena| match score::score(&set.program, build::read(document), arena, limits()) {
        Ok(scored) => Ok(make(&scored.score)),
        Err(fault) => Err(failed(fault)),
    })
}

/// What score_pending() writes into a row.
pub struct Outcome {
    /// None where a budget was exceeded.
    pub score: Option<pg_sys::Datum>,
    pub failed: bool,
    pub version: i32,
}

/// `score_row(rule_set, document)`: as `score`, and whether a rule failed. A document that exceeds a budget is one that failed. No document is
/// JSON's null. Errors: 55000 no such rule set; 22023 no name.
pub fn outcome(
    name: Option<&[u8]>,
    document: Option<&[u8]>,
    make: impl FnOnce(&Number) -> pg_sys::Datum,
) -> Result<Outcome> {
    let name = given(name, "rule_set")?;
    let set = sets::current(name)?;
    interrupts::check_stack();
    let version = set.version;
    with_arena(|arena| {
        let document = document.map_or(value::Value::Null, build::read);
        Ok(match score::score(&set.program, document, arena, limits()) {
            Ok(scored) => Outcome { score: Some(make(&scored.score)), failed: scored.failed > 0, version },
            Err(_) => Outcome { score: None, failed: true, version },
        })
    })
}

/// `score_explain(rule_set, document)`: the score, the version, what fired and what failed. Errors as `score`.
pub fn explain(name: &[u8], document: &[u8], make: fn(&[u8]) -> pg_sys::Datum) -> Result<pg_sys::Datum> {
    let set = sets::current(name)?;
    explain_with(&set.program, Some(set.version), document, make)
}

/// `score_explain(rules, document)`: the same for rules that are not put yet. Errors: 22023 and 54000 as put_rule_set().
pub fn explain_draft(rules: &[u8], document: &[u8], make: fn(&[u8]) -> pg_sys::Datum) -> Result<pg_sys::Datum> {
    let program = sets::draft(rules, sets::Kind::RuleSet)?;
    explain_with(&program, None, document, make)
}

fn explain_with(
    program: &program::Program,
    version: Option<i32>,
    document: &[u8],
    make: fn(&[u8]) -> pg_sys::Datum,
) -> Result<pg_sys::Datum> {
    interrupts::check_stack();
    with_arena(|arena| {
        let explained = score::explain(program, version.map(i64::from), build::read(document), arena, limits());
        let bytes = explained.and_then(|value| build::document(&value).map_err(|_| Fault::TooLarge));
        bytes.map(|bytes| make(&bytes)).map_err(failed)
    })
}

/// `jsonlogic(rule, data)`: the value of one expression.
///
/// Errors: 22023 a bad rule, with the path to the fault, or one that this document breaks; 54000 over a budget.
pub fn jsonlogic(rule: &[u8], data: &[u8], make: fn(&[u8]) -> pg_sys::Datum) -> Result<pg_sys::Datum> {
    let program = sets::draft(rule, sets::Kind::Rule)?;
    interrupts::check_stack();
    with_arena(|arena| {
        let value = score::evaluate(&program, build::read(data), arena, limits());
        let bytes = value.and_then(|value| build::document(&value).map_err(|_| Fault::TooLarge));
        bytes.map(|bytes| make(&bytes)).map_err(failed)
    })
}

/// What is raised for a document that an evaluation cannot be ended for.
fn failed(fault: Fault) -> pg_sys::panic::ErrorReport {
    match fault {
        Fault::Operations => error::limit(
            fault.message(),
            "Make the rules or the document smaller, or have an administrator raise bulkhead.score_budget_ops.",
        ),
        Fault::Bytes => error::limit(
            fault.message(),
            "Make the rules or the document smaller, or have an administrator raise bulkhead.score_budget_bytes.",
        ),
        _ => error::argument(
            format!("the rule fails for this document: {}", fault.message()),
            "Ask for the type first, for example {\"if\": [{\"!!\": ...}, ...]}.",
        ),
    }
}

/// What is raised for rules that are refused.
fn refused(refusal: Refusal) -> pg_sys::panic::ErrorReport {
    let place = if refusal.path.is_empty() {
        "the rules are refused".to_owned()
    } else {
        format!("refused at {}", refusal.path)
    };
    let message = format!("{place}: {}", ascii(&refusal.fault));
    if refusal.limit {
        error::limit(message, "Make the rules smaller, or split them.")
    } else {
        error::argument(message, "docs/scoring.md lists the operators and what they take.")
    }
}

/// Messages are ASCII; what a user wrote in other letters is shown as question marks.
fn ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' }).collect()
}
