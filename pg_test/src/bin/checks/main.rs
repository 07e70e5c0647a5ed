//! What CI asks of the sources, besides that they work.
//!
//! `cargo run --bin checks`: clippy over the extension with the settings of its build, `unsafe` only
//! in `src/pg/`, files that are read in one sitting, nothing that is true of one machine only, one version, a way to it from each released one, and licences that deny.toml allows.

mod packages;
mod released;
mod source;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use pg_test::bench::figures;
use pg_test::{progress, provision};

/// The house says about 400.
const MOST_LINES: usize = 420;

fn main() -> ExitCode {
    progress::conclude(run())
}

fn run() -> Result<bool> {
    let mut faults = Vec::new();
    for path in files(pg_test::root())? {
        let inside = path.strip_prefix(pg_test::root()).unwrap_or(&path);
        // What is not text has no lines to check.
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        check(inside, &text, &mut faults);
    }
    let version = packages::versions(pg_test::root(), &mut faults)?;
    released::check(pg_test::root(), &version, &mut faults)?;
    packages::licences(pg_test::root(), &mut faults)?;
    if pg_test::flag("FIGURES") {
        figures::write(pg_test::root())?;
    }
    faults.extend(figures::check(pg_test::root())?);
    progress::stage("clippy on the extension", provision::lint_extension)?;
    for fault in &faults {
        eprintln!("{fault}");
    }
    Ok(faults.is_empty())
}

fn check(path: &Path, text: &str, faults: &mut Vec<String>) {
    let extension = path.extension().unwrap_or_default();
    if extension == "rs" && !path.starts_with("src/pg") {
        for line in source::lines_with_word(text, "unsafe") {
            faults.push(format!("{}:{line}: unsafe lives in src/pg/ only", path.display()));
        }
    }
    let lines = text.lines().count();
    let is_written = !path.starts_with("sql/released");
    if is_written && (extension == "rs" || extension == "sql") && lines > MOST_LINES {
        faults.push(format!("{}: {lines} lines; split it by meaning", path.display()));
    }
    for (number, line) in text.lines().enumerate() {
        if source::is_of_one_machine(line) {
            let number = number + 1;
            faults.push(format!("{}:{number}: a path of one machine: {line}", path.display()));
        }
    }
}

/// All files of the checkout but what is built and what belongs to git.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let listing = std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    for entry in listing {
        let path = entry?.path();
        if path == pg_test::target() || path.ends_with("target") || path.ends_with(".git") {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
