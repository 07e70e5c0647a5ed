//! PostgreSQL's own regression and isolation suites with the library preloaded.
//!
//! `cargo run --bin regression` runs them three times: without the library, which tells what this machine makes differ; with it and no
//! extension in the database; and with the extension. What the library changes is held against differences.txt. `-- core` and
//! `-- isolation` run one of them. `PG_CONFIG` names another server than the newest.
//!
//! `-- asserts` builds a server with assertions of the same sources, and prints its pg_config: what else is run with `PG_CONFIG` set to that, runs on it.
//!
//! `-- differential` compares a plain and a sealed database on the core suite's files, statement by statement.

mod asserts;
mod compare;
mod differential;
mod source;
mod suites;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, bail};
use pg_test::progress;
use pg_test::provision::{self, For};

use compare::{Key, Listed};
use source::Source;
use suites::{Setting, Suite};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    progress::conclude(run(&arguments))
}

fn run(arguments: &[String]) -> Result<bool> {
    let suites = match arguments.first().map(String::as_str) {
        None => vec![Suite::Core, Suite::Isolation],
        Some("core") => vec![Suite::Core],
        Some("isolation") => vec![Suite::Isolation],
        Some("differential" | "asserts") => vec![],
        Some(other) => bail!("{other:?} is neither core, nor isolation, nor differential, nor asserts"),
    };
    let provision = provision::provision(For::Demo)?;
    let source = Source::prepare(&provision.postgres)?;
    println!("{}, the suites of {}", provision.postgres.version, source.version);
    match arguments.split_first() {
        Some((word, rest)) if word == "differential" => return differential::run(rest, &source),
        Some((word, _)) if word == "asserts" => {
            println!("PG_CONFIG={}", asserts::server(&source)?.display());
            return Ok(true);
        }
        _ => {}
    }
    let listed = compare::listed(provision.postgres.major)?;
    let mut good = true;
    for suite in suites {
        good &= compared(suite, &source, &listed)?;
    }
    println!("what each test printed is below {}", compare::results().display());
    Ok(good)
}

/// A suite without the library and with it, and whether all that differs is listed.
fn compared(suite: Suite, source: &Source, listed: &BTreeMap<Key, Listed>) -> Result<bool> {
    let outcome = |setting| -> Result<suites::Outcome> {
        let cluster = suites::server(setting)?;
        let outcome = suites::run(suite, setting, &cluster, source)?;
        println!(
            "{} suite, {}: {} tests, {} not as expected {:?}",
            suite.name(),
            setting.name(),
            outcome.printed.len(),
            outcome.failed.len(),
            outcome.failed
        );
        Ok(outcome)
    };
    let without = outcome(Setting::Without)?;
    let mut good = true;
    for setting in [Setting::Preloaded, Setting::Created] {
        let found = compare::differences(suite, setting, &without, &outcome(setting)?)?;
        let ours = |key: &Key| key.suite == suite.name() && key.setting == setting.name();
        let told = compare::judge(&found, listed, ours);
        println!(
            "{} suite, {}: {} tests differ by the library, {} of them as listed",
            suite.name(),
            setting.name(),
            found.len(),
            found.iter().filter(|(key, lines)| listed.get(key).is_some_and(|of| of.is(lines))).count()
        );
        good &= told.is_empty();
        told.iter().for_each(|text| println!("{text}"));
    }
    Ok(good)
}
