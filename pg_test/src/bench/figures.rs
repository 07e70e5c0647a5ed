//! Figures on the pages are those of docs/benchmarks.md: a part of a page is made from a template in it, in which `{room | what | rival | form}` names a row.
//!
//! ```text
//! <!-- figures
//! Batches of 50 are {inventory | one item, batches of 50 | FOR UPDATE | times} times as fast.
//! -->
//! Batches of 50 are 106 times as fast.
//! <!-- end of figures -->
//! ```
//!
//! `cargo run --bin checks` compares, `BLESS=1 cargo bench` writes. A `*` in the name of what was measured stands for anything: several rows, of which the form
//! `range` has the least and the greatest result. `{room | note | beginning}` is what a sentence under the table says after that beginning.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::page::PAGE;

const BEGIN: &str = "<!-- figures\n";
const MIDDLE: &str = "\n-->\n";
const END: &str = "<!-- end of figures -->";

/// A table's rows, and the sentences above it.
#[derive(Debug, Default)]
struct Report {
    rows: Vec<Row>,
    /// Each with the room's name.
    notes: Vec<(String, String)>,
}

/// A row of a benchmark's table; texts as they are shown.
#[derive(Debug)]
struct Row {
    room: String,
    what: String,
    rival: String,
    ours: String,
    theirs: String,
    /// The median and its interval, without the unit.
    result: Vec<f64>,
}

/// Pages whose figures are not those of the report, or cannot be found in it.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let report = Report::of(&read(root, Path::new(PAGE))?);
    let mut faults = Vec::new();
    for page in pages(root)? {
        let text = read(root, &page)?;
        let shown = page.display();
        match rendered(&text, &report) {
            Err(error) => faults.push(format!("{shown}: {error:#}")),
            Ok(new) if new != text => {
                faults.push(format!(
                    "{shown}: figures that are not those of {PAGE}; FIGURES=1 cargo run --bin checks writes them"
                ));
            }
            Ok(_) => {}
        }
        faults.extend(
            loose(&text)
                .into_iter()
                .map(|line| format!("{shown}:{line}: a figure of its own; see pg_test/src/bench/figures.rs")),
        );
    }
    Ok(faults)
}

/// Writes the report's figures into the pages. A page that names a row which is not there (yet) is left as it is.
pub fn write(root: &Path) -> Result<()> {
    let report = Report::of(&read(root, Path::new(PAGE))?);
    for page in pages(root)? {
        let text = read(root, &page)?;
        match rendered(&text, &report) {
            Ok(new) if new != text => {
                std::fs::write(root.join(&page), new).with_context(|| format!("writing {}", page.display()))?;
                println!("written: {}", page.display());
            }
            Ok(_) => {}
            Err(error) => eprintln!("{}: {error:#}", page.display()),
        }
    }
    Ok(())
}

fn read(root: &Path, page: &Path) -> Result<String> {
    std::fs::read_to_string(root.join(page)).with_context(|| format!("reading {}", page.display()))
}

fn pages(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::from("README.md")];
    for entry in std::fs::read_dir(root.join("docs")).context("reading docs")? {
        let path = Path::new("docs").join(entry?.file_name());
        if path.extension().is_some_and(|extension| extension == "md") && path != Path::new(PAGE) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

impl Report {
    fn of(page: &str) -> Report {
        let mut report = Report::default();
        let mut room = String::new();
        for line in page.lines() {
            if let Some(name) = line.strip_prefix("<!-- results of ").and_then(|rest| rest.strip_suffix(" -->")) {
                name.clone_into(&mut room);
            }
            if let Some((_, notes)) = line.split_once(" The rivals' code: ") {
                let sentences = notes.trim_end_matches('.').split(". ");
                report.notes.extend(sentences.map(|sentence| (room.clone(), sentence.to_owned())));
            }
            report.rows.extend(row(line, &room, report.rows.last()));
        }
        report
    }
}

fn row(line: &str, room: &str, above: Option<&Row>) -> Option<Row> {
    let inner = line.strip_prefix('|')?.strip_suffix('|')?;
    let escaped = inner.replace("\\|", "\u{1}");
    let cells: Vec<String> = escaped.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect();
    let [what, ours, rival, theirs, result, ..] = &cells[..] else { return None };
    // Lines about the same thing name it once.
    let what = match above {
        Some(above) if what.is_empty() && above.room == room => above.what.clone(),
        _ => what.clone(),
    };
    let is_digit = |c: char| c.is_ascii_digit() || c == '.' || c == '-';
    let result = result.split(|c: char| !is_digit(c)).filter_map(|word| word.parse().ok()).collect();
    Some(Row { room: room.into(), what, rival: rival.clone(), ours: ours.clone(), theirs: theirs.clone(), result })
}

/// The page with every template's part made anew.
fn rendered(page: &str, report: &Report) -> Result<String> {
    let mut made = String::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (template, after) = after.split_once(MIDDLE).with_context(|| format!("{BEGIN} has no -->"))?;
        let (_, after) = after.split_once(END).with_context(|| format!("{BEGIN} has no {END}"))?;
        made += &format!("{before}{BEGIN}{template}{MIDDLE}{}\n{END}", filled(template, report)?);
        rest = after;
    }
    Ok(made + rest)
}

