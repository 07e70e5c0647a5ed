//! What Bulkhead costs, beside the best that is written without it.
//!
//! Promises: what is compared runs side by side in one run, in turns, so that a busy machine slows both; a result is a
//! ratio with the interval that its rounds allow, never a time alone; a missed target is said loudly and is no error.
//!
//! | file | what it is for |
//! |---|---|
//! | [`options`] | the command line of a benchmark |
//! | [`server`] | the server that is measured, and the machine it ran on |
//! | [`rounds`] | measures in turns and keeps the rounds |
//! | [`stats`] | median, and the interval it may lie in |
//! | [`policies`] | one table under protect() and under the usual policies, by turns |
//! | [`throughput`] | transactions a second of some clients |
//! | [`demand`], [`ledger`] | orders as customers send them; verdicts that are there already |
//! | [`memory`] | the private memory of a server process |
//! | [`report`], page.rs | the table to read, and the JSON; the results in docs/benchmarks.md |
//! | [`figures`] | the same figures on the other pages |
//! | [`chart`] | the SVG |

pub mod chart;
pub mod demand;
pub mod figures;
pub mod ledger;
pub mod memory;
pub mod options;
mod page;
pub mod policies;
pub mod report;
pub mod rounds;
pub mod server;
pub mod stats;
pub mod throughput;

pub use options::Options;
pub use report::{Line, Report, Target};
pub use rounds::{Rounds, Ticker, least, there_and_back};
pub use stats::Estimate;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::progress;

/// The main function of a benchmark: runs it on one thread and says what went wrong.
///
/// One thread for all clients: they take less from the server than clients on several threads that wake each other.
pub fn main(feature: &str, measure: impl AsyncFnOnce(&Options) -> Result<()>) -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(usage) => {
            eprintln!("{usage}");
            return ExitCode::from(2);
        }
    };
    if !options.wants_any_of(feature) {
        return ExitCode::SUCCESS;
    }
    let run = || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
        runtime.block_on(measure(&options))
    };
    progress::conclude(run().map(|()| true).with_context(|| feature.to_owned()))
}

/// Where results go. A quick run's are kept apart: they are no measurement.
pub fn directory(options: &Options) -> Result<PathBuf> {
    let all = crate::target().join("bench");
    let dir = if options.quick { all.join("quick") } else { all };
    std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    Ok(dir)
}
