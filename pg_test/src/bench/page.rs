//! The results in docs/benchmarks.md: `BLESS=1 cargo bench` writes each benchmark's section and its charts.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::figures;
use super::report::Report;

pub(super) const PAGE: &str = "docs/benchmarks.md";

/// Only what was measured in full is written there.
pub fn is_asked_for(report: &Report) -> bool {
    crate::flag("BLESS") && !report.conditions.quick
}

/// Writes the section, under the charts that it has.
pub fn write(report: &Report) -> Result<()> {
    change(report.feature, |old| {
        let charts = old.lines().filter(|line| line.starts_with("![")).collect::<Vec<_>>().join("\n\n");
        format!("{}\n{charts}\n", section(report))
    })?;
    figures::write(crate::root())
}

/// Copies the chart beside the page and shows it in the section.
pub fn add_chart(report: &Report, chart: &Path) -> Result<()> {
    let name = chart.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let copy = crate::root().join("docs/charts").join(&name);
    std::fs::copy(chart, &copy).with_context(|| format!("writing {}", copy.display()))?;
    let shown = format!("![{}](charts/{name})", report.title);
    change(report.feature, |text| match text.contains(&shown) {
        true => text.to_owned(),
        false => format!("{}\n\n{shown}\n", text.trim_end()),
    })
}

fn change(feature: &str, with: impl FnOnce(&str) -> String) -> Result<()> {
    let path = crate::root().join(PAGE);
    let page = std::fs::read_to_string(&path).with_context(|| format!("reading {PAGE}"))?;
    std::fs::write(&path, replaced(&page, feature, with)).with_context(|| format!("writing {PAGE}"))
}

/// The page with another section of the feature, which stands last where there was none.
fn replaced(page: &str, feature: &str, with: impl FnOnce(&str) -> String) -> String {
    let (begin, end) = (format!("<!-- results of {feature} -->\n"), format!("<!-- end of {feature} -->\n"));
    let found = page.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?)));
    let (before, old, after) = match found {
        Some((before, (old, after))) => (before.to_owned(), old, after),
        None => (format!("{}\n\n", page.trim_end()), "", ""),
    };
    format!("{before}{begin}{}\n{end}{after}", with(old).trim_end())
}

fn section(report: &Report) -> String {
    let conditions = &report.conditions;
    let mut text = format!("### {}: {}\n\n", report.feature, report.title);
    let source = format!("pg_test/benches/{}", report.feature);
    let source = if crate::root().join(&source).is_dir() { source } else { format!("{source}.rs") };
    writeln!(
        text,
        "{}: {}; {}, {} cores, {:.1} of them busy before{}; {}. The rivals' code: [{source}](../{source}). {}",
        date(),
        conditions.server,
        conditions.processor,
        conditions.cores,
        conditions.busy,
        if conditions.is_busy() { ", so the machine was not quiet" } else { "" },
        conditions.settings,
        report.notes.join(" "),
    )
    .ok();
    text += "\n| | ours | against | | result (95 % interval) | target | |\n|---|---|---|---|---|---|---|\n";
    let mut above = "";
    for line in &report.lines {
        let what = if line.what == above { "" } else { &line.what };
        above = &line.what;
        writeln!(text, "| {what} | {} |", report.cells(line).map(|cell| cell.replace('|', "\\|")).join(" | ")).ok();
    }
    text
}

/// Today in UTC, as ISO 8601 has it.
fn date() -> String {
    let said = Command::new("date").args(["-u", "+%Y-%m-%d"]).output();
    said.map_or_else(|_| "undated".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_where_it_stands() {
        let page = replaced("# Page\n", "one", |_| "first".into());
        let page = replaced(&page, "two", |_| "other".into());
        assert_eq!(
            page,
            "# Page\n\n<!-- results of one -->\nfirst\n<!-- end of one -->\n\n<!-- results of two -->\nother\n<!-- end of two -->\n"
        );
        let again = replaced(&page, "one", |old| format!("{}\n\nmore", old.trim_end()));
        assert_eq!(again, page.replace("first\n", "first\n\nmore\n"));
    }
}
