//! A psql script as a list of statements: as much of psql's syntax as the server's own test files use.
//!
//! What only prints (`\d`, `\echo`, `\pset` …) is left out; variables, `\gset`, `\gexec` and the data of `COPY FROM stdin` are there.

use std::collections::HashMap;

/// One thing that a script asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A statement, with what follows it when it is `COPY … FROM stdin`.
    Statement { sql: String, then: Then, data: Option<String> },
    /// `\set name value …`, values joined.
    Set(String, String),
    /// `\getenv name variable`
    FromEnvironment(String, String),
    /// `\c`: a new session.
    Connect,
    /// What is not understood, and might change what follows: `\if` and its like.
    Unknown(String),
}

/// What becomes of a statement's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    Nothing,
    /// `\gset prefix`: variables.
    Variables(String),
    /// `\gexec`: each value is a statement.
    Statements,
}

/// psql's variables; where one is used is known when the statement is run.
pub type Variables = HashMap<String, String>;

/// Where the reader is inside a statement.
#[derive(Default)]
struct State {
    text: String,
    parentheses: u32,
    /// `BEGIN ATOMIC … END` and `CASE … END` inside the body of a function.
    bodies: u32,
    /// The words so far, of which the first ones and BEGIN tell a body.
    words: Vec<String>,
    inside: Inside,
}

#[derive(Default, PartialEq, Eq, Clone)]
enum Inside {
    #[default]
    Plain,
    Quoted(char, bool),
    Dollar(String),
    Comment(u32),
}

pub fn read(text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut state = State::default();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        state.line(line, &mut items);
        // The data begins behind the line.
        if let Some(Item::Statement { sql, data, .. }) = items.last_mut()
            && data.is_none()
            && state.text.trim().is_empty()
            && is_copy_from_stdin(sql)
        {
            let rows: Vec<&str> = lines.by_ref().take_while(|line| line.trim_end() != "\\.").collect();
            *data = Some(rows.iter().map(|row| format!("{row}\n")).collect());
        }
    }
    items
}

fn is_copy_from_stdin(sql: &str) -> bool {
    let lower = sql.trim_start().to_ascii_lowercase();
    let words: Vec<&str> = lower.split(|c: char| c.is_whitespace() || c == ';' || c == '(').collect();
    words.first() == Some(&"copy") && words.windows(2).any(|pair| pair == ["from", "stdin"])
}

impl State {
    fn line(&mut self, line: &str, items: &mut Vec<Item>) {
        let characters: Vec<char> = line.chars().collect();
        let mut at = 0;
        while at < characters.len() {
            at = match self.inside.clone() {
                Inside::Plain => self.plain(&characters, at, items),
                Inside::Quoted(quote, escapes) => self.quoted(&characters, at, quote, escapes),
                Inside::Dollar(tag) => self.dollar(&characters, at, &tag),
                Inside::Comment(depth) => self.comment(&characters, at, depth),
            };
        }
        self.text.push('\n');
    }

    fn plain(&mut self, line: &[char], at: usize, items: &mut Vec<Item>) -> usize {
        let next = line.get(at + 1).copied();
        match line[at] {
            '-' if next == Some('-') => return line.len(),
            '/' if next == Some('*') => {
                self.inside = Inside::Comment(1);
                return at + 2;
            }
            quote @ ('\'' | '"') => {
                // `E'…'`, where the E is a word of its own.
                let before = at.checked_sub(1).and_then(|i| line.get(i)).is_some_and(|c| matches!(c, 'e' | 'E'));
                let alone = at < 2 || !is_word(line[at - 2]);
                self.inside = Inside::Quoted(quote, quote == '\'' && before && alone);
            }
            '$' if !at.checked_sub(1).and_then(|i| line.get(i)).is_some_and(|c| is_word(*c)) => {
                if let Some(tag) = dollar_tag(&line[at..]) {
                    self.text.push_str(&tag);
                    let length = tag.chars().count();
                    self.inside = Inside::Dollar(tag);
                    return at + length;
                }
            }
            '(' => self.parentheses += 1,
            ')' => self.parentheses = self.parentheses.saturating_sub(1),
            '\\' if next == Some(';') => {
                self.text.push(';');
                return at + 2;
            }
            '\\' => {
                let rest: String = line[at + 1..].iter().collect();
                self.command(rest.trim(), items);
                return line.len();
            }
            ';' if self.parentheses == 0 && self.bodies == 0 => {
                self.end(Then::Nothing, items);
                return at + 1;
            }
            c if is_word(c) => return self.word(line, at),
            _ => {}
        }
        self.text.push(line[at]);
        at + 1
    }

