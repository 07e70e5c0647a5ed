//! One run of one of PostgreSQL's suites on one server.
//!
//! pg_regress is told nothing of the extension but to create it; what a test printed is read from the files that it leaves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use pg_test::cluster::Builder;
use pg_test::{Cluster, Preload, progress, provision};

use crate::source::Source;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    Core,
    Isolation,
}

/// How the server that a suite runs on has to do with Bulkhead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Not at all: what the machine and the sources themselves make differ.
    Without,
    /// Preloaded, and no extension in the database.
    Preloaded,
    /// Preloaded, and the extension in the database.
    Created,
}

/// What one run left.
pub struct Outcome {
    /// What each test printed.
    pub printed: BTreeMap<String, Vec<u8>>,
    /// Tests whose output is none of those that are expected.
    pub failed: Vec<String>,
}

impl Suite {
    pub fn name(self) -> &'static str {
        match self {
            Suite::Core => "core",
            Suite::Isolation => "isolation",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Suite::Core => "regress",
            Suite::Isolation => "isolation",
        }
    }

    fn schedule(self) -> &'static str {
        match self {
            Suite::Core => "parallel_schedule",
            Suite::Isolation => "isolation_schedule",
        }
    }

    fn runner(self) -> &'static str {
        match self {
            Suite::Core => "pg_regress",
            Suite::Isolation => "pg_isolation_regress",
        }
    }
}

impl Setting {
    pub fn name(self) -> &'static str {
        match self {
            Setting::Without => "without",
            Setting::Preloaded => "preloaded",
            Setting::Created => "created",
        }
    }
}

/// A server as `pg_regress --temp-instance` would make it, with the library or without.
pub fn server(setting: Setting) -> Result<Cluster> {
    builder(setting).start()
}

pub fn builder(setting: Setting) -> Builder {
    let (preload, libraries) = match setting {
        Setting::Without => (Preload::None, ""),
        Setting::Preloaded | Setting::Created => (Preload::Shared, "bulkhead"),
    };
    Cluster::builder()
        .preload(preload)
        .setting("shared_preload_libraries", libraries)
        .setting("max_connections", "100")
        .setting("max_worker_processes", "8")
        .setting("max_prepared_transactions", "2")
        .setting("shared_buffers", "128MB")
        .setting("wal_level", "replica")
        .setting("fsync", "off")
}

/// Runs a suite, in a copy of its folder inside the server's directory, as the server's user: COPY writes files there.
pub fn run(suite: Suite, setting: Setting, cluster: &Cluster, source: &Source) -> Result<Outcome> {
    let home = cluster.dir().join("suites");
    let dir = home.join(suite.folder());
    provision::copy_dir(&source.dir.join("src/test").join(suite.folder()), &dir)?;
    let libraries = home.join("libraries");
    provision::copy_dir(&source.libraries, &libraries)?;
    copy_programs(&source.runners.join(suite.folder()), &dir)?;
    cluster.give_to_server(&home)?;

    let mut command = cluster.command_as_server(&dir.join(suite.runner()));
    command.current_dir(&dir).arg("--inputdir=.").arg("--outputdir=.");
    command.arg(format!("--bindir={}", cluster.bindir().display()));
    command.arg(format!("--dlpath={}", libraries.display()));
    command.arg(format!("--host={}", cluster.socket_dir().display())).arg(format!("--port={}", cluster.port()));
    command.args(["--user=postgres", "--no-locale", "--encoding=UTF8", "--max-concurrent-tests=20"]);
    command.arg(format!("--schedule={}", suite.schedule()));
    command.arg(format!("--dbname={}", if suite == Suite::Core { "regression" } else { "isolation_regression" }));
    if setting == Setting::Created {
        command.arg("--load-extension=bulkhead");
    }
    let title = format!("{} suite, {}", suite.name(), setting.name());
    let log = pg_test::target().join(format!("logs/regression-{}-{}.log", suite.name(), setting.name()));
    // It fails when a test does; that is told from what it leaves.
    let told = progress::stage(&title, || Ok(progress::run(&title, &mut command, &log)))?;
    let outcome = Outcome { printed: printed(&dir.join("results"))?, failed: failed(&dir.join("regression.diffs")) };
    keep(&outcome, suite, setting)?;
    let planned = planned(&dir.join(suite.schedule()))?;
    let missing: Vec<&String> = planned.iter().filter(|test| !outcome.printed.contains_key(*test)).collect();
    if !missing.is_empty() {
        bail!("{title}: no output of {missing:?} {}", told.err().map(|error| format!("{error:#}")).unwrap_or_default());
    }
    if cluster.log().contains("was terminated by signal") {
        bail!("{title}: a server process was killed by a signal; {} has what it left", log.display());
    }
    Ok(outcome)
}

/// What each test printed stays below `target/`, to be read by a person.
fn keep(outcome: &Outcome, suite: Suite, setting: Setting) -> Result<()> {
    let dir = crate::source::home().join("results").join(suite.name()).join(setting.name());
    std::fs::remove_dir_all(&dir).ok();
    std::fs::create_dir_all(&dir)?;
    for (test, text) in &outcome.printed {
        std::fs::write(dir.join(format!("{test}.out")), text)?;
    }
    Ok(())
}

fn copy_programs(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))?.flatten() {
        // Another process copies: what one of our threads has open for writing cannot be run.
        let copied = Command::new("cp").arg(entry.path()).arg(to).status().context("running cp")?;
        if !copied.success() {
            bail!("copying {} failed", entry.path().display());
        }
    }
    Ok(())
}

fn printed(results: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut printed = BTreeMap::new();
    for entry in std::fs::read_dir(results).with_context(|| format!("reading {}", results.display()))?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "out") {
            printed.insert(stem(&path), std::fs::read(&path)?);
        }
    }
    Ok(printed)
}

/// Each failed test begins with `diff -U3 expected/NAME.out results/NAME.out`.
fn failed(diffs: &Path) -> Vec<String> {
    let text = std::fs::read(diffs).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let headers = text.lines().filter(|line| line.starts_with("diff ") && line.ends_with(".out"));
    headers.filter_map(|line| line.split_whitespace().last()).map(|path| stem(&PathBuf::from(path))).collect()
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// `test: boolean char name`
fn planned(schedule: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(schedule).with_context(|| format!("reading {}", schedule.display()))?;
    let tests = text.lines().filter_map(|line| line.strip_prefix("test:"));
    Ok(tests.flat_map(str::split_whitespace).map(String::from).collect())
}
