//! The narrator: prints the story and keeps count of what was proved.
//!
//! Its promise: a line with a ✓ was checked a moment before. A check that does not hold prints ✗ with what was seen
//! instead and ends the demo with an error, so no later line can claim anything.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio_postgres::error::DbError;

use super::paint::{LINE, PROSE, Paint, cut, number, wrap};
use super::session::{Row, Session};

/// Statements and results stand behind the name of the role.
const INDENT: usize = 11;
const UUID: usize = 36;

pub struct Story {
    paint: Paint,
    began: Instant,
    scenes: usize,
    checks: usize,
    claims: Vec<String>,
    last: Cell<Last>,
}

/// What was printed last: it decides where an empty line helps the eye.
#[derive(Clone, Copy, PartialEq)]
enum Last {
    Nothing,
    Text,
    Check,
}

impl Story {
    pub fn begin() -> Self {
        Self {
            paint: Paint::for_stdout(),
            began: Instant::now(),
            scenes: 0,
            checks: 0,
            claims: Vec::new(),
            last: Cell::new(Last::Text),
        }
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
        self.part();
        println!();
        self.line(&format!("{} {} {}", self.paint.dim("──"), self.paint.bold(title), self.paint.dim(&rule)));
        self.part();
    }

    fn line(&self, text: &str) {
        println!("{text}");
        self.last.set(Last::Text);
    }

    /// An empty line, unless there is one already.
    fn part(&self) {
        if self.last.replace(Last::Nothing) != Last::Nothing {
            println!();
        }
    }

    /// The name of the play.
    pub fn title(&self, name: &str, rest: &str) {
        self.part();
        self.line(&format!("{}: {rest}", self.paint.bold(name)));
        self.part();
    }

    /// A paragraph.
    pub fn say(&self, text: &str) {
        self.part();
        for line in wrap(text, PROSE) {
            self.line(&line);
        }
        self.part();
    }

    /// A paragraph in small print.
    pub fn aside(&self, text: &str) {
        self.part();
        for line in wrap(text, PROSE - 4) {
            self.line(&format!("    {}", self.paint.dim(&line)));
        }
        self.part();
    }

    /// Shows a statement and then runs it: what is printed is what ran, shortened where it is long.
    pub async fn run(&self, session: &Session, sql: &str) -> Result<Vec<Row>> {
        self.statement(session.role(), sql);
        session.rows(sql).await
    }

    /// Shows and runs a statement that has to be refused with 42501; prints the whole error.
    pub async fn refused(&self, session: &Session, sql: &str) -> Result<DbError> {
        self.statement(session.role(), sql);
        let error = session.refused(sql).await.inspect_err(|_| self.missed("this has to be refused"))?;
        self.field("ERROR", error.message());
        self.field("SQLSTATE", error.code().code());
        self.field("DETAIL", error.detail().unwrap_or_default());
        self.field("HINT", error.hint().unwrap_or_default());
        self.part();
        Ok(error)
    }

    /// The same for an error that was printed before in full.
    pub async fn refused_again(&self, session: &Session, sql: &str) -> Result<DbError> {
        self.statement(session.role(), sql);
        let error = session.refused(sql).await.inspect_err(|_| self.missed("this has to be refused"))?;
        self.field("ERROR", error.message());
        self.part();
        Ok(error)
    }

