//! Each released version leads to this one.
//!
//! sql/released keeps for each version the script that CREATE EXTENSION runs; the tests hold this version's to what is built, and update from each
//! (pg_test/tests/suite/lifecycle/upgrading.rs).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const KEPT: &str = "sql/released";

pub fn check(root: &Path, version: &str, faults: &mut Vec<String>) -> Result<()> {
    let updates: Vec<(String, String)> = scripts(&root.join("sql"))?.iter().filter_map(|path| update(path)).collect();
    let released: Vec<String> = scripts(&root.join(KEPT))?.iter().filter_map(|path| installs(path)).collect();
    faults.extend(judge(version, &released, &updates));
    Ok(())
}

fn judge(version: &str, released: &[String], updates: &[(String, String)]) -> Vec<String> {
    let mut faults = Vec::new();
    if !released.iter().any(|known| known == version) {
        faults.push(format!("{KEPT}: has no script of {version}"));
    }
    for old in released.iter().filter(|known| *known != version) {
        let mut reached = BTreeSet::from([&old[..]]);
        while let Some((_, to)) =
            updates.iter().find(|(from, to)| reached.contains(&from[..]) && !reached.contains(&to[..]))
        {
            reached.insert(to);
        }
        if !reached.contains(version) {
            faults.push(format!(
                "sql: no script leads from {old} to {version}, so ALTER EXTENSION bulkhead UPDATE has no way"
            ));
        }
    }
    faults
}

fn scripts(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Whose script it is that CREATE EXTENSION runs.
fn installs(path: &Path) -> Option<String> {
    path.file_stem()?.to_str()?.strip_prefix("bulkhead--").map(str::to_owned)
}

/// From which version to which a script leads, where it is one of an update.
fn update(path: &Path) -> Option<(String, String)> {
    let (from, to) = path.file_stem()?.to_str()?.strip_prefix("bulkhead--")?.split_once("--")?;
    Some((from.to_owned(), to.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn a_released_version_leads_to_this_one() {
        let faults = |version, released: &[&str], pairs: &[(&str, &str)]| {
            let released: Vec<String> = released.iter().map(|version| version.to_string()).collect();
            let updates: Vec<_> = pairs.iter().map(|(from, to)| (from.to_string(), to.to_string())).collect();
            judge(version, &released, &updates).len()
        };
        assert_eq!(faults("1", &["1"], &[]), 0);
        assert_eq!(faults("1", &[], &[]), 1);
        assert_eq!(faults("2", &["1"], &[("1", "2")]), 1);
        assert_eq!(faults("2", &["1", "2"], &[]), 1);
        assert_eq!(faults("3", &["1", "2", "3"], &[("1", "2"), ("2", "3")]), 0);
        assert_eq!(faults("3", &["1", "2", "3"], &[("3", "1"), ("2", "3")]), 1);
    }
}
