//! `cargo run`: a tour on a real server.
//!
//! Exits non-zero when anything it claims did not happen.

mod demo;

use std::process::ExitCode;

use pg_test::{Cluster, progress};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::say(format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let cluster = progress::stage("started a server", || Cluster::builder().start())?;
    demo::play(&cluster)
}
