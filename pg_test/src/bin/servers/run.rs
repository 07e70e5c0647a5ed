//! Runs commands inside an unpacked distribution, and the suite there.
//!
//! Every command has namespaces of its own for mounts and processes. So nothing has to be unmounted: the mounts are nobody else's, and
//! when the first process in there ends, or this program does, the kernel ends the others and drops the mounts.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use pg_test::provision::{self, For};

use crate::system::{self, System};

/// Mounts what the run needs at the places where it is outside, and runs the command as root of the distribution.
/// `$1` is the distribution's root and `$2` the number of directories that follow it. A shell stays, since the first process of a
/// namespace inherits the orphans.
const ENTER: &str = r#"
set -e
root=$1
directories=$2
shift 2
while [ "$directories" -gt 0 ]; do
    mkdir -p "$root$1"
    mount --bind "$1" "$root$1"
    directories=$((directories - 1))
    shift
done
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount --bind /dev/pts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
status=0
chroot "$root" "$@" || status=$?
exit "$status"
"#;

/// Whom this machine trusts, inside: pip and npm fetch there what the clients' tests run with.
pub const AUTHORITIES: &str = "/etc/ssl/certs/host.crt";

/// What the tests printed, added up.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u32,
    pub failed: u32,
    pub skipped: u32,
}

/// A program with mounts and processes of its own, which end when this thread does.
pub fn apart(program: &OsStr) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--propagation", "private"]);
    command.args(["--pid", "--mount-proc", "--fork", "--kill-child", "--"]).arg(program);
    command
}

