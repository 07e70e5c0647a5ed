//! `cargo run`: a tour on a real server.
//!
//! Exits non-zero when anything it claims did not happen.

mod demo;

use std::process::ExitCode;

use pg_test::{Cluster, progress};

fn main() -> ExitCode {
    progress::conclude(run())
}

fn run() -> anyhow::Result<bool> {
    let cluster = progress::stage("started a server", || Cluster::builder().start())?;
    demo::play(&cluster)?;
    Ok(true)
}
