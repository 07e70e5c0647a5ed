//! Unit tests of the room: rules and documents as text, run as the server runs them.

mod canonical;
mod differential;
mod json;
mod numbers;
mod operators;
mod sets;
mod stored;
mod texts;

use bumpalo::Bump;

use super::build;
use super::compile::{self, Refusal};
use super::fault::Fault;
use super::program::Program;
use super::rules;
use super::run::Limits;
use super::score;

pub const PLENTY: u64 = 1_000_000;

pub fn limits() -> Limits<'static> {
    Limits { operations: PLENTY, bytes: 16 << 20, poll: &|| {}, now: 1_795_262_400_000_000 }
}

pub fn compiled(rule: &str) -> Result<Program, Refusal> {
    compile::rule(&json::jsonb(rule), PLENTY)
}

pub fn rule_set(rules: &str) -> Result<Program, Refusal> {
    rules::rule_set(&json::jsonb(rules), PLENTY)
}

pub fn run(rule: &str, document: &str) -> Result<String, Fault> {
    let program = compiled(rule).unwrap_or_else(|refusal| panic!("{rule}: {refusal:?}"));
    let (document, arena) = (json::jsonb(document), Bump::new());
    let value = score::evaluate(&program, build::read(&document), &arena, limits())?;
    let bytes = build::document(&value).expect("the result fits");
    Ok(json::text(&build::read(&bytes)))
}

/// Both as texts of JSON; what is equal as JSON is equal.
#[track_caller]
pub fn gives(rule: &str, document: &str, wanted: &str) {
    match run(rule, document) {
        Ok(value) => assert_eq!(value, json::text(&build::read(&json::jsonb(wanted))), "{rule} of {document}"),
        Err(fault) => panic!("{rule} of {document}: {fault:?}"),
    }
}

#[track_caller]
pub fn fails(rule: &str, document: &str) -> Fault {
    match run(rule, document) {
        Ok(value) => panic!("{rule} of {document} gives {value}"),
        Err(fault) => fault,
    }
}
