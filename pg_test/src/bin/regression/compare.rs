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

/// The list: those lines, and whether it depends on what runs beside the test, so that a run may lack them, or print them in another order.
pub struct Listed {
    pub lines: Vec<String>,
    pub sometimes: bool,
}

impl Listed {
    pub fn is(&self, lines: &[String]) -> bool {
        let sorted = |lines: &[String]| {
            let mut lines = lines.to_vec();
            lines.sort();
            lines
        };
        self.lines == lines || self.sometimes && sorted(&self.lines) == sorted(lines)
    }
}

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
    Ok(changed.map(|line| without_oids(line.trim_end())).collect())
}

/// Five digits and more are an oid, which no two runs have in common; the dashes of a column are as long as its widest value.
fn without_oids(line: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    for c in line.chars().chain(['\n']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        out.push_str(if digits.len() >= 5 { "OID" } else { &digits });
        digits.clear();
        out.push(c);
    }
    out.trim_end().to_string()
}

/// What the list allows on this major version.
///
/// ```text
/// # why it cannot be avoided
/// 15,17 core created event_trigger
/// < a line as it is without the library
/// > and with it
/// ```
///
/// A fifth word, `sometimes`: a run may lack it, or print its lines in another order.
pub fn listed(major: u32) -> Result<BTreeMap<Key, Listed>> {
    parse(LISTED, major)
}

fn parse(text: &str, major: u32) -> Result<BTreeMap<Key, Listed>> {
    let mut all = BTreeMap::<Key, Listed>::new();
    let mut current: Option<Key> = None;
    let mut reason = false;
    for line in text.lines().map(str::trim_end) {
        match line.chars().next() {
            None => (current, reason) = (None, false),
            Some('#') => reason = true,
            Some('<' | '>') => {
                if let Some(listed) = current.as_ref().and_then(|key| all.get_mut(key)) {
                    listed.lines.push(line.to_string());
                }
            }
            Some(_) => {
                let (majors, key, sometimes) = header(line)?;
                if !reason {
                    bail!("differences.txt gives no reason for {line:?}");
                }
                current = majors.contains(&major).then(|| key.clone());
                if majors.contains(&major) {
                    all.insert(key, Listed { lines: Vec::new(), sometimes });
                }
            }
        }
    }
    Ok(all)
}

fn header(line: &str) -> Result<(Vec<u32>, Key, bool)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (majors, suite, setting, test, sometimes) = match *words.as_slice() {
        [majors, suite, setting, test] => (majors, suite, setting, test, false),
        [majors, suite, setting, test, "sometimes"] => (majors, suite, setting, test, true),
        _ => bail!("differences.txt: {line:?} is not `majors suite setting test`"),
    };
    let suite = [Suite::Core, Suite::Isolation].map(Suite::name).into_iter().find(|name| *name == suite);
    let setting = [Setting::Preloaded, Setting::Created].map(Setting::name).into_iter().find(|name| *name == setting);
    let (Some(suite), Some(setting)) = (suite, setting) else {
        bail!("differences.txt: {line:?} names no suite, or no way to run it");
    };
    let majors = majors.split(',').map(|major| major.parse().context("differences.txt: a major version"));
    Ok((majors.collect::<Result<_>>()?, Key { suite, setting, test: test.into() }, sometimes))
}

/// What has to be told, or nothing when found and listed are the same.
pub fn judge(found: &Differences, listed: &BTreeMap<Key, Listed>, ours: impl Fn(&Key) -> bool) -> Vec<String> {
    let mut told = Vec::new();
    for (key, lines) in found {
        let name = format!("{} {} {}", key.suite, key.setting, key.test);
        match listed.get(key) {
            Some(allowed) if allowed.is(lines) => {}
            Some(_) => told.push(format!("{name}: differs otherwise than listed\n{}", shortened(lines))),
            None => told.push(format!("{name}: differs\n{}", shortened(lines))),
        }
    }
    let vanished = listed.iter().filter(|(key, of)| ours(key) && !of.sometimes && !found.contains_key(*key));
    for (key, _) in vanished {
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

    const TEXT: &str = "# because\n15,16 core created rules\n< a\n> b\n\n# because\n17 core created rules\n> c\n";

    fn key(test: &str) -> Key {
        Key { suite: "core", setting: "created", test: test.into() }
    }

    #[test]
    fn the_list_is_read_by_major_and_wants_reasons() {
        let listed = parse(TEXT, 15).unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[&key("rules")].lines, ["< a", "> b"]);
        assert_eq!(parse(TEXT, 16).unwrap()[&key("rules")].lines, ["< a", "> b"]);
        assert!(parse("15 core created rules\n< a\n", 15).is_err());
        assert!(parse("# why\n15 core nowhere rules\n", 15).is_err());
        assert!(parse(LISTED, 15).is_ok());
    }

    #[test]
    fn what_is_new_what_is_other_and_what_vanished_is_told() {
        let listed = parse(TEXT, 15).unwrap();
        let lines = |lines: &[&str]| lines.iter().map(|line| line.to_string()).collect::<Vec<_>>();
        let told = |found: Differences| judge(&found, &listed, |_| true).len();
        assert_eq!(told(Differences::from([(key("rules"), lines(&["< a", "> b"]))])), 0);
        assert_eq!(told(Differences::new()), 1);
        assert_eq!(told(Differences::from([(key("rules"), lines(&["< a"]))])), 1);
        assert_eq!(told(Differences::from([(key("join"), lines(&["< a"]))])), 2);
        let sometimes = parse("# why\n15 core created rules sometimes\n< a\n> b\n", 15).unwrap();
        assert!(judge(&Differences::new(), &sometimes, |_| true).is_empty());
        let told =
            |found: &[&str]| judge(&Differences::from([(key("rules"), lines(found))]), &sometimes, |_| true).len();
        assert_eq!((told(&["> b", "< a"]), told(&["> b"]), told(&["> b", "< a", "> b"])), (0, 1, 1));
    }

    #[test]
    fn oids_are_left_out() {
        assert_eq!(without_oids(">  16766 | a 1234"), ">  OID | a 1234");
    }
}
