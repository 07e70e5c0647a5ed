//! `cargo run --bin deb`: a Debian package of the extension in target/debian, for the server that is found or that PG_CONFIG names.

use std::process::ExitCode;

use anyhow::Result;
use pg_test::provision::{self, For};
use pg_test::{debian, progress};

fn main() -> ExitCode {
    progress::conclude(run())
}

fn run() -> Result<bool> {
    let provision = provision::provision(For::Demo)?;
    let package = progress::stage("packaged", || debian::build(&provision, &pg_test::target().join("debian")))?;
    println!("{}", package.display());
    Ok(true)
}
