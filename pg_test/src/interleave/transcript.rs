//! What a step gave, as text, and how two texts differ.

use tokio_postgres::SimpleQueryMessage;

use super::Reply;

/// Rows under their column names, a count for what changes rows, or SQLSTATE and message.
pub(super) fn outcome(sql: &str, reply: &Reply) -> String {
    let messages = match reply {
        Ok(messages) => messages,
        Err(error) => {
            return match error.as_db_error() {
                Some(db) => format!("{} {}: {}\n", db.severity(), db.code().code(), db.message()),
                None => format!("{error}\n"),
            };
        }
    };
    let mut text = String::new();
    let mut columns = false;
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(names) => {
                let names: Vec<&str> = names.iter().map(|column| column.name()).collect();
                text.push_str(&format!("{}\n", names.join(" | ")));
                columns = true;
            }
            SimpleQueryMessage::Row(row) => {
                let values: Vec<&str> = (0..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect();
                text.push_str(&format!("{}\n", values.join(" | ")));
            }
            SimpleQueryMessage::CommandComplete(count) => {
                text.push_str(&completed(sql, *count, columns));
                columns = false;
            }
            _ => {}
        }
    }
    text
}

fn completed(sql: &str, count: u64, columns: bool) -> String {
    let rows = if count == 1 { "1 row".to_string() } else { format!("{count} rows") };
    let first = sql.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    let counts = matches!(first.as_str(), "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "COPY");
    if columns {
        format!("({rows})\n")
    } else if counts || count > 0 {
        format!("{rows}\n")
    } else {
        "ok\n".to_string()
    }
}

/// The text without empty edges and without the indentation of its least indented line.
pub(super) fn unindented(text: &str) -> String {
    let lines: Vec<&str> = text.trim_matches('\n').lines().map(str::trim_end).collect();
    let indents = lines.iter().enumerate().filter(|(_, line)| !line.is_empty());
    // The first line often begins right after the quote.
    let indent = indents
        .filter(|(number, line)| *number > 0 || line.starts_with(' '))
        .map(|(_, line)| line.len() - line.trim_start().len())
        .min()
        .unwrap_or(0);
    let cut = |line: &&str| {
        let blank = line.len() - line.trim_start().len();
        line[blank.min(indent)..].to_string()
    };
    lines.iter().map(cut).collect::<Vec<_>>().join("\n").trim_end().to_string()
}

/// Both texts line by line, marked where they part.
pub(crate) fn differences(expected: &str, got: &str) -> String {
    let expected: Vec<&str> = expected.lines().collect();
    let got: Vec<&str> = got.lines().collect();
    let same_start = expected.iter().zip(&got).take_while(|(a, b)| a == b).count();
    let most = expected.len().min(got.len()) - same_start;
    let same_end = expected.iter().rev().zip(got.iter().rev()).take(most).take_while(|(a, b)| a == b).count();
    let mut text = String::new();
    let mut add = |mark: &str, lines: &[&str]| {
        for line in lines {
            text.push_str(&format!("{mark} {line}\n"));
        }
    };
    add(" ", &expected[..same_start]);
    add("-", &expected[same_start..expected.len() - same_end]);
    add("+", &got[same_start..got.len() - same_end]);
    add(" ", &expected[expected.len() - same_end..]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_indentation_is_cut() {
        assert_eq!(unindented("\n    a\n      b\n    c\n  "), "a\n  b\nc");
        assert_eq!(unindented("a\n    b\n      c"), "a\nb\n  c");
    }

    #[test]
    fn only_the_middle_differs() {
        assert_eq!(differences("a\nb\nc", "a\nx\ny\nc"), "  a\n- b\n+ x\n+ y\n  c\n");
        assert_eq!(differences("a\na", "a"), "  a\n- a\n");
    }
}
