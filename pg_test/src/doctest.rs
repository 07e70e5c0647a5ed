//! Runs the SQL of the documentation and compares what it prints.
//!
//! Each page is one psql session of the plain role `owner` in a database of its own that has the
//! extension. In a page:
//!
//! - a ```` ```sql ```` block is run. If a ```` ```text ```` block follows it directly, that is
//!   exactly what psql prints for it (as `psql -q` does, without the command tags); if none does,
//!   the block must not fail;
//! - a ```` ```sql no-run ```` block is only shown;
//! - `<!-- setup`, SQL, `-->` is run and not shown. It may fail no more than a block, and may
//!   `\connect - postgres`; it then connects back itself.
//!
//! `BLESS=1` writes what came into the pages' text blocks instead of comparing.

mod page;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::cluster::Database;
use crate::interleave::differences;
use page::Block;

/// README.md and docs/*.md, as far as they exist.
pub fn pages() -> Vec<PathBuf> {
    let mut docs: Vec<PathBuf> = std::fs::read_dir(crate::root().join("docs"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    docs.sort();
    docs.insert(0, crate::root().join("README.md"));
    docs.retain(|path| path.is_file());
    docs
}

/// Runs one page; the error shows each block that did something else than the page says.
pub fn run(path: &Path, database: &Database) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let shown = path.strip_prefix(crate::root()).unwrap_or(path).display().to_string();
    let blocks = page::parse(&text).with_context(|| shown.clone())?;
    let (outputs, rest) = psql(&blocks, database)?;
    if let Some(stopped) = blocks.get(outputs.len()) {
        bail!("{shown}:{}: the session ended within this block, or a quote is not closed\n{rest}", stopped.line);
    }
    if crate::flag("BLESS") {
        std::fs::write(path, page::with_outputs(&text, &blocks, &outputs))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    let mut faults = String::new();
    for (block, output) in blocks.iter().zip(&outputs) {
        if let Some(fault) = judge(block, output) {
            faults.push_str(&format!("{shown}:{}: {fault}\n", block.line));
        }
    }
    if !faults.is_empty() {
        bail!("{faults}");
    }
    Ok(())
}

fn judge(block: &Block, output: &str) -> Option<String> {
    match &block.expected {
        Some(_) if crate::flag("BLESS") => None,
        Some(expected) if expected.text == output => None,
        Some(expected) => Some(format!(
            "this block prints something else (- in the page, + printed)\n{}",
            differences(&expected.text, output)
        )),
        None if has_failed(output) => Some(format!("this block fails\n{output}")),
        None => None,
    }
}

fn has_failed(output: &str) -> bool {
    let marks = ["ERROR:", "FATAL:", "PANIC:", "psql: error:", "invalid command "];
    output.lines().any(|line| marks.iter().any(|mark| line.starts_with(mark)))
}

fn marker(number: usize) -> String {
    format!("-- end of block {number} --")
}

/// What each block printed, and the rest; fewer than blocks when the session ended early.
fn psql(blocks: &[Block], database: &Database) -> Result<(Vec<String>, String)> {
    let mut script = String::new();
    for (number, block) in blocks.iter().enumerate() {
        script.push_str(&format!("{}\n\\echo '{}'\n", block.sql, marker(number)));
    }
    // One open file for both streams, as on a terminal, keeps results and errors in order.
    let path = database.cluster.dir().join(format!("{}.out", database.name));
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    let mut child = database
        .client_program("psql", "owner")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=0"])
        .current_dir(crate::root())
        .stdin(Stdio::piped())
        .stderr(file.try_clone()?)
        .stdout(file)
        .spawn()
        .context("starting psql")?;
    if let Some(mut stdin) = child.stdin.take() {
        // psql may leave early; what it printed until then tells why.
        stdin.write_all(script.as_bytes()).ok();
    }
    child.wait()?;
    let output = std::fs::read(&path)?;
    std::fs::remove_file(&path).ok();
    Ok(split(&String::from_utf8_lossy(&output)))
}

fn split(output: &str) -> (Vec<String>, String) {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    for line in output.lines() {
        if line == marker(parts.len()) {
            parts.push(page::trimmed(&part));
            part.clear();
        } else {
            part.push(line);
        }
    }
    (parts, page::trimmed(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_split_at_the_markers() {
        let output = " a\n---\n 1\n(1 row)\n\n-- end of block 0 --\n-- end of block 1 --\nrest\n";
        let parts = vec![" a\n---\n 1\n(1 row)".to_string(), String::new()];
        assert_eq!(split(output), (parts, "rest".to_string()));
    }

    #[test]
    fn a_failure_is_one_only_at_the_start_of_a_line() {
        assert!(has_failed("NOTICE:  x\nERROR:  y"));
        assert!(!has_failed(" ERROR: in a row"));
    }
}
