//! The table to read, and the JSON.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::page;
use super::server::Conditions;
use super::stats::Estimate;

/// What a result is asked to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Target::AtMost(limit) => value <= limit,
            Target::AtLeast(limit) => value >= limit,
        }
    }

    /// For example `at most 1.15`.
    pub fn words(self) -> String {
        match self {
            Target::AtMost(limit) => format!("at most {limit}"),
            Target::AtLeast(limit) => format!("at least {limit}"),
        }
    }
}

/// A value and its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure(pub f64, pub &'static str);

impl std::fmt::Display for Figure {
    /// Three digits say what a measurement can know.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Figure(value, unit) = *self;
        let text = match value.abs() {
            size if size >= 1000.0 => grouped(value),
            size if size >= 100.0 => format!("{value:.0}"),
            size if size >= 10.0 => format!("{value:.1}"),
            _ => format!("{value:.2}"),
        };
        write!(out, "{text} {unit}")
    }
}

/// A whole number with a comma between the thousands.
pub fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One comparison: ours against one rival.
#[derive(Debug, Clone)]
pub struct Line {
    /// What was measured; lines with the same text stand together.
    pub what: String,
    pub ours: Figure,
    pub rival: String,
    pub rival_figure: Figure,
    /// One for each round: ours by the rival's, or what `unit` says.
    pub results: Vec<f64>,
    pub unit: &'static str,
    pub target: Option<Target>,
}

impl Line {
    /// The unit of a ratio.
    pub const TIMES: &'static str = "×";

    pub fn estimate(&self) -> Estimate {
        Estimate::of(&self.results)
    }

    fn cells(&self, met: Option<bool>) -> [String; 6] {
        let Estimate { median, low, high } = self.estimate();
        let interval = if self.results.len() > 1 { format!(" ({low:.3} to {high:.3})") } else { String::new() };
        [
            self.ours.to_string(),
            self.rival.clone(),
            self.rival_figure.to_string(),
            format!("{median:.3} {}{interval}", self.unit),
            self.target.map_or("none".to_string(), Target::words),
            met.map_or("", |met| if met { "met" } else { "MISSED" }).to_string(),
        ]
    }

    fn json(&self, met: Option<bool>) -> Value {
        let Estimate { median, low, high } = self.estimate();
        let figure = |Figure(value, unit): Figure| json!({ "value": value, "unit": unit });
        let target = self.target.map(|target| match target {
            Target::AtMost(limit) => json!({ "at_most": limit }),
            Target::AtLeast(limit) => json!({ "at_least": limit }),
        });
        json!({
            "what": self.what,
            "ours": figure(self.ours),
            "rival": { "name": self.rival, "value": self.rival_figure.0, "unit": self.rival_figure.1 },
            "result": { "median": median, "low": low, "high": high, "unit": self.unit, "rounds": self.results },
            "target": target,
            "met": met,
        })
    }
}

/// The results of one feature.
#[derive(Debug, Clone)]
pub struct Report {
    pub feature: &'static str,
    pub title: &'static str,
    pub conditions: Conditions,
    pub lines: Vec<Line>,
    /// Plain sentences that belong to the figures.
    pub notes: Vec<String>,
}

fn say_where(path: &Path) {
    let shown: PathBuf = path.strip_prefix(crate::root()).unwrap_or(path).to_path_buf();
    println!("written: {}", shown.display());
}

const HEADINGS: [&str; 6] = ["ours", "against", "", "result (95 % interval)", "target", ""];

impl Report {
    pub fn new(feature: &'static str, title: &'static str, conditions: Conditions) -> Report {
        Report { feature, title, conditions, lines: Vec::new(), notes: Vec::new() }
    }