    fn word(&mut self, line: &[char], at: usize) -> usize {
        let end = line[at..].iter().position(|c| !is_word(*c) && *c != '$').map_or(line.len(), |n| at + n);
        let word: String = line[at..end].iter().collect();
        self.text.push_str(&word);
        let word = word.to_ascii_lowercase();
        let makes_code = self.words.first().is_some_and(|first| first == "create")
            && self.words.iter().take(4).any(|word| word == "function" || word == "procedure");
        match word.as_str() {
            "begin" if makes_code => self.bodies += 1,
            "case" if self.bodies > 0 => self.bodies += 1,
            "end" if self.bodies > 0 => self.bodies -= 1,
            _ => {}
        }
        self.words.push(word);
        end
    }

    fn quoted(&mut self, line: &[char], at: usize, quote: char, escapes: bool) -> usize {
        self.text.push(line[at]);
        if escapes && line[at] == '\\' {
            self.text.extend(line.get(at + 1));
            return at + 2;
        }
        if line[at] == quote {
            self.inside = Inside::Plain;
        }
        at + 1
    }

    fn dollar(&mut self, line: &[char], at: usize, tag: &str) -> usize {
        let length = tag.chars().count();
        if line.len() >= at + length && line[at..at + length].iter().copied().eq(tag.chars()) {
            self.text.push_str(tag);
            self.inside = Inside::Plain;
            return at + length;
        }
        self.text.push(line[at]);
        at + 1
    }

    fn comment(&mut self, line: &[char], at: usize, depth: u32) -> usize {
        let two: String = line[at..].iter().take(2).collect();
        let (depth, read) = match two.as_str() {
            "/*" => (depth + 1, 2),
            "*/" => (depth - 1, 2),
            _ => (depth, 1),
        };
        self.inside = if depth == 0 { Inside::Plain } else { Inside::Comment(depth) };
        at + read
    }

    fn command(&mut self, command: &str, items: &mut Vec<Item>) {
        let (name, arguments) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let mut words = arguments.split_whitespace().map(String::from);
        match name {
            "g" | "gx" | "gdesc" | "crosstabview" | "gcrosstab" => self.end(Then::Nothing, items),
            "gset" => self.end(Then::Variables(words.next().unwrap_or_default()), items),
            "gexec" => self.end(Then::Statements, items),
            "r" => *self = State::default(),
            "set" => {
                if let Some(variable) = words.next() {
                    let value = arguments.trim().strip_prefix(variable.as_str()).unwrap_or_default();
                    items.push(Item::Set(variable, value.trim().to_string()));
                }
            }
            "getenv" => {
                if let (Some(variable), Some(name)) = (words.next(), words.next()) {
                    items.push(Item::FromEnvironment(variable, name));
                }
            }
            "c" | "connect" => items.push(Item::Connect),
            "if" | "elif" | "else" | "endif" | "quit" | "q" | "i" | "ir" | "copy" | "watch" | "bind" => {
                items.push(Item::Unknown(command.to_string()));
            }
            _ => {}
        }
    }

