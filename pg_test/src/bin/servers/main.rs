//! The whole suite on the majors that this machine's distribution does not have.
//!
//! `cargo run --bin servers` runs it on PostgreSQL 17 (Debian 13) and 18 (Debian sid); `cargo run --bin servers -- 17` on one of
//! them; what follows the majors is handed to cargo test: `-- 17 18 rls::`. `-- 17 regression` runs PostgreSQL's own suites there, and
//! what follows is handed to them. `-- 17 smoke` asks a little of every room there, by the test program that is built for this machine:
//! CI does, when `-- 17 fetch` has said that this machine can have and enter that distribution. `-- upgrade` takes a cluster of 15 that uses every room
//! to 17 with pg_upgrade, in a Debian 13 that has both servers. Each distribution is unpacked once below `target/`, and
//! whatever is mounted for a run is seen by its processes alone and gone with them, however they end. That takes root.

mod run;
mod system;

use std::process::ExitCode;

use anyhow::{Result, bail};
use pg_test::{progress, provision};

use run::Counts;
use system::{System, Wanted};

/// Which distribution of Debian's brings which major, each with pg_cron and pgbouncer.
const DISTRIBUTIONS: [Wanted; 2] =
    [Wanted { major: 17, distribution: "trixie", older: None }, Wanted { major: 18, distribution: "sid", older: None }];

/// Two servers in one system, and the test that goes from one to the other.
const UPGRADE: Wanted = Wanted { major: 17, distribution: "trixie", older: Some((15, "bookworm")) };
/// What is asked for with this word is the suites of `cargo run --bin regression`, and not cargo test.
const REGRESSION: &str = "regression";
/// What is asked for with this word is tests/suite/smoke.rs.
const SMOKE: &str = "smoke";
/// What is asked for with this word is that the distribution is there and can be entered.
const FETCH: &str = "fetch";
const UPGRADE_TEST: &str = "lifecycle::moving::pg_upgrade";

fn main() -> ExitCode {
    progress::conclude(run())
}

fn run() -> Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (wanted, for_tests) = parse(&arguments)?;
    if !provision::is_root() {
        bail!("the suite runs in unpacked distributions (debootstrap, mounts, chroot), which takes root");
    }
    let mut outcomes = Vec::new();
    let mut good = true;
    for wanted in wanted {
        let system = System::prepare(wanted)?;
        let first = for_tests.first().map(String::as_str);
        if first == Some(FETCH) {
            run::output(&system, &["true".into()])?;
            continue;
        }
        if first == Some(REGRESSION) {
            good &= run::regression(&system, &for_tests[1..])?;
            continue;
        }
        let start = std::time::Instant::now();
        let (success, counts) =
            if first == Some(SMOKE) { run::smoke(&system)? } else { run::suite(&system, &for_tests)? };
        good &= success;
        outcomes.push((system.server, counts, start.elapsed().as_secs()));
    }
    for (server, counts, seconds) in &outcomes {
        let Counts { passed, failed, skipped } = counts;
        println!("{server}: {passed} passed, {failed} failed, {skipped} skipped; {seconds} s");
    }
    Ok(good)
}

/// The systems that are asked for, those of all majors when none is, and what is cargo test's.
fn parse(arguments: &[String]) -> Result<(Vec<Wanted>, Vec<String>)> {
    if let Some((word, rest)) = arguments.split_first()
        && word == "upgrade"
    {
        let test = if rest.is_empty() { vec![UPGRADE_TEST.to_string()] } else { rest.to_vec() };
        return Ok((vec![UPGRADE], test));
    }
    let numbers = arguments.iter().take_while(|word| word.parse::<u32>().is_ok()).count();
    let (majors, rest) = arguments.split_at(numbers);
    let mut chosen = Vec::new();
    for major in majors {
        match DISTRIBUTIONS.into_iter().find(|known| known.major.to_string() == *major) {
            Some(found) => chosen.push(found),
            None => {
                bail!("{major} is not 17 or 18; PG_CONFIG=... cargo test runs the suite on a server that is installed")
            }
        }
    }
    if chosen.is_empty() {
        chosen.extend(DISTRIBUTIONS);
    }
    Ok((chosen, rest.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<(Vec<u32>, Vec<String>)> {
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        let (systems, rest) = parse(&words).ok()?;
        Some((systems.iter().map(|system| system.major).collect(), rest))
    }

    #[test]
    fn majors_come_first_and_all_are_meant_when_none_is_named() {
        assert_eq!(parsed("17 rls::"), Some((vec![17], vec!["rls::".to_string()])));
        assert_eq!(parsed("rls::"), Some((vec![17, 18], vec!["rls::".to_string()])));
        assert_eq!(parsed(""), Some((vec![17, 18], vec![])));
        assert_eq!(parsed("16"), None);
    }

    #[test]
    fn an_upgrade_is_one_system_with_two_servers() {
        assert_eq!(parsed("upgrade"), Some((vec![17], vec![UPGRADE_TEST.to_string()])));
        assert_eq!(parsed("upgrade rls::"), Some((vec![17], vec!["rls::".to_string()])));
        assert!(UPGRADE.older.is_some());
    }
}
