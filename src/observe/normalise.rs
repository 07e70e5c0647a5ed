//! A statement's text without its constants: what makes two runs of it the same statement. Pure Rust.

/// A statement on one line, each constant as `$?`, comments left out, about `limit` bytes. `backslashes`: they escape in every string
/// (standard_conforming_strings is off).
pub fn raw(statement: &str, backslashes: bool, limit: usize) -> String {
    let mut shown = String::with_capacity(statement.len().min(limit) + 64);
    scan(statement, backslashes, limit, &mut shown);
    shown
}

/// The normal form: at most `limit` bytes, and nothing at the end that does not matter.
pub fn finish(mut raw: String, limit: usize) -> String {
    let end = (0..=raw.len().min(limit)).rev().find(|at| raw.is_char_boundary(*at)).unwrap_or(0);
    raw.truncate(end);
    raw.truncate(raw.trim_end().trim_end_matches(';').trim_end().len());
    raw
}

/// Whether `raw` is this statement's, without making it.
#[inline(always)]
pub fn is_same(statement: &str, backslashes: bool, limit: usize, raw: &str) -> bool {
    let mut expected = Expected { raw, at: 0 };
    scan(statement, backslashes, limit, &mut expected) && expected.at == raw.len()
}

/// Where the normal form goes.
trait Shown {
    /// False: no need to go on.
    fn push(&mut self, text: &str) -> bool;
    fn so_far(&self) -> &str;
}

impl Shown for String {
    fn push(&mut self, text: &str) -> bool {
        self.push_str(text);
        true
    }

    fn so_far(&self) -> &str {
        self
    }
}

/// A normal form that is known already, as far as the statement has it, too.
struct Expected<'a> {
    raw: &'a str,
    at: usize,
}

impl Shown for Expected<'_> {
    fn push(&mut self, text: &str) -> bool {
        let fits = self.raw.as_bytes()[self.at..].starts_with(text.as_bytes());
        self.at += if fits { text.len() } else { 0 };
        fits
    }

    fn so_far(&self) -> &str {
        &self.raw[..self.at]
    }
}

fn scan(statement: &str, backslashes: bool, limit: usize, shown: &mut impl Shown) -> bool {
    let mut rest = statement;
    while let Some(first) = rest.bytes().next() {
        if shown.so_far().len() >= limit {
            break;
        }
        let mut fits = true;
        let taken = if is_in_word(first) && !first.is_ascii_digit() && first != b'$' {
            let length = word(rest);
            fits = shown.push(&rest[..length]);
            length
        } else if first.is_ascii_whitespace() || rest.starts_with("--") || rest.starts_with("/*") {
            if !shown.so_far().is_empty() && !shown.so_far().ends_with(' ') {
                fits = shown.push(" ");
            }
            blank(rest)
        } else if first == b'\'' {
            // E'…', B'…', N'…': the letter was taken for a word. LIKE'…' has no such letter.
            let escapes = backslashes || ends_with_lone_e(shown.so_far());
            fits = shown.push("$?");
            string(rest, escapes)
        } else if let Some(length) = parameter(rest) {
            fits = shown.push(&rest[..length]);
            length
        } else if let Some(length) = dollar(rest) {
            fits = shown.push("$?");
            length
        } else if first.is_ascii_digit() {
            fits = shown.push("$?");
            number(rest)
        } else if first == b'"' {
            let length = quoted(rest, '"');
            fits = shown.push(&rest[..length]);
            length
        } else {
            fits = shown.push(&rest[..1]);
            1
        };
        if !fits {
            return false;
        }
        rest = &rest[taken..];
    }
    true
}

/// As the server's own scanner has it: what is not ASCII belongs to a word.
fn is_in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || !byte.is_ascii()
}

fn word(rest: &str) -> usize {
    rest.bytes().position(|byte| !is_in_word(byte)).unwrap_or(rest.len())
}

/// `$1` and its like.
fn parameter(rest: &str) -> Option<usize> {
    let number = rest.strip_prefix('$')?;
    let digits = number.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(number.len());
    (digits > 0).then_some(digits + 1)
}

fn ends_with_lone_e(shown: &str) -> bool {
    let before = shown.strip_suffix(['e', 'E']);
    before.is_some_and(|before| !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$'))
}

fn blank(rest: &str) -> usize {
    if rest.starts_with("--") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return comment(rest);
    }
    rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len())
}