/// A command inside the distribution, with the checkout and the Rust toolchain at their places.
pub fn inside(system: &System, words: &[String]) -> Command {
    let toolchain = toolchain();
    let mut directories = vec![pg_test::root().to_path_buf(), pg_test::target(), build_directory(system), cargo_home()];
    directories.extend(toolchain.clone());
    for directory in &directories {
        std::fs::create_dir_all(directory).ok();
    }
    let mut command = apart(OsStr::new("sh"));
    command.args(["-c", ENTER, "servers"]).arg(&system.root).arg(directories.len().to_string());
    command.args(&directories).args(["env", "-i"]);
    let path = toolchain.map(|dir| format!("{}/bin:", dir.display())).unwrap_or_default();
    command.arg(format!("PATH={path}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
    command.args(["HOME=/root", "LC_ALL=C.UTF-8"]);
    command.arg(format!("CARGO_HOME={}", cargo_home().display()));
    command.arg(format!("CARGO_TARGET_DIR={}", build_directory(system).display()));
    command.arg(format!("PG_CONFIG={}", system.pg_config()));
    if let Some(older) = system.older_pg_config() {
        command.arg(format!("UPGRADE_FROM={older}"));
    }
    if system.root.join(AUTHORITIES.trim_start_matches('/')).is_file() {
        command.args(["SSL_CERT_FILE", "PIP_CERT", "NODE_EXTRA_CA_CERTS"].map(|name| format!("{name}={AUTHORITIES}")));
    }
    for (name, value) in std::env::vars().filter(|(name, _)| is_handed_on(name)) {
        command.arg(format!("{name}={value}"));
    }
    command.args(words);
    command
}

/// What a command prints.
pub fn output(system: &System, words: &[String]) -> Result<String> {
    let output = inside(system, words).stderr(Stdio::inherit()).output().context("entering the distribution")?;
    if !output.status.success() {
        bail!("{} failed in {}", words.join(" "), system.root.display());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// `cargo test`; whether it succeeded, and its counts.
pub fn suite(system: &System, arguments: &[String]) -> Result<(bool, Counts)> {
    run_tests(system, &["cargo", "test", "--no-fail-fast"], arguments)
}

/// The smoke tests, by the program of this machine: a newer distribution runs it, so that only the extension is built there.
pub fn smoke(system: &System) -> Result<(bool, Counts)> {
    let program = suite_of_this_machine()?;
    // It comes with cargo-pgrx, which is taken along and not built again.
    provision::provision(For::Demo)?;
    run_tests(system, &[program.as_str(), "smoke::"], &[])
}

fn run_tests(system: &System, what: &[&str], arguments: &[String]) -> Result<(bool, Counts)> {
    let (success, counts) = told(system, what, arguments)?;
    if success && counts.passed == 0 {
        bail!("no test was run on {}", system.server);
    }
    Ok((success, counts))
}

/// The program of `cargo test --test suite`, built first where that has not been done.
fn suite_of_this_machine() -> Result<String> {
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--quiet", "--no-run", "--test", "suite", "--message-format", "json"]);
    let output = cargo.current_dir(pg_test::root()).stderr(Stdio::inherit()).output().context("starting cargo")?;
    if !output.status.success() {
        bail!("the suite could not be built");
    }
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let programs = messages.filter(|message| message["target"]["name"] == "suite");
    let path = programs.filter_map(|message| Some(message["executable"].as_str()?.to_owned())).next_back();
    path.context("cargo does not say where the program of the suite is")
}

/// PostgreSQL's own suites; whether nothing unlisted differs.
pub fn regression(system: &System, arguments: &[String]) -> Result<bool> {
    Ok(told(system, &["cargo", "run", "--quiet", "--bin", "regression", "--"], arguments)?.0)
}

/// What it prints is printed here as well, and counted where it tells of tests.
fn told(system: &System, what: &[&str], arguments: &[String]) -> Result<(bool, Counts)> {
    take_tools_along(system);
    let mut words: Vec<String> = what.iter().map(|word| word.to_string()).collect();
    words.extend_from_slice(arguments);
    let script = r#"cd "$0" && exec "$@""#.to_string();
    let mut command = vec!["sh".into(), "-c".into(), script, pg_test::root().display().to_string()];
    command.extend(words);
    let mut child = inside(system, &command).stdout(Stdio::piped()).spawn().context("entering the distribution")?;
    let mut counts = Counts::default();
    let lines = BufReader::new(child.stdout.take().context("it has no output")?);
    for line in lines.split(b'\n') {
        let line = line?;
        std::io::stdout().write_all(&line).and_then(|()| std::io::stdout().write_all(b"\n")).ok();
        counts.add(&String::from_utf8_lossy(&line));
    }
    Ok((child.wait()?.success(), counts))
}

impl Counts {
    /// `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out`
    fn add(&mut self, line: &str) {
        let Some((_, result)) = line.split_once("test result: ") else {
            return;
        };
        let mut last = 0;
        for word in result.split([' ', ';', '.']) {
            match word {
                "passed" => self.passed += last,
                "failed" => self.failed += last,
                "ignored" => self.skipped += last,
                _ => {}
            }
            last = word.parse().unwrap_or(0);
        }
    }
}

/// Apart from what is built outside: nothing of one is taken for the other's.
fn build_directory(system: &System) -> PathBuf {
    system::home().join(format!("pg{}", system.wanted.major))
}

fn cargo_home() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
    std::env::var_os("CARGO_HOME").map_or_else(|| home().join(".cargo"), PathBuf::from)
}

/// The directory of the very toolchain that this was built with; rustup's proxies would look for their settings.
fn toolchain() -> Option<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).current_dir(pg_test::root()).output().ok()?;
    let dir = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    dir.is_dir().then_some(dir)
}

/// A cargo-pgrx of this machine's runs there as well, unless it is linked with something newer; then the suite builds its own.
fn take_tools_along(system: &System) {
    let own = pg_test::target().join("tools/bin/cargo-pgrx");
    let known = Some(own).filter(|path| path.is_file()).or_else(|| provision::find_program("cargo-pgrx"));
    let there = build_directory(system).join("tools/bin/cargo-pgrx");
    if let Some(known) = known
        && !there.exists()
    {
        std::fs::create_dir_all(there.parent().unwrap_or(Path::new("/"))).ok();
        std::fs::copy(known, there).ok();
    }
}

fn is_handed_on(name: &str) -> bool {
    const WHOLE: [&str; 6] = ["CI", "BLESS", "TERM", "CARGO_BUILD_JOBS", "RUST_BACKTRACE", "COLUMNS"];
    const BEGINNINGS: [&str; 4] = ["CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_"];
    let lower = name.to_ascii_lowercase();
    // What is handed on is seen by whoever lists the processes.
    if lower.ends_with("_token") {
        return false;
    }
    WHOLE.contains(&name)
        || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || matches!(lower.as_str(), "http_proxy" | "https_proxy" | "no_proxy" | "all_proxy")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let mut counts = Counts::default();
        counts.add("test result: ok. 120 passed; 0 failed; 2 ignored; 0 measured; 7 filtered out; finished in 1.20s");
        counts.add("test result: FAILED. 30 passed; 4 failed; 1 ignored; 0 measured; 0 filtered out");
        counts.add("test rls::passed ... ok");
        assert_eq!(counts, Counts { passed: 150, failed: 4, skipped: 3 });
    }
}
