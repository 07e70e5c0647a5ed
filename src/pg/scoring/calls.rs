//! `score()`, `score_explain()` and `jsonlogic()`, called for each row of a scan, and what puts and activates rule sets.

use pgrx::prelude::*;

use super::super::raw::{self, Arguments, Description};
use super::datum::{self, Bytes};
use crate::error::Result;
use crate::scoring;

raw::function!(bulkhead_score, pg_finfo_bulkhead_score, score);
raw::function!(bulkhead_score_explain, pg_finfo_bulkhead_score_explain, explain);
raw::function!(bulkhead_score_draft, pg_finfo_bulkhead_score_draft, draft);
raw::function!(bulkhead_jsonlogic, pg_finfo_bulkhead_jsonlogic, jsonlogic);
raw::function!(bulkhead_score_row, pg_finfo_bulkhead_score_row, row);
raw::function!(bulkhead_put_rule_set, pg_finfo_bulkhead_put_rule_set, |arguments| put(false, arguments));
raw::function!(bulkhead_put_shared_rule_set, pg_finfo_bulkhead_put_shared_rule_set, |arguments| put(true, arguments));
raw::function!(bulkhead_activate_rule_set, pg_finfo_bulkhead_activate_rule_set, |arguments| activate(false, arguments));
raw::function!(bulkhead_activate_shared_rule_set, pg_finfo_bulkhead_activate_shared_rule_set, |arguments| activate(
    true, arguments
));

/// The result of a function of two arguments that is STRICT: neither is NULL, and if one were, so would be the result.
#[inline]
fn strict(arguments: Arguments, call: impl Fn(&[u8], &[u8]) -> Result<pg_sys::Datum>) -> Result<pg_sys::Datum> {
    match (varlena(arguments, 0), varlena(arguments, 1)) {
        (Some(one), Some(other)) => call(one.get(), other.get()),
        _ => Ok(pg_sys::Datum::null()),
    }
}

fn score(arguments: Arguments) -> Result<pg_sys::Datum> {
    strict(arguments, |name, document| scoring::score(name, document, datum::numeric))
}

fn explain(arguments: Arguments) -> Result<pg_sys::Datum> {
    strict(arguments, |name, document| scoring::explain(name, document, datum::jsonb))
}

fn draft(arguments: Arguments) -> Result<pg_sys::Datum> {
    strict(arguments, |rules, document| scoring::explain_draft(rules, document, datum::jsonb))
}

fn jsonlogic(arguments: Arguments) -> Result<pg_sys::Datum> {
    strict(arguments, |rule, document| scoring::jsonlogic(rule, document, datum::jsonb))
}

/// An argument of variable length; a copy of it is freed at once, since a scan makes one for each row.
#[inline]
fn varlena(arguments: Arguments, number: usize) -> Option<Bytes> {
    // SAFETY: an argument of variable length, which lives as long as the call.
    arguments.datum(number).map(|datum| unsafe { Bytes::of(datum) })
}

fn put(shared: bool, arguments: Arguments) -> Result<pg_sys::Datum> {
    let (name, rules) = (varlena(arguments, 0), varlena(arguments, 1));
    let (name, rules) = (name.as_ref().map(Bytes::get), rules.as_ref().map(Bytes::get));
    scoring::put(shared, name, rules, arguments.value(2)).map(pg_sys::Datum::from)
}

fn activate(shared: bool, arguments: Arguments) -> Result<pg_sys::Datum> {
    let name = varlena(arguments, 0);
    scoring::activate(shared, name.as_ref().map(Bytes::get), arguments.value(1))?;
    Ok(pg_sys::Datum::null())
}

static ROW: Description<3> =
    Description::of([(c"score", pg_sys::NUMERICOID), (c"failed", pg_sys::BOOLOID), (c"version", pg_sys::INT4OID)]);

/// A row of score, failed and version. A document that is NULL is JSON's null.
fn row(arguments: Arguments) -> Result<pg_sys::Datum> {
    let (name, document) = (varlena(arguments, 0), varlena(arguments, 1));
    let outcome = scoring::outcome(name.as_ref().map(Bytes::get), document.as_ref().map(Bytes::get), datum::numeric)?;
    let columns = [outcome.score, outcome.failed.into_datum(), outcome.version.into_datum()];
    // SAFETY: the values have the types of the description.
    Ok(unsafe { ROW.row(columns) })
}
