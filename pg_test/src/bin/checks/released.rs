//! The objects of a released version never change, and each released version leads to this one.
//!
//! sql/released.txt has a digest for each version: of the files sql/*.sql, whose objects CREATE EXTENSION makes, in the order of their names and without the scripts of updates.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

const LIST: &str = "sql/released.txt";

pub fn check(root: &Path, version: &str, faults: &mut Vec<String>) -> Result<()> {
    let list = std::fs::read_to_string(root.join(LIST)).with_context(|| format!("reading {LIST}"))?;
    let released: Vec<(&str, &str)> =
        list.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' ')).collect();
    let scripts = scripts(&root.join("sql"))?;
    let digest = digest(&scripts)?;
    let updates: Vec<(String, String)> = scripts.iter().filter_map(|path| update(path)).collect();
    faults.extend(judge(version, &digest, &released, &updates));
    Ok(())
}

fn judge(version: &str, digest: &str, released: &[(&str, &str)], updates: &[(String, String)]) -> Vec<String> {
    let mut faults = Vec::new();
    match released.iter().find(|(known, _)| *known == version) {
        Some((_, frozen)) if *frozen != digest => faults.push(format!(
            "{LIST}: the objects of {version} are not those that were frozen ({digest} is theirs now). A released version's never change: raise the version in \
             Cargo.toml and write sql/bulkhead--{version}--NEW.sql"
        )),
        Some(_) => {}
        None => faults.push(format!("{LIST}: has no line for {version}, whose objects are {digest}")),
    }
    for (old, _) in released.iter().filter(|(known, _)| *known != version) {
        let mut reached = BTreeSet::from([*old]);
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

/// From which version to which a script leads, where it is one of an update.
fn update(path: &Path) -> Option<(String, String)> {
    let (from, to) = path.file_stem()?.to_str()?.strip_prefix("bulkhead--")?.split_once("--")?;
    Some((from.to_owned(), to.to_owned()))
}

fn digest(scripts: &[PathBuf]) -> Result<String> {
    let mut program = Command::new("sha256sum");
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("running sha256sum")?;
    let mut input = child.stdin.take().context("sha256sum has no input")?;
    for path in scripts.iter().filter(|path| update(path).is_none()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        input.write_all(name.as_bytes()).and_then(|()| input.write_all(&text))?;
    }
    drop(input);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "sha256sum failed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.split_whitespace().next().map(str::to_owned).context("sha256sum said nothing")
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn a_released_version_is_frozen_and_leads_to_this_one() {
        let updates = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(from, to)| (from.to_string(), to.to_string())).collect::<Vec<_>>()
        };
        let faults = |version, digest, released: &[(&str, &str)], pairs: &[(&str, &str)]| {
            judge(version, digest, released, &updates(pairs)).len()
        };
        assert_eq!(faults("1", "a", &[("1", "a")], &[]), 0);
        assert_eq!(faults("1", "b", &[("1", "a")], &[]), 1);
        assert_eq!(faults("2", "b", &[("1", "a")], &[("1", "2")]), 1);
        assert_eq!(faults("2", "b", &[("1", "a"), ("2", "b")], &[]), 1);
        assert_eq!(faults("3", "c", &[("1", "a"), ("2", "b"), ("3", "c")], &[("1", "2"), ("2", "3")]), 0);
        assert_eq!(faults("3", "c", &[("1", "a"), ("2", "b"), ("3", "c")], &[("3", "1"), ("2", "3")]), 1);
    }
}
