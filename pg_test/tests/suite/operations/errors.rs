//! Every error that the extension raises, read from its sources: docs/errors.md lists them all.

use std::collections::BTreeMap;
use std::path::Path;

use libtest_mimic::Trial;

use super::fixture::root;
use super::generated;
use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![every_error_is_listed, the_sources_are_read_right]
}

#[derive(Debug, PartialEq)]
pub struct Raised {
    pub sqlstate: &'static str,
    /// Its parts that are not constant are an ellipsis.
    pub message: String,
    pub hint: String,
    /// The folder in src, or the file in sql.
    pub room: String,
}

/// The constructors of src/error.rs: SQLSTATE, and which argument is the hint, or what the hint always is.
const CONSTRUCTORS: [(&str, &str, Result<usize, &str>); 10] = [
    ("argument", "22023", Ok(1)),
    ("state", "55000", Ok(2)),
    ("limit", "54000", Ok(1)),
    ("crowded", "53400", Ok(1)),
    ("retry", "40001", Err("Run the transaction again.")),
    ("denied", "42501", Ok(2)),
    ("transaction", "25001", Ok(2)),
    ("read_only", "25006", Ok(1)),
    ("busy", "55P03", Err("Try again.")),
    ("deadlock", "40P01", Ok(2)),
];

/// What settings refuse, by the names that the server's codes have there.
const REFUSED: [(&str, &str); 6] = [
    ("ERRCODE_INVALID_PARAMETER_VALUE", "22023"),
    ("BAD", "22023"),
    ("ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION", "28000"),
    ("ERRCODE_INSUFFICIENT_PRIVILEGE", "42501"),
    ("ERRCODE_OUT_OF_MEMORY", "53200"),
    ("ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE", "55000"),
];

/// Every error of the sources, in their order.
pub fn all() -> Vec<Raised> {
    let mut found = Vec::new();
    let mut files = Vec::new();
    for folder in ["src", "sql"] {
        collect(&root().join(folder), &mut files);
    }
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let room = room(&file);
        match file.extension().is_some_and(|extension| extension == "sql") {
            true => read_sql(&text, &room, &mut found),
            // That file makes the reports, and raises one family itself.
            false if file.ends_with("src/error.rs") => found.push(no_tenant()),
            false => read_rust(&text, &room, &mut found),
        }
    }
    found
}

fn no_tenant() -> Raised {
    Raised {
        sqlstate: "42501",
        message: "no tenant context for …".into(),
        hint: "Set the tenant first: BEGIN; SET LOCAL bulkhead.tenant_context = '...'; or SELECT bulkhead.set_tenant('...') inside the transaction.".into(),
        room: "context".into(),
    }
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("sql/released") {
            // The same again, of each version.
        } else if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "sql") {
            files.push(path);
        }
    }
}

fn room(file: &Path) -> String {
    let path = file.strip_prefix(root()).unwrap();
    let mut parts = path.iter().map(|part| part.to_string_lossy().into_owned()).skip(1);
    let first = parts.next().unwrap();
    let first = if first == "pg" { parts.next().unwrap() } else { first };
    first.split('.').next().unwrap().to_owned()
}

fn read_rust(text: &str, room: &str, found: &mut Vec<Raised>) {
    for (name, sqlstate, hint) in CONSTRUCTORS {
        for arguments in calls(text, &format!("error::{name}(")) {
            let hint = match hint {
                Ok(at) => texts(arguments.get(at).map_or("", String::as_str)).join(" / "),
                Err(always) => always.to_owned(),
            };
            push(found, sqlstate, &arguments[0], hint, room);
        }
    }
    // `error::given(argument, "name")`, by whatever path.
    for arguments in calls(text, "given(") {
        if let [_, name] = arguments.as_slice() {
            let name = texts(name).pop().unwrap_or_else(|| "…".to_owned());
            push(found, "22023", &format!("\"{name} must not be NULL\""), "Give it a value.".to_owned(), room);
        }
    }
    for arguments in calls(text, "refuse(") {
        let code = arguments[0].rsplit("::").next().unwrap_or_default();
        if let Some((_, sqlstate)) = REFUSED.iter().find(|(name, _)| *name == code && arguments.len() >= 4) {
            push(found, sqlstate, &arguments[1], texts(&arguments[3]).join(" / "), room);
        }
    }
    for arguments in calls(text, "&fault(") {
        push(found, "55000", &arguments[0], texts(&arguments[1]).join(" / "), room);
    }
}

fn push(found: &mut Vec<Raised>, sqlstate: &'static str, message: &str, hint: String, room: &str) {
    let mut messages = texts(message);
    if messages.is_empty() {
        messages.push("…".to_owned());
    }
    for message in messages {
        let raised = Raised { sqlstate, message, hint: hint.clone(), room: room.to_owned() };
        if !found.contains(&raised) {
            found.push(raised);
        }
    }
}

/// The arguments of every call, as they are written.
fn calls(text: &str, call: &str) -> Vec<Vec<String>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let starts = text.match_indices(call).filter(|(at, _)| !text[..*at].ends_with(is_word));
    // Not a function's definition.
    let starts = starts.filter(|(at, _)| !text[..*at].ends_with("fn "));
    starts.map(|(at, _)| arguments(&text[at + call.len()..])).collect()
}

