//! The whole suite on the majors that this machine's distribution does not have.
//!
//! `cargo run --bin servers` runs it on PostgreSQL 17 (Debian 13) and 18 (Debian sid); `cargo run --bin servers -- 17` on one of
//! them; what follows the majors is handed to cargo test: `-- 17 18 rls::`. Each distribution is unpacked once below `target/`, and
//! whatever is mounted for a run is seen by its processes alone and gone with them, however they end. That takes root.

mod run;
mod system;

use std::process::ExitCode;

use anyhow::{Result, bail};
use pg_test::{progress, provision};

use run::Counts;
use system::System;

/// Which distribution of Debian's brings which major, each with pg_cron and pgbouncer.
const DISTRIBUTIONS: [(u32, &str); 2] = [(17, "trixie"), (18, "sid")];

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            progress::say(format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (majors, for_tests) = parse(&arguments)?;
    if !provision::is_root() {
        bail!("the suite runs in unpacked distributions (debootstrap, mounts, chroot), which takes root");
    }
    let mut outcomes = Vec::new();
    for (major, distribution) in majors {
        let system = System::prepare(major, distribution)?;
        let start = std::time::Instant::now();
        let (success, counts) = run::suite(&system, for_tests)?;
        outcomes.push((system.server, success, counts, start.elapsed().as_secs()));
    }
    for (server, _, counts, seconds) in &outcomes {
        let Counts { passed, failed, skipped } = counts;
        println!("{server}: {passed} passed, {failed} failed, {skipped} skipped; {seconds} s");
    }
    Ok(outcomes.iter().all(|(_, success, ..)| *success))
}

type Chosen = Vec<(u32, &'static str)>;

/// The majors that are asked for, all when none is, and what is cargo test's.
fn parse(arguments: &[String]) -> Result<(Chosen, &[String])> {
    let numbers = arguments.iter().take_while(|word| word.parse::<u32>().is_ok()).count();
    let (majors, rest) = arguments.split_at(numbers);
    let mut chosen = Chosen::new();
    for major in majors {
        match DISTRIBUTIONS.iter().find(|(known, _)| known.to_string() == *major) {
            Some(found) => chosen.push(*found),
            None => {
                bail!("{major} is not 17 or 18; PG_CONFIG=... cargo test runs the suite on a server that is installed")
            }
        }
    }
    if chosen.is_empty() {
        chosen.extend(DISTRIBUTIONS);
    }
    Ok((chosen, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<(Vec<u32>, Vec<String>)> {
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        let (majors, rest) = parse(&words).ok()?;
        Some((majors.iter().map(|(major, _)| *major).collect(), rest.to_vec()))
    }

    #[test]
    fn majors_come_first_and_all_are_meant_when_none_is_named() {
        assert_eq!(parsed("17 rls::"), Some((vec![17], vec!["rls::".to_string()])));
        assert_eq!(parsed("rls::"), Some((vec![17, 18], vec!["rls::".to_string()])));
        assert_eq!(parsed(""), Some((vec![17, 18], vec![])));
        assert_eq!(parsed("16"), None);
    }
}