fn filled(template: &str, report: &Report) -> Result<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (place, after) = after.split_once('}').with_context(|| format!("{{{after}: no }}"))?;
        text += before;
        text += &figure(place, report)?;
        rest = after;
    }
    Ok(text + rest)
}

fn figure(place: &str, report: &Report) -> Result<String> {
    let parts: Vec<&str> = place.split('|').map(str::trim).collect();
    if let [room, "note", beginning] = parts[..] {
        let said = report.notes.iter().filter(|(of, _)| of == room).find_map(|(_, note)| note.strip_prefix(beginning));
        return said.map(|said| said.trim().to_owned()).with_context(|| format!("{PAGE} has no note {{{place}}}"));
    }
    let [room, what, rival, form] = parts[..] else { bail!("{{{place}}} is not {{room | what | rival | form}}") };
    let is_it = |row: &&Row| row.room == room && row.rival == rival && is_like(&row.what, what);
    let found: Vec<&Row> = report.rows.iter().filter(is_it).collect();
    let row = *found.first().with_context(|| format!("{PAGE} has no row {{{place}}}"))?;
    let result =
        |at: usize| row.result.get(at).copied().with_context(|| format!("{{{place}}}: the row has no such number"));
    Ok(match form {
        "ours" => row.ours.clone(),
        "rival" => row.theirs.clone(),
        "times" => short(result(0)?),
        "interval" => format!("{} ({} to {})", short(result(0)?), short(result(1)?), short(result(2)?)),
        "range" => {
            let medians = || found.iter().filter_map(|row| row.result.first().copied());
            let (least, most) = (medians().fold(f64::MAX, f64::min), medians().fold(f64::MIN, f64::max));
            format!("{} to {}", short(least), short(most))
        }
        _ => bail!("{{{place}}}: a form is ours, rival, times, interval or range"),
    })
}

fn is_like(text: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        Some((begin, end)) => text.strip_prefix(begin).is_some_and(|rest| rest.ends_with(end)),
        None => text == pattern,
    }
}

/// Two digits, three from 10 on: more a measurement does not know.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Lines outside of such parts, and of examples, that look like a figure which was measured.
fn loose(page: &str) -> Vec<usize> {
    const UNITS: [&str; 6] = [" orders a second", " µs", " rows a second", " tps", " times as fast", " times as many"];
    let (mut inside, mut example) = (false, false);
    let mut found = Vec::new();
    for (at, line) in page.lines().enumerate() {
        if line.starts_with("```") {
            example = !example;
        }
        if line == BEGIN.trim_end() {
            inside = true;
        }
        let is_figure = |unit: &str| {
            line.match_indices(unit).any(|(at, _)| line[..at].ends_with(|before: char| before.is_ascii_digit()))
        };
        if !inside && !example && UNITS.iter().any(|unit| is_figure(unit)) {
            found.push(at + 1);
        }
        if line == END {
            inside = false;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "<!-- results of one -->\n2026: a server. The rivals' code: [x](y). Some rows. A queue of 5: 3.5 MB at most.\n| | ours | against | | result (95 % interval) | target | |\n|---|---|---|---|---|---|---|\n\
        | a scan | 12.5 ms | a \\| b | 50.0 ms | 0.250 × (0.200 to 0.300) | at most 1 | met |\n|  | 12.5 ms | other | 6.0 ms | 2.083 × (2.000 to 115.5) | none |  |\n<!-- end of one -->\n";

    #[test]
    fn a_part_is_made_of_the_rows_it_names() {
        let page = "# Page\n<!-- figures\n{one | a scan | other | interval} times, {one | a scan | other | ours} and not {one | a scan | other | rival}.\n-->\nold\n<!-- end of figures -->\nrest\n";
        let made = rendered(page, &Report::of(REPORT)).unwrap();
        assert!(
            made.ends_with("-->\n2.1 (2.0 to 116) times, 12.5 ms and not 6.0 ms.\n<!-- end of figures -->\nrest\n"),
            "{made}"
        );
        assert_eq!(rendered(&made, &Report::of(REPORT)).unwrap(), made);
        let wrong = made.replace("| interval}", "| mean}");
        assert!(rendered(&wrong, &Report::of(REPORT)).is_err());
        let gone = made.replace("{one | a scan", "{one | another scan");
        assert!(rendered(&gone, &Report::of(REPORT)).is_err());
    }

    #[test]
    fn a_note_and_a_range() {
        let report = Report::of(REPORT);
        assert_eq!(filled("{one | note | A queue of 5: }!", &report).unwrap(), "3.5 MB at most!");
        assert_eq!(filled("{one | a * | other | range}", &report).unwrap(), "2.1 to 2.1");
        assert!(filled("{two | note | A queue of 5: }", &report).is_err());
    }

    #[test]
    fn a_figure_of_its_own_is_found() {
        let page = "Takes 3 µs.\n```\n3 µs\n```\n<!-- figures\n3 µs\n-->\n3 µs\n<!-- end of figures -->\nMany µs, 3 times as fast\n";
        assert_eq!(loose(page), [1, 10]);
    }
}