/// Comments nest.
fn comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut at, mut depth) = (0, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

fn string(rest: &str, escapes: bool) -> usize {
    if !escapes {
        return quoted(rest, '\'');
    }
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => drop(characters.next()),
            '\'' if characters.peek().is_some_and(|(_, next)| *next == '\'') => drop(characters.next()),
            '\'' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Length of what begins with a quote; a doubled one stands for itself.
fn quoted(rest: &str, quote: char) -> usize {
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        if c != quote {
            continue;
        }
        if characters.peek().is_some_and(|(_, next)| *next == quote) {
            characters.next();
        } else {
            return at + 1;
        }
    }
    rest.len()
}

/// Length of a dollar-quoted string, if this is one; `$1` is a parameter.
fn dollar(rest: &str) -> Option<usize> {
    let tag_end = rest.strip_prefix('$')?.find('$')? + 2;
    let tag = &rest[..tag_end];
    let name = &tag[1..tag_end - 1];
    if name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let body = &rest[tag_end..];
    Some(body.find(tag).map_or(rest.len(), |end| tag_end + end + tag.len()))
}

fn number(rest: &str) -> usize {
    let mut end = 0;
    let mut previous = ' ';
    for (at, c) in rest.char_indices() {
        let sign = (c == '+' || c == '-') && (previous == 'e' || previous == 'E');
        if !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || sign) {
            break;
        }
        previous = c;
        end = at + c.len_utf8();
    }
    end
}

#[cfg(test)]
mod tests {
    use super::{finish, is_same, raw};

    fn normalise(statement: &str, backslashes: bool, limit: usize) -> String {
        finish(raw(statement, backslashes, limit), limit)
    }

    fn shown(statement: &str) -> String {
        normalise(statement, false, 500)
    }

    #[test]
    fn constants_go() {
        assert_eq!(shown("SELECT * FROM t WHERE id = 42 AND v = 'it''s'"), "SELECT * FROM t WHERE id = $? AND v = $?");
        assert_eq!(shown(r"SELECT E'a\'b', 1.5e-3, $$x'y$$, $a$ $$ $a$"), "SELECT E$?, $?, $?, $?");
        assert_eq!(shown("VALUES (-7, .5, 0x1F, 1_000)"), "VALUES (-$?, .$?, $?, $?)");
    }

    #[test]
    fn a_backslash_escapes_only_where_it_does_for_the_server() {
        assert_eq!(shown(r"SELECT a LIKE'b\' OR c = 'secret'"), "SELECT a LIKE$? OR c = $?");
        assert_eq!(shown(r"SELECT (E'it\'s secret')"), "SELECT (E$?)");
        assert_eq!(normalise(r"SELECT 'it\'s secret'", true, 500), "SELECT $?");
    }

    #[test]
    fn names_and_parameters_stay() {
        assert_eq!(
            shown("SELECT a1, \"B 2\" FROM t3$a WHERE x = $1 AND y_2 = $123 AND \u{e9}1=7"),
            "SELECT a1, \"B 2\" FROM t3$a WHERE x = $1 AND y_2 = $123 AND \u{e9}1=$?"
        );
    }

    #[test]
    fn space_and_comments_become_one_blank() {
        assert_eq!(shown("SELECT /* a /* nested */ 1 */ 2 -- end\n\tFROM t ;\n"), "SELECT $? FROM t");
    }

    #[test]
    fn the_same_but_for_constants() {
        let statements = [
            "SELECT a FROM t WHERE id = 1",
            "SELECT a FROM t WHERE id = 1234 ",
            "SELECT a  FROM t WHERE id = 'x' -- why",
            "SELECT a FROM t WHERE id = 1;",
            "SELECT a FROM t WHERE id = $1",
            "SELECT a FROM t WHERE ids = 1",
            "SELECT a FROM t WHERE id = 1 OR true",
            "SELECT a FROM t WHERE id =",
            "SELECT a FROM t WHERE id = E'\\'' OR b = '1'",
            "",
        ];
        for limit in [12, 500] {
            for one in statements {
                let known = raw(one, false, limit);
                for other in statements {
                    let same = raw(other, false, limit) == known;
                    assert_eq!(is_same(other, false, limit, &known), same, "{one} / {other} / {limit}");
                }
            }
        }
    }

    /// `is_same` runs where a panic would have nobody to catch it.
    #[test]
    fn no_text_is_too_strange() {
        let pieces = ["'", "\"", "$", "-", "/", "*", "\\", " ", "E", "1", "a", ";", ".", "+"];
        let mut texts = vec![String::new()];
        for length in 0..4 {
            let longer: Vec<String> = texts
                .iter()
                .filter(|text| text.len() == length)
                .flat_map(|text| pieces.map(|piece| format!("{text}{piece}")))
                .collect();
            texts.extend(longer);
        }
        assert_eq!(texts.len(), 1 + 14 + 196 + 2744 + 38416);
        for (one, other) in texts.iter().zip(texts.iter().rev()) {
            for backslashes in [false, true] {
                let known = raw(one, backslashes, 3);
                assert!(is_same(one, backslashes, 3, &known), "{one}");
                assert_eq!(
                    is_same(other, backslashes, 3, &known),
                    raw(other, backslashes, 3) == known,
                    "{one} / {other}"
                );
            }
        }
    }

    #[test]
    fn what_does_not_end_is_cut_without_harm() {
        for broken in
            ["SELECT 'abc", "SELECT \"abc", "SELECT $x$ abc", "SELECT /* abc", "SELECT E'abc\\", "", "\u{e9}'\u{e9}"]
        {
            assert!(!shown(broken).contains("abc") || broken.contains('"'), "{broken}");
        }
        assert!(normalise(&"\u{e9}".repeat(1000), false, 501).len() <= 501);
    }
}
