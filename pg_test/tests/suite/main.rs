//! Integration tests: one file for each feature, against a real server, as plain roles.
//!
//! `cargo test` runs all; `cargo test rls::` those of a feature; `cargo test -- --list` lists them.
//! The servers are started when the first test asks for one, and always stopped and deleted.

mod frame;
mod harness;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn all() -> Vec<Trial> {
    let features = [frame::tests()];
    features.into_iter().flatten().collect()
}

fn main() -> ExitCode {
    harness::run(Arguments::from_args(), all())
}
