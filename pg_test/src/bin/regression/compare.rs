//! What the library changes in a suite's output, held against the list of what it may change.
//!
//! The list is differences.txt beside this file: each entry has its reason, and is compared line by line. What is not listed fails the run,
//! and so does what is listed and has vanished.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::suites::{Outcome, Setting, Suite};

const LISTED: &str = include_str!("differences.txt");

/// The lines by which the outputs of a test differ, `<` without the library and `>` with it, and by which test.
pub type Differences = BTreeMap<Key, Vec<String>>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub suite: &'static str,
    pub setting: &'static str,
    pub test: String,
}

/// Tests that fail with the library and print something else than without it.
///
/// A test may have several expected outputs, so two that differ and are both expected are no difference.
pub fn differences(suite: Suite, setting: Setting, without: &Outcome, with: &Outcome) -> Result<Differences> {
    let mut found = Differences::new();
    for test in &with.failed {
        let printed = |outcome: &Outcome| outcome.printed.get(test).cloned().unwrap_or_default();
        let (before, after) = (printed(without), printed(with));
        if before != after {
            let key = Key { suite: suite.name(), setting: setting.name(), test: test.clone() };
            found.insert(key, diff(&before, &after)?);
        }
    }
    Ok(found)
}

/// The changed lines of `diff`, without where they are: that moves with every minor release.
fn diff(before: &[u8], after: &[u8]) -> Result<Vec<String>> {
    let dir = crate::source::home().join("compared");
    std::fs::create_dir_all(&dir)?;
    let write = |name: &str, text: &[u8]| -> Result<_> {
        let path = dir.join(name);
        std::fs::File::create(&path)?.write_all(text)?;
        Ok(path)
    };
    let (before, after) = (write("before", before)?, write("after", after)?);
    let output = Command::new("diff").args(["--text"]).args([&before, &after]).output().context("running diff")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let changed = text.lines().filter(|line| line.starts_with(['<', '>']));
    Ok(changed.map(|line| line.trim_end().to_string()).collect())
}

/// What the list allows on this major version.
///
/// ```text
/// # why it cannot be avoided
/// 15 core created event_trigger
/// < a line as it is without the library
/// > and with it
/// ```
pub fn listed(major: u32) -> Result<Differences> {
    parse(LISTED, major)
}

fn parse(text: &str, major: u32) -> Result<Differences> {
    let mut all = Differences::new();
    let mut current: Option<Key> = None;
    let mut reason = false;
    for line in text.lines().map(str::trim_end) {
        match line.chars().next() {
            None => (current, reason) = (None, false),
            Some('#') => reason = true,
            Some('<' | '>') => {
                if let Some(lines) = current.as_ref().and_then(|key| all.get_mut(key)) {
                    lines.push(line.to_string());
                }
            }
            Some(_) => {
                let (of, key) = header(line)?;
                if !reason {
                    bail!("differences.txt gives no reason for {line:?}");
                }
                current = (of == major).then(|| key.clone());
                if of == major {
                    all.insert(key, Vec::new());
                }
            }
        }
    }
    Ok(all)
}

fn header(line: &str) -> Result<(u32, Key)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let &[major, suite, setting, test] = words.as_slice() else {
        bail!("differences.txt: {line:?} is not `major suite setting test`");
    };
    let suite = [Suite::Core, Suite::Isolation].map(Suite::name).into_iter().find(|name| *name == suite);
    let setting = [Setting::Preloaded, Setting::Created].map(Setting::name).into_iter().find(|name| *name == setting);
    let (Some(suite), Some(setting)) = (suite, setting) else {
        bail!("differences.txt: {line:?} names no suite, or no way to run it");
    };
    Ok((major.parse().context("differences.txt: a major version")?, Key { suite, setting, test: test.into() }))
}

/// What has to be told, or nothing when found and listed are the same.
pub fn judge(found: &Differences, listed: &Differences) -> Vec<String> {
    let mut told = Vec::new();
    for (key, lines) in found {
        let name = format!("{} {} {}", key.suite, key.setting, key.test);
        match listed.get(key) {
            Some(allowed) if allowed == lines => {}
            Some(_) => told.push(format!("{name}: differs otherwise than listed\n{}", shortened(lines))),
            None => told.push(format!("{name}: differs\n{}", shortened(lines))),
        }
    }
    for key in listed.keys().filter(|key| !found.contains_key(*key)) {
        told.push(format!("{} {} {}: listed, but does not differ any more", key.suite, key.setting, key.test));
    }
    told
}

fn shortened(lines: &[String]) -> String {
    const SHOWN: usize = 60;
    let mut text = lines[..lines.len().min(SHOWN)].join("\n");
    if lines.len() > SHOWN {
        text += &format!("\n... and {} lines more", lines.len() - SHOWN);
    }
    text
}

/// Where a person finds the whole outputs.
pub fn results() -> std::path::PathBuf {
    Path::new(&crate::source::home()).join("results")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# because\n15 core created rules\n< a\n> b\n\n# because\n17 core created rules\n> c\n";

    fn key(test: &str) -> Key {
        Key { suite: "core", setting: "created", test: test.into() }
    }

    #[test]
    fn the_list_is_read_by_major_and_wants_reasons() {
        let listed = parse(TEXT, 15).unwrap();
        assert_eq!(listed, Differences::from([(key("rules"), vec!["< a".to_string(), "> b".to_string()])]));
        assert!(parse("15 core created rules\n< a\n", 15).is_err());
        assert!(parse("# why\n15 core nowhere rules\n", 15).is_err());
        assert!(parse(LISTED, 15).is_ok());
    }

    #[test]
    fn what_is_new_what_is_other_and_what_vanished_is_told() {
        let listed = parse(TEXT, 15).unwrap();
        assert!(judge(&listed, &listed).is_empty());
        assert_eq!(judge(&Differences::new(), &listed).len(), 1);
        let other = Differences::from([(key("rules"), vec!["< a".to_string()])]);
        assert_eq!(judge(&other, &listed).len(), 1);
        let new = Differences::from([(key("join"), vec!["< a".to_string()])]);
        assert_eq!(judge(&new, &listed).len(), 2);
    }
}