    /// Only shows a statement; for those that run on many connections or many times.
    pub fn statement(&self, role: &str, sql: &str) {
        if self.last.get() == Last::Check {
            self.part();
        }
        let sql = shorten_uuids(sql);
        let lines: Vec<&str> = sql.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let role = if i == 0 { role } else { "" };
            let is_open_end = i + 1 == lines.len() && !line.ends_with(';') && !line.contains("--");
            let end = if is_open_end { ";" } else { "" };
            let text = cut(&format!("{line}{end}"), LINE - INDENT);
            self.line(&format!("{} {}", self.paint.dim(&format!("{role:>8} │")), self.paint.sql(&text)));
        }
    }

    /// A line of a result, which may be coloured.
    pub fn output(&self, line: &str) {
        self.line(&format!("{:INDENT$}{line}", ""));
    }

    /// A result that matters less, in full.
    pub fn faint(&self, text: &str) {
        for (i, line) in wrap(text, LINE - INDENT - 4).iter().enumerate() {
            let margin = if i == 0 { INDENT } else { INDENT + 4 };
            self.line(&format!("{:margin$}{}", "", self.paint.dim(line)));
        }
    }

    /// A field of an error.
    fn field(&self, name: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        for (i, line) in wrap(text, PROSE - 2 * INDENT).iter().enumerate() {
            let name = format!("{:<9}", if i == 0 { name } else { "" });
            let name = if name.starts_with("ERROR") { self.paint.bad(&name) } else { self.paint.dim(&name) };
            self.line(&format!("{:INDENT$}{name} {line}", ""));
        }
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
        self.output(&self.paint.dim(&headline));
        for row in rows {
            self.output(&line((0..headers.len()).map(|column| cell(row, column)).collect()));
        }
    }

    /// Something that has to be true for the story to go on.
    pub fn check(&mut self, holds: bool, claim: &str, otherwise: &str) -> Result<()> {
        if !holds {
            self.missed(claim);
            bail!("this did not happen: {claim}\n  {otherwise}");
        }
        self.checks += 1;
        self.proved(claim);
        Ok(())
    }

    /// The same for what the last page sums up.
    pub fn claim(&mut self, holds: bool, claim: &str, otherwise: &str) -> Result<()> {
        self.check(holds, claim, otherwise)?;
        self.claims.push(claim.to_string());
        Ok(())
    }

    fn missed(&self, claim: &str) {
        self.part();
        self.line(&format!("  {} {claim}", self.paint.bad("✗")));
        self.part();
    }

    fn proved(&self, claim: &str) {
        if self.last.get() != Last::Check {
            self.part();
        }
        for (i, line) in wrap(claim, PROSE).iter().enumerate() {
            let mark = if i == 0 { self.paint.good("✓") } else { " ".to_string() };
            self.line(&format!("  {mark} {line}"));
        }
        self.last.set(Last::Check);
    }

    /// The last page. `kept`: the server stays.
    pub fn end(&self, kept: bool) {
        self.heading("What you have just seen");
        for claim in &self.claims {
            self.proved(claim);
        }
        self.part();
        let seconds = self.began.elapsed().as_secs_f64();
        self.line(&self.paint.dim(&format!("  {} checks, and all of them held; {seconds:.1} s.", self.checks)));
        self.part();
        self.line(&self.paint.bold("How to go on"));
        self.part();
        let look = if kept {
            ("psql", "the server stays, and the next lines say how. Try SELECT * FROM bulkhead.status();")
        } else {
            ("KEEP=1 cargo run", "the same again, but the server stays, and you can look around in it with psql")
        };
        let ways = [
            look,
            ("README.md", "a tour in SQL, and how to install Bulkhead into a server of yours"),
            ("cargo test", "runs every test, on servers like this one"),
            ("cargo bench", "measures what it costs"),
        ];
        for (command, what) in ways {
            self.line(&format!("  {} {what}", self.paint.sql(&format!("{command:<17}"))));
        }
        self.part();
    }
}

/// Uuids in a statement, cut to what a person compares.
fn shorten_uuids(sql: &str) -> String {
    let quoted = sql.split('\'').enumerate().map(|(i, part)| {
        let is_uuid = part.len() == UUID && part.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
        let quote = if i == 0 { "" } else { "'" };
        if is_uuid { format!("{quote}{}", short_id(part)) } else { format!("{quote}{part}") }
    });
    quoted.collect()
}

/// The beginning of an id that is long.
pub fn short_id(id: &str) -> String {
    cut(id, 9)
}

/// In milliseconds.
pub fn duration(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// `1 row`, `2,000 rows`.
pub fn count(value: u64, one: &str) -> String {
    format!("{} {one}{}", number(value), if value == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_quoted_uuids_are_shortened() {
        let sql = "WHERE a = '0cc35a9b-f980-756a-ba69-1d1dfcee4e27' OR b = 'all_county' -- it's";
        assert_eq!(shorten_uuids(sql), "WHERE a = '0cc35a9b…' OR b = 'all_county' -- it's");
    }
}