    fn end(&mut self, then: Then, items: &mut Vec<Item>) {
        let sql = std::mem::take(self).text.trim().to_string();
        if !sql.is_empty() {
            items.push(Item::Statement { sql, then, data: None });
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `$$` or `$name$` at the beginning.
fn dollar_tag(line: &[char]) -> Option<String> {
    let end = line[1..].iter().position(|c| *c == '$')? + 1;
    let name = &line[1..end];
    let fits = name.iter().all(|c| is_word(*c)) && !name.first().is_some_and(char::is_ascii_digit);
    fits.then(|| line[..=end].iter().collect())
}

/// `:name`, `:'name'` and `:"name"` outside of strings, where there is such a variable.
pub fn substitute(sql: &str, variables: &Variables) -> String {
    let characters: Vec<char> = sql.chars().collect();
    let mut out = String::new();
    let mut quote = None;
    let mut at = 0;
    while at < characters.len() {
        let c = characters[at];
        if let Some(open) = quote {
            quote = (c != open).then_some(open);
        } else if matches!(c, '\'' | '"') {
            quote = Some(c);
        } else if c == ':' && characters.get(at + 1) == Some(&':') {
            out.push_str("::");
            at += 2;
            continue;
        } else if c == ':'
            && let Some((value, length)) = variable(&characters[at + 1..], variables)
        {
            out.push_str(&value);
            at += 1 + length;
            continue;
        }
        out.push(c);
        at += 1;
    }
    out
}

fn variable(rest: &[char], variables: &Variables) -> Option<(String, usize)> {
    let quote = rest.first().copied().filter(|c| matches!(c, '\'' | '"'));
    let begin = usize::from(quote.is_some());
    let length = rest[begin..].iter().take_while(|c| is_word(**c)).count();
    let name: String = rest[begin..begin + length].iter().collect();
    let value = variables.get(&name)?;
    match quote {
        None => Some((value.clone(), length)),
        Some(quote) if rest.get(begin + length) == Some(&quote) => {
            let doubled = value.replace(quote, &format!("{quote}{quote}"));
            Some((format!("{quote}{doubled}{quote}"), length + 2))
        }
        Some(_) => None,
    }
}

/// The value of `\set`: words and strings, joined.
pub fn joined(value: &str, variables: &Variables) -> String {
    let mut out = String::new();
    let mut rest = value.trim();
    while !rest.is_empty() {
        if let Some(mut quoted) = rest.strip_prefix('\'') {
            // Two stand for one.
            loop {
                let end = quoted.find('\'').unwrap_or(quoted.len());
                out.push_str(&quoted[..end]);
                quoted = quoted.get(end + 1..).unwrap_or_default();
                match quoted.strip_prefix('\'') {
                    Some(more) => {
                        out.push('\'');
                        quoted = more;
                    }
                    None => break,
                }
            }
            rest = quoted.trim_start();
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let word = &rest[..end];
            let known = word.strip_prefix(':').and_then(|name| variables.get(name));
            out.push_str(known.map_or(word, String::as_str));
            rest = rest[end..].trim_start();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(text: &str) -> Vec<String> {
        let sql = |item| match item {
            Item::Statement { sql, .. } => Some(sql),
            _ => None,
        };
        read(text).into_iter().filter_map(sql).collect()
    }

    #[test]
    fn statements_end_at_semicolons_that_are_theirs() {
        assert_eq!(statements("SELECT ';' ; -- no; \nSELECT $a$;$a$, (1;2);"), ["SELECT ';'", "SELECT $a$;$a$, (1;2)"]);
        assert_eq!(statements("SELECT E'\\';', \"a;b\" /* ; /* ; */ ; */;"), ["SELECT E'\\';', \"a;b\""]);
        let body = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT 2; END";
        assert_eq!(statements(&format!("{body}; BEGIN; END;")), [body, "BEGIN", "END"]);
        assert_eq!(statements("SELECT 1\\; SELECT 2;"), ["SELECT 1; SELECT 2"]);
    }

    #[test]
    fn data_and_commands_are_told_from_statements() {
        let items = read("COPY t (a) FROM stdin;\n1\n;2\n\\.\nSELECT 1 AS x \\gset p_\n\\d t\nSELECT 2\\gexec\n");
        let statement = |sql: &str, then, data: Option<&str>| Item::Statement {
            sql: sql.into(),
            then,
            data: data.map(String::from),
        };
        assert_eq!(
            items,
            [
                statement("COPY t (a) FROM stdin", Then::Nothing, Some("1\n;2\n")),
                statement("SELECT 1 AS x", Then::Variables("p_".into()), None),
                statement("SELECT 2", Then::Statements, None),
            ]
        );
    }

    #[test]
    fn variables_stand_outside_of_strings() {
        let variables = Variables::from([("a".to_string(), "it's".to_string()), ("dir".to_string(), "/x".to_string())]);
        assert_eq!(
            substitute("SELECT :a, :'a', ':a', 1::int, :b", &variables),
            "SELECT it's, 'it''s', ':a', 1::int, :b"
        );
        assert_eq!(joined(":dir '/data/a.b' :dir", &variables), "/x/data/a.b/x");
        assert_eq!(joined("'values (''a'', ''b'')'", &variables), "values ('a', 'b')");
    }
}
