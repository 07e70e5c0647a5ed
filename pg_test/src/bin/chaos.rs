//! `cargo run --bin chaos`: a mixed load of all rooms on a server that is killed a hundred times; every promise is checked after each kill.
//!
//! `cargo run --bin chaos -- --kills 20 --seed 7` for fewer, and the same kills again; `--prove` has the clients write down as acknowledged what they only asked for, and succeeds
//! when the checks find that out.

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use pg_test::arguments::{number, seed};
use pg_test::chaos::{self, Options};
use pg_test::progress;

fn main() -> ExitCode {
    progress::conclude(options().and_then(|options| play(&options)))
}

fn options() -> Result<Options> {
    let mut options = Options { kills: 100, seed: seed()?, too_early: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--kills" => options.kills = number(&argument, &mut arguments)?,
            "--seed" => options.seed = number(&argument, &mut arguments)?,
            "--prove" => options.too_early = true,
            _ => bail!("usage: chaos [--kills N] [--seed N] [--prove]"),
        }
    }
    Ok(options)
}

fn play(options: &Options) -> Result<bool> {
    let runtime = tokio::runtime::Runtime::new()?;
    let start = std::time::Instant::now();
    let outcome = runtime.block_on(chaos::run(options))?;
    let total: u32 = outcome.kills.values().sum();
    ensure!(total == options.kills, "{total} kills instead of {}", options.kills);
    let faults = outcome.ledger.book().faults.clone();
    for fault in faults.iter().take(40) {
        println!("{fault}");
    }
    let kills: Vec<String> = outcome.kills.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    println!(
        "{}, seed {}, {} s",
        outcome.db.cluster.provision().postgres.version,
        options.seed,
        start.elapsed().as_secs()
    );
    println!("{total} kills: {}", kills.join(", "));
    println!("{}", outcome.ledger.summary());
    if options.too_early {
        println!(
            "acknowledged too early on purpose: {}",
            if faults.is_empty() { "and nobody noticed" } else { "the checks noticed" }
        );
        return Ok(!faults.is_empty());
    }
    Ok(faults.is_empty())
}
