//! The narrator: prints the story and keeps count of what was proved.
//!
//! Its promise: a line with a ✓ was checked a moment before. A check that does not hold prints ✗ with what was seen
//! instead and ends the demo with an error, so no later line can claim anything.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio_postgres::error::DbError;

use super::paint::{LINE, PROSE, Paint, cut, number, wrap};
use super::session::{Row, Session};

/// Of a long statement these many lines are shown.
const SQL_LINES: usize = 12;

pub struct Story {
    paint: Paint,
    began: Instant,
    scenes: usize,
    checks: usize,
    claims: Vec<String>,
}

impl Story {
    pub fn begin() -> Self {
        Self { paint: Paint::for_stdout(), began: Instant::now(), scenes: 0, checks: 0, claims: Vec::new() }
    }

    pub fn paint(&self) -> Paint {
        self.paint
    }

    /// A new chapter.
    pub fn scene(&mut self, title: &str) {
        self.scenes += 1;
        let scene = self.scenes;
        self.heading(&format!("{scene}  {title}"));
    }

    fn heading(&self, title: &str) {
        let rule = "─".repeat(PROSE.saturating_sub(title.chars().count() + 4));
        println!("\n\n{} {} {}\n", self.paint.dim("──"), self.paint.bold(title), self.paint.dim(&rule));
    }

    /// A paragraph.
    pub fn say(&self, text: &str) {
        for line in wrap(text, PROSE) {
            println!("{line}");
        }
        println!();
    }

    /// A paragraph in small print.
    pub fn aside(&self, text: &str) {
        for line in wrap(text, PROSE - 2) {
            println!("  {}", self.paint.dim(&line));
        }
        println!();
    }

    /// Shows a statement and then runs it: what is printed is what ran, shortened where it is long.
    pub async fn run(&self, session: &Session, sql: &str) -> Result<Vec<Row>> {
        self.statement(session.role(), sql);
        session.rows(sql).await
    }

    /// Shows and runs a statement that has to be refused with 42501; prints the error.
    pub async fn refused(&self, session: &Session, sql: &str) -> Result<DbError> {
        self.statement(session.role(), sql);
        let error = session.refused(sql).await?;
        self.error(&error);
        Ok(error)
    }

    /// Only shows a statement; for those that run on many connections or many times.
    pub fn statement(&self, role: &str, sql: &str) {
        let lines: Vec<&str> = sql.lines().collect();
        for (i, line) in lines.iter().take(SQL_LINES).enumerate() {
            let role = if i == 0 { role } else { "" };
            println!("{} {}", self.paint.dim(&format!("{role:>7} │")), self.paint.sql(&cut(line, LINE - 10)));
        }
        if lines.len() > SQL_LINES {
            println!("{}", self.paint.dim(&format!("        │ … {} more lines", lines.len() - SQL_LINES)));
        }
    }

    /// A line of a result.
    pub fn output(&self, line: &str) {
        println!("          {}", cut(line, LINE - 10));
    }

    /// A line of a result that matters less.
    pub fn faint(&self, line: &str) {
        println!("          {}", self.paint.dim(&cut(line, LINE - 10)));
    }

    pub fn gap(&self) {
        println!();
    }

    fn error(&self, error: &DbError) {
        let fields = [
            ("ERROR", Some(error.message())),
            ("SQLSTATE", Some(error.code().code())),
            ("DETAIL", error.detail()),
            ("HINT", error.hint()),
        ];
        for (name, text) in fields {
            for (i, line) in wrap(text.unwrap_or_default(), PROSE - 20).iter().enumerate() {
                if line.is_empty() {
                    continue;
                }
                let name = if i == 0 { name } else { "" };
                let name = if name == "ERROR" {
                    self.paint.bad(&format!("{name:<9}"))
                } else {
                    self.paint.dim(&format!("{name:<9}"))
                };
                println!("          {name} {line}");
            }
        }
        println!();
    }

    /// A small table. Columns of numbers stand to the right.
    pub fn table(&self, headers: &[&str], rows: &[Vec<String>]) {
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let is_number = |text: &str| text.chars().next().is_some_and(|c| c.is_ascii_digit()) && !text.contains(' ');
        let mut widths = Vec::new();
        let mut right = Vec::new();
        for (column, header) in headers.iter().enumerate() {
            let widest = rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0);
            widths.push(widest.max(header.chars().count()));
            right.push(!rows.is_empty() && rows.iter().all(|row| is_number(&cell(row, column))));
        }
        let line = |cells: Vec<String>| {
            let padded = cells.iter().zip(&widths).zip(&right).map(|((text, width), right)| {
                if *right { format!("{text:>width$}") } else { format!("{text:<width$}") }
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_string()
        };
        let headline = line(headers.iter().map(ToString::to_string).collect());
        self.faint(&headline);
        for row in rows {
            self.output(&line((0..headers.len()).map(|column| cell(row, column)).collect()));
        }
    }

    /// Something that has to be true for the story to go on.
    pub fn check(&mut self, holds: bool, claim: &str, otherwise: &str) -> Result<()> {
        if !holds {
            println!("  {} {claim}", self.paint.bad("✗"));
            bail!("this did not happen: {claim}\n  {otherwise}");
        }
        self.checks += 1;
        let lines = wrap(claim, PROSE);
        for (i, line) in lines.iter().enumerate() {
            println!("  {} {line}", if i == 0 { self.paint.good("✓") } else { " ".to_string() });
        }
        Ok(())
    }

    /// The same for what the last page sums up.
    pub fn claim(&mut self, holds: bool, claim: &str, otherwise: &str) -> Result<()> {
        self.check(holds, claim, otherwise)?;
        self.claims.push(claim.to_string());
        Ok(())
    }

    /// The last page.
    pub fn end(&self, kept: bool) {
        self.heading("What you have just seen");
        for claim in &self.claims {
            for (i, line) in wrap(claim, PROSE).iter().enumerate() {
                println!("  {} {line}", if i == 0 { self.paint.good("✓") } else { " ".to_string() });
            }
        }
        let seconds = self.began.elapsed().as_secs_f64();
        println!("\n  {}\n", self.paint.dim(&format!("{} checks, all held, in {seconds:.1} s.", self.checks)));
        println!("{}\n", self.paint.bold("How to go on"));
        let keep = if kept {
            ("psql", "this server stays: the command is below. Try \\d orders, SELECT * FROM bulkhead.status();")
        } else {
            ("KEEP=1 cargo run", "the same, and the server stays; prints how to look around in it with psql")
        };
        let ways = [
            ("README.md", "a tour in SQL, and how to install Bulkhead into your own server"),
            keep,
            ("cargo test", "proves much more than this page"),
            ("cargo bench", "measures the cost properly"),
        ];
        for (command, what) in ways {
            println!("  {} {what}", self.paint.sql(&format!("{command:<17}")));
        }
        println!();
    }
}

/// `12.3 ms` or `1.2 s`.
pub fn duration(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 1000.0 { format!("{ms:.1} ms") } else { format!("{:.1} s", ms / 1000.0) }
}

/// `1 row`, `2,000 rows`.
pub fn count(value: u64, one: &str) -> String {
    format!("{} {one}{}", number(value), if value == 1 { "" } else { "s" })
}
