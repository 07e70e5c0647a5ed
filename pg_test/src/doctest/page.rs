//! Finds in a Markdown page what is to be run, and writes outputs back into it.

use anyhow::{Result, bail};

/// SQL to be run, shown or hidden.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub sql: String,
    /// The line of its opening fence, from 1.
    pub line: usize,
    pub expected: Option<Expected>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub text: String,
    /// Its lines in the page, without the fences, from 0.
    lines: std::ops::Range<usize>,
}

pub(super) fn parse(page: &str) -> Result<Vec<Block>> {
    let lines: Vec<&str> = page.lines().collect();
    let mut blocks: Vec<Block> = Vec::new();
    // Set while only blank lines have followed a block that was run.
    let mut directly_after = false;
    let mut number = 0;
    while number < lines.len() {
        let line = lines[number].trim();
        let info = line.strip_prefix("```").map(str::trim);
        let hidden = line.strip_prefix("<!--").is_some_and(|rest| rest.trim() == "setup");
        if info.is_none() && !hidden {
            directly_after &= line.is_empty();
            number += 1;
            continue;
        }
        let close = if hidden { "-->" } else { "```" };
        let start = number + 1;
        let Some(length) = lines[start..].iter().position(|line| line.trim() == close) else {
            bail!("line {}: no {close} closes this block", number + 1);
        };
        let body = &lines[start..start + length];
        match info {
            _ if hidden => blocks.push(block(body, number + 1)?),
            Some("sql") => blocks.push(block(body, number + 1)?),
            Some("text") if directly_after => {
                if let Some(block) = blocks.last_mut() {
                    let lines = start..start + length;
                    block.expected = Some(Expected { text: trimmed(body), lines });
                }
            }
            _ => {}
        }
        directly_after = info == Some("sql");
        number = start + length + 1;
    }
    Ok(blocks)
}

fn block(body: &[&str], line: usize) -> Result<Block> {
    let sql = body.join("\n");
    if !is_finished(&sql) {
        bail!("line {line}: the last statement of this block does not end with a semicolon");
    }
    Ok(Block { sql, line, expected: None })
}

/// Whether psql has run all of it when the next line comes.
fn is_finished(sql: &str) -> bool {
    let code = |line: &&str| !line.is_empty() && !line.starts_with("--");
    match sql.lines().map(str::trim).rfind(code) {
        Some(last) => {
            let last = last.split(" --").next().unwrap_or(last).trim_end();
            last.ends_with(';') || last.contains('\\')
        }
        None => true,
    }
}

/// Without blanks at the ends of lines and without empty lines around.
pub(super) fn trimmed(lines: &[&str]) -> String {
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    let text = lines.join("\n");
    text.trim_matches('\n').to_string()
}

/// The page with the expected texts replaced by what was printed.
pub(super) fn with_outputs(page: &str, blocks: &[Block], outputs: &[String]) -> String {
    let mut lines: Vec<&str> = page.lines().collect();
    for (block, output) in blocks.iter().zip(outputs).rev() {
        if let Some(expected) = &block.expected {
            lines.splice(expected.lines.clone(), output.lines());
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# Page

<!-- setup
CREATE TABLE t (a int);
-->

```sql
SELECT 1; -- one
```

```text
 old
```

```sql no-run
DROP TABLE t;
```

```text
not compared
```

```sql
SELECT 2;
```

Prose.

```text
not compared either
```
";

    #[test]
    fn a_text_block_belongs_to_the_sql_right_before_it() {
        let blocks = parse(PAGE).unwrap();
        let shown: Vec<(usize, &str, Option<&str>)> =
            blocks.iter().map(|b| (b.line, b.sql.as_str(), b.expected.as_ref().map(|e| e.text.as_str()))).collect();
        assert_eq!(
            shown,
            [(3, "CREATE TABLE t (a int);", None), (7, "SELECT 1; -- one", Some(" old")), (23, "SELECT 2;", None),]
        );
    }

    #[test]
    fn blessing_replaces_only_the_text() {
        let blocks = parse(PAGE).unwrap();
        let outputs = ["", " new\n(1 row)", "2"].map(String::from);
        let page = with_outputs(PAGE, &blocks, &outputs);
        assert_eq!(page, PAGE.replace(" old\n", " new\n(1 row)\n"));
    }

    #[test]
    fn an_unfinished_statement_would_run_into_the_next_block() {
        assert!(parse("```sql\nSELECT 1\n```\n").is_err());
        assert!(parse("```sql\nSELECT 1;\n").is_err());
        assert!(is_finished("SELECT 1 \\gexec"));
        assert!(is_finished("\\connect - app\n-- comment"));
        assert!(!is_finished("SELECT 1; SELECT 2 -- not yet;"));
    }
}