fn arguments(text: &str) -> Vec<String> {
    let (mut found, mut depth, mut current) = (Vec::new(), 0, String::new());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                current.push('"');
                while let Some(inside) = letters.next() {
                    current.push(inside);
                    match inside {
                        '\\' => current.extend(letters.next()),
                        '"' => break,
                        _ => {}
                    }
                }
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(std::mem::take(&mut current).trim().to_owned());
                continue;
            }
            _ => {}
        }
        current.push(letter);
    }
    found.push(current.trim().to_owned());
    found
}

/// The constant texts that an argument may be; of a `format!` the first, with an ellipsis for each part that is put in.
fn texts(argument: &str) -> Vec<String> {
    let argument = argument.trim_start_matches('&').trim();
    let mut found = Vec::new();
    let mut rest = argument;
    while let Some(at) = rest.find('"') {
        let is_format = rest[..at].trim_end().ends_with("format!(");
        let (text, after) = literal(&rest[at + 1..]);
        rest = after;
        found.push(if is_format { filled(&text) } else { text });
        if argument.starts_with("format!(") {
            break;
        }
        if is_format {
            // What is put in is no text by itself.
            let skipped = arguments(rest).join(",").len();
            rest = rest.get(skipped..).unwrap_or_default();
        }
    }
    found.retain(|text| !text.is_empty());
    found
}

/// A string constant from behind its first quote, and what follows it.
fn literal(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &text[at + 1..]),
            '\\' => match letters.next() {
                Some((_, 'n')) => value.push(' '),
                Some((_, other)) => value.push(other),
                None => break,
            },
            letter => value.push(letter),
        }
    }
    (value, "")
}

fn filled(text: &str) -> String {
    let mut value = String::new();
    let mut rest = text.replace("{{", "\u{1}").replace("}}", "\u{2}");
    while let Some(at) = rest.find('{') {
        value.push_str(&rest[..at]);
        value.push('…');
        let end = rest[at..].find('}').map_or(rest.len(), |end| at + end + 1);
        rest = rest[end..].to_owned();
    }
    value.push_str(&rest);
    value.replace('\u{1}', "{").replace('\u{2}', "}")
}

/// `RAISE EXCEPTION 'message' … ERRCODE = '…', HINT = '…';`
fn read_sql(text: &str, room: &str, found: &mut Vec<Raised>) {
    for (at, start) in text.match_indices("RAISE EXCEPTION '") {
        let statement = text[at + start.len() - 1..].split_once(';').map_or("", |(statement, _)| statement);
        let value = |after: &str| {
            let from = statement.find(after)? + after.len();
            statement[from..].split('\'').next().map(str::to_owned)
        };
        let code = value("ERRCODE = '").unwrap_or_default();
        let known = CONSTRUCTORS.iter().find(|(_, sqlstate, _)| *sqlstate == code);
        let sqlstate = known.unwrap_or_else(|| panic!("sql/{room}.sql raises {code:?}")).1;
        let message = value("'").unwrap_or_default().replace('%', "…");
        found.push(Raised { sqlstate, message, hint: value("HINT = '").unwrap_or_default(), room: room.to_owned() });
    }
}

async fn every_error_is_listed(_: Nowhere) {
    let mut by_code: BTreeMap<&str, Vec<Raised>> = BTreeMap::new();
    let all = all();
    assert!(all.len() > 180, "{}", all.len());
    for raised in all {
        by_code.entry(raised.sqlstate).or_default().push(raised);
    }
    let mut text = String::new();
    for (code, mut list) in by_code {
        list.sort_by(|one, other| (&one.room, &one.message).cmp(&(&other.room, &other.message)));
        text.push_str(&format!("## {code}\n\n| room | message | hint |\n|---|---|---|\n"));
        for Raised { message, hint, room, .. } in &list {
            text.push_str(&generated::row(&[room, message, hint]));
        }
        text.push('\n');
    }
    generated::is("errors.md", "errors", &text);
}

async fn the_sources_are_read_right(_: Nowhere) {
    let mut found = Vec::new();
    let source = r#"
        return Err(error::state(
            format!("{} is \"odd\" {{}} of {n}", f(1, "x")), "detail", if a { "One." } else { "Two." },
        ));
        error::argument(message, hint);
        given(given(relation)?, "relation")?"#;
    read_rust(source, "here", &mut found);
    let raised = |sqlstate, message: &str, hint: &str| Raised {
        sqlstate,
        message: message.into(),
        hint: hint.into(),
        room: "here".into(),
    };
    let null = raised("22023", "relation must not be NULL", "Give it a value.");
    assert_eq!(found, [raised("22023", "…", ""), raised("55000", "… is \"odd\" {} of …", "One. / Two."), null]);
    found.clear();
    read_sql("RAISE EXCEPTION 'no % there' USING ERRCODE = '40001', HINT = 'Wait.';", "here", &mut found);
    assert_eq!(found, [raised("40001", "no … there", "Wait.")]);
}
