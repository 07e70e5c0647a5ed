//! The distribution's packages: the only thing that is ever written outside `target/`.
//!
//! Root on Debian or Ubuntu gets them installed and is told what and why. Anyone else is told the
//! exact command, unless `INSTALL=1` allows sudo.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

use super::{Postgres, clients};
use crate::progress;

/// Two checkouts may install at once; apt has one lock for the machine.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=300";

/// A program on the PATH or in the directories that a user's PATH often lacks.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Whether this process may do anything.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0)
}

/// Installs the packages, or stops with the command that would.
pub fn install(packages: &[String], why: &str) -> Result<()> {
    let command = format!("apt-get update && apt-get install -y --no-install-recommends {}", packages.join(" "));
    if find_program("apt-get").is_none() {
        bail!(
            "{why}.\nInstall what your system calls {} and run this again (PG_CONFIG=/path/to/pg_config \
             names a server that is not found by itself)",
            packages.join(" ")
        );
    }
    let sudo = !is_root();
    if sudo && !crate::flag("INSTALL") {
        bail!(
            "{why}.\nRun this, then try again:\n\n    sudo sh -c '{command}'\n\n\
             or let this run do it with sudo: INSTALL=1"
        );
    }
    progress::say(format!(
        "{why}; installing {} with apt-get{}",
        packages.join(" "),
        if sudo { " through sudo" } else { "" }
    ));
    if packages.iter().any(|name| is_server(name)) {
        progress::say("the server package may also make an empty cluster `main`; it is not used");
    }
    update_lists(sudo)?;
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages.iter().map(String::as_str));
    apt("installing packages", &arguments, sudo)
}

fn is_server(package: &str) -> bool {
    package.strip_prefix("postgresql-").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
}

/// Once in a process is enough.
fn update_lists(sudo: bool) -> Result<()> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.load(Ordering::Relaxed) {
        apt("updating the package lists", &["update"], sudo)?;
        DONE.store(true, Ordering::Relaxed);
    }
    Ok(())
}

fn apt(title: &str, arguments: &[&str], sudo: bool) -> Result<()> {
    let mut command = if sudo {
        let mut command = Command::new("sudo");
        command.args(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        command
    } else {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    command.args(["-o", LOCK_TIMEOUT]).args(arguments);
    let log = crate::target().join(format!("logs/apt-{}.log", arguments[0]));
    progress::run(title, &mut command, &log)
}

/// The server that this distribution has by default, with its headers.
pub fn default_server() -> Vec<String> {
    // Without package lists the metapackages name the same thing less exactly.
    if is_root() && default_major().is_none() && find_program("apt-get").is_some() {
        update_lists(false).ok();
    }
    match default_major() {
        Some(major) => vec![format!("postgresql-{major}"), format!("postgresql-server-dev-{major}")],
        None => vec!["postgresql".into(), "postgresql-server-dev-all".into()],
    }
}

fn default_major() -> Option<u32> {
    let output = Command::new("apt-cache").args(["depends", "postgresql"]).env("LC_ALL", "C").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: postgresql-"))
        .find_map(|major| major.parse().ok())
}

/// What docs/examples/*.py import, and the packages that bring it.
const PYTHON: [(&str, &str); 4] = [
    ("fastapi", "python3-fastapi"),
    ("uvicorn", "python3-uvicorn"),
    ("psycopg", "python3-psycopg"),
    ("psycopg_pool", "python3-psycopg-pool"),
];

/// A Python that has all of it: the one on the PATH, or the distribution's.
pub fn find_python() -> Option<PathBuf> {
    let missing = |python: &Path| {
        let names = PYTHON.map(|(module, _)| format!("find_spec('{module}')")).join(" and ");
        let script = format!("from importlib.util import find_spec; import sys; sys.exit(not ({names}))");
        !Command::new(python).args(["-I", "-c", &script]).output().is_ok_and(|output| output.status.success())
    };
    find_program("python3").into_iter().chain([PathBuf::from("/usr/bin/python3")]).find(|python| !missing(python))
}

/// pg_cron, pgbouncer, Python packages, what makes a Debian package and what installs client libraries, for the tests that need them. What cannot be had is not an error here:
/// those tests say that they were skipped, and CI does not accept that.
pub fn ensure_companions(postgres: &Postgres) {
    let mut wanted: Vec<Vec<String>> = Vec::new();
    if !postgres.has_pg_cron() {
        wanted.push(vec![format!("postgresql-{}-cron", postgres.major)]);
    }
    if find_program("pgbouncer").is_none() {
        wanted.push(vec!["pgbouncer".to_string()]);
    }
    if find_python().is_none() {
        wanted.push(PYTHON.map(|(_, package)| package.to_string()).to_vec());
    }
    if find_program("dpkg").is_some() && find_program("dpkg-shlibdeps").is_none() {
        wanted.push(vec!["dpkg-dev".to_string()]);
    }
    wanted.extend(clients::missing());
    install_if_allowed(&wanted, "tests", "some tests use it");
}

/// pg_partman, for the benchmark that measures it, too.
pub fn ensure_pg_partman(postgres: &Postgres) {
    if !postgres.has_pg_partman() {
        let package = format!("postgresql-{}-partman", postgres.major);
        install_if_allowed(&[vec![package]], "comparisons", "a benchmark measures it, too");
    }
}

/// What may be missing: says so where it cannot be installed. `who` needs it, and `why` it is installed.
fn install_if_allowed(wanted: &[Vec<String>], who: &str, why: &str) {
    if wanted.is_empty() {
        return;
    }
    if !is_root() && !crate::flag("INSTALL") {
        progress::say(format!(
            "{who} that need {} will be skipped (they are packages; INSTALL=1 lets this use sudo)",
            wanted.concat().join(" and ")
        ));
        return;
    }
    for packages in wanted {
        if let Err(error) = install(packages, why) {
            progress::say(format!("{} could not be installed: {error:#}", packages.join(" ")));
        }
    }
}
