//! `cargo run`: a tour on a real server.
//!
//! Exits non-zero when anything it claims did not happen.

use std::process::ExitCode;

use pg_test::{Cluster, progress};

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::say(format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn demo() -> anyhow::Result<()> {
    let cluster = progress::stage("started a server", || Cluster::builder().start())?;
    let database = cluster.database("demo")?;
    println!(
        "{}",
        database.admin(
            "SELECT format('%s %s on %s', extname, extversion, version())
               FROM pg_extension WHERE extname = 'bulkhead'"
        )?
    );
    // The victim of a test: a runner that never comes to its own end.
    if pg_test::flag("BULKHEAD_DEMO_HANG") {
        println!("{}", cluster.dir().display());
        std::thread::sleep(std::time::Duration::from_secs(600));
    }
    Ok(())
}
