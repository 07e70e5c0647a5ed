//! The extension's pure modules, compiled for the fuzzer.

// What only the server calls has no caller here.
#![allow(dead_code)]

#[path = "../../../src/calendar.rs"]
mod calendar;

#[path = "../../../src/context"]
pub mod context {
    pub mod tenant;
    pub mod token;
}

#[path = "../../../src/scoring"]
pub mod scoring {
    pub mod arithmetic;
    pub mod build;
    pub mod cache;
    pub mod call;
    pub mod compare;
    pub mod compile;
    pub mod date;
    pub mod decimal;
    pub mod each;
    pub mod encode;
    pub mod fault;
    pub mod intern;
    pub mod jsonb;
    pub mod look;
    pub mod number;
    pub mod operator;
    pub mod program;
    pub mod rules;
    pub mod run;
    pub mod score;
    pub mod text;
    pub mod value;

    #[path = "tests/json.rs"]
    pub mod json;
}

mod made;
pub mod plain;

pub use made::Made;

use scoring::run::Limits;

/// What an evaluation may take here: enough to go anywhere, too little to be slow.
pub const LIMITS: Limits<'static> =
    Limits { operations: 200_000, bytes: 4 << 20, poll: &|| {}, now: 1_795_262_400_000_000 };
