//! What a release says of itself agrees, and every package of the tree is under a licence of deny.toml.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

fn read(root: &Path, name: &str) -> Result<String> {
    std::fs::read_to_string(root.join(name)).with_context(|| format!("reading {name}"))
}

/// The value of the first `name = "value"`.
fn quoted<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))?;
    line.split('"').nth(1)
}

/// Cargo.toml has the version, which is returned; META.json and the changelog repeat it, and the control file takes it from there.
pub fn versions(root: &Path, faults: &mut Vec<String>) -> Result<String> {
    let manifest = read(root, "Cargo.toml")?;
    let version = quoted(&manifest, "version").context("Cargo.toml has no version")?;
    let meta: Value = serde_json::from_str(&read(root, "META.json")?).context("META.json")?;
    for (what, said) in
        [("version", &meta["version"]), ("provides.bulkhead.version", &meta["provides"]["bulkhead"]["version"])]
    {
        if said != version {
            faults.push(format!("META.json: {what} is {said}, and Cargo.toml says {version}"));
        }
    }
    if !read(root, "bulkhead.control")?.contains("default_version = '@CARGO_VERSION@'") {
        faults.push("bulkhead.control: default_version is not the one of Cargo.toml".to_owned());
    }
    let changes = read(root, "CHANGELOG.md")?;
    let newest = changes.lines().find_map(|line| line.strip_prefix("## ")).unwrap_or("");
    if newest.split_whitespace().next() != Some(version) {
        faults.push(format!("CHANGELOG.md: begins with {newest:?}, and Cargo.toml says {version}"));
    }
    Ok(version.to_owned())
}

/// Every package that is locked, also those of other platforms.
pub fn licences(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    let deny = read(root, "deny.toml")?;
    let list =
        deny.lines().find_map(|line| line.strip_prefix("allow = [")).context("deny.toml has no list of licences")?;
    let allowed: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    for manifest in ["Cargo.toml", "pg_test/fuzz/Cargo.toml"] {
        let output = Command::new("cargo")
            .args(["metadata", "--format-version=1", "--all-features", "--locked", "--manifest-path"])
            .arg(root.join(manifest))
            .output()
            .context("running cargo metadata")?;
        ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
        for package in metadata["packages"].as_array().into_iter().flatten() {
            let licence = package["license"].as_str().unwrap_or("");
            if !satisfied(licence, &allowed) {
                faults.push(format!(
                    "{manifest}: {} is under {licence:?}, which deny.toml does not allow",
                    package["name"]
                ));
            }
        }
    }
    Ok(())
}

/// Whether what is allowed satisfies the SPDX expression; `/` is an old way to write OR.
fn satisfied(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let holds = either(&mut rest, allowed);
    rest.is_empty() && holds
}

fn either(words: &mut &[&str], allowed: &[&str]) -> bool {
    let mut holds = both(words, allowed);
    while let Some((&"OR", rest)) = words.split_first() {
        *words = rest;
        holds |= both(words, allowed);
    }
    holds
}

fn both(words: &mut &[&str], allowed: &[&str]) -> bool {
    let mut holds = one(words, allowed);
    while let Some((&"AND", rest)) = words.split_first() {
        *words = rest;
        holds &= one(words, allowed);
    }
    holds
}

fn one(words: &mut &[&str], allowed: &[&str]) -> bool {
    let Some((first, rest)) = words.split_first() else { return false };
    *words = rest;
    if *first == "(" {
        let holds = either(words, allowed);
        let Some((&")", rest)) = words.split_first() else { return false };
        *words = rest;
        return holds;
    }
    // An exception takes a condition away, and no right.
    if let [with, _, rest @ ..] = *words
        && *with == "WITH"
    {
        *words = rest;
    }
    allowed.contains(first)
}

#[cfg(test)]
mod tests {
    use super::satisfied;

    #[test]
    fn expressions() {
        let holds = |expression| satisfied(expression, &["MIT", "ISC"]);
        for expression in [
            "MIT",
            "GPL-2.0-only OR MIT",
            "GPL-2.0-only/MIT",
            "ISC AND (MIT OR GPL-2.0-only)",
            "MIT WITH LLVM-exception OR GPL-2.0-only",
        ] {
            assert!(holds(expression), "{expression}");
        }
        for expression in
            ["", "GPL-2.0-only", "MIT AND GPL-2.0-only", "MIT AND (ISC", "MIT ISC", "ISC AND (GPL-2.0-only OR Zlib)"]
        {
            assert!(!holds(expression), "{expression}");
        }
    }
}