    /// Prints the table and writes the JSON into the directory.
    pub fn publish(&self, directory: &Path) -> Result<()> {
        println!("\n{}", self.table());
        let path = directory.join(format!("{}.json", self.feature));
        let text = serde_json::to_string_pretty(&self.json())?;
        std::fs::write(&path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
        say_where(&path);
        if page::is_asked_for(self) {
            page::write(self)?;
        }
        Ok(())
    }

    /// Tells where a chart lies that was drawn after publish().
    pub fn publish_chart(&self, path: &Path) -> Result<()> {
        say_where(path);
        if page::is_asked_for(self) {
            page::add_chart(self, path)?;
        }
        Ok(())
    }

    fn table(&self) -> String {
        let rows: Vec<[String; 6]> = self.lines.iter().map(|line| self.cells(line)).collect();
        let mut widths = HEADINGS.map(|heading| heading.chars().count());
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let join = |cells: &[String; 6]| {
            let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            format!("  {}", padded.join("   ")).trim_end().to_string()
        };
        let mut text = format!("{}: {}\n{}", self.feature, self.title, self.conditions.describe());
        writeln!(text, "\n{}", join(&HEADINGS.map(str::to_string))).ok();
        let mut above = "";
        for (line, row) in self.lines.iter().zip(&rows) {
            if line.what != above {
                writeln!(text, "{}", line.what).ok();
                above = &line.what;
            }
            writeln!(text, "{}", join(row)).ok();
        }
        text.push('\n');
        for note in &self.notes {
            writeln!(text, "{note}").ok();
        }
        text + &self.verdict()
    }

    /// What a row of a table says of a line.
    pub(super) fn cells(&self, line: &Line) -> [String; 6] {
        line.cells(self.is_met(line))
    }

    /// A quick run is not judged.
    fn is_met(&self, line: &Line) -> Option<bool> {
        let target = line.target.filter(|_| !self.conditions.quick)?;
        Some(target.is_met(line.estimate().median))
    }

    fn verdict(&self) -> String {
        if self.conditions.quick {
            return "A quick run is not judged by the targets.".to_string();
        }
        let judged: Vec<(&Line, bool)> =
            self.lines.iter().filter_map(|line| self.is_met(line).map(|met| (line, met))).collect();
        let missed: Vec<&Line> = judged.iter().filter(|(_, met)| !met).map(|(line, _)| *line).collect();
        if missed.is_empty() {
            return format!("All {} targets are met.", judged.len());
        }
        let mut text = format!("MISSED: {} of {} targets.", missed.len(), judged.len());
        for line in missed {
            let target = line.target.map_or(String::new(), Target::words);
            let median = line.estimate().median;
            write!(text, "\n  {}, against {}: {median:.3} {}, not {target}", line.what, line.rival, line.unit).ok();
        }
        text
    }

    fn json(&self) -> Value {
        let Conditions { server, processor, cores, busy, settings, quick } = &self.conditions;
        json!({
            "feature": self.feature,
            "title": self.title,
            "quick": quick,
            "server": server,
            "processor": processor,
            "cores": cores,
            "busy_before": busy,
            "settings": settings,
            "lines": self.lines.iter().map(|line| line.json(self.is_met(line))).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_digits_that_were_measured() {
        let shown = [0.1234, 12.345, 123.45, 12345.6, -1234567.0].map(|value| Figure(value, "ms").to_string());
        assert_eq!(shown, ["0.12 ms", "12.3 ms", "123 ms", "12,346 ms", "-1,234,567 ms"]);
    }

    #[test]
    fn a_missed_target_is_said_twice() {
        let conditions = Conditions {
            server: "PostgreSQL".into(),
            processor: "any".into(),
            cores: 2,
            busy: 0.0,
            settings: "fsync = on".into(),
            quick: false,
        };
        let mut report = Report::new("rls", "a title", conditions);
        report.lines.push(Line {
            what: "a scan".into(),
            ours: Figure(12.0, "ms"),
            rival: "a literal".into(),
            rival_figure: Figure(10.0, "ms"),
            results: vec![1.2; 9],
            unit: Line::TIMES,
            target: Some(Target::AtMost(1.15)),
        });
        let table = report.table();
        assert!(table.contains("12.0 ms   a literal   10.0 ms   1.200 × (1.200 to 1.200)   at most 1.15   MISSED"));
        assert!(table.ends_with("MISSED: 1 of 1 targets.\n  a scan, against a literal: 1.200 ×, not at most 1.15"));
        report.conditions.quick = true;
        assert!(!report.table().contains("MISSED"));
    }
}
