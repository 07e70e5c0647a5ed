//! Long texts are worked at in pieces: with the result of the whole, and with a look for a cancel in between.

use std::cell::Cell;

use bumpalo::Bump;

use super::{json, limits};
use crate::scoring::run::{Limits, PIECE};
use crate::scoring::value::Value;
use crate::scoring::{build, compile, score};

/// The value of the rule as bytes, and how often a cancel was looked for.
fn run(rule: &str, document: &[u8]) -> (Result<Vec<u8>, String>, usize) {
    let program = compile::rule(&json::jsonb(rule), u64::MAX).unwrap_or_else(|refusal| panic!("{rule}: {refusal:?}"));
    let (arena, polls) = (Bump::new(), Cell::new(0));
    let poll = || polls.set(polls.get() + 1);
    let limits = Limits { operations: 1 << 40, bytes: 1 << 30, poll: &poll, ..limits() };
    let value = score::evaluate(&program, build::read(document), &arena, limits);
    let bytes = match value {
        Ok(Value::Text(text)) => Ok(text.to_vec()),
        Ok(Value::Number(number)) => {
            let mut text = Vec::new();
            number.print(&mut text);
            Ok(text)
        }
        Ok(Value::Bool(truth)) => Ok(truth.to_string().into_bytes()),
        Ok(other) => Err(other.type_name().to_owned()),
        Err(fault) => Err(format!("{fault:?}")),
    };
    (bytes, polls.get())
}

fn document(texts: &[(&[u8], &str)]) -> Vec<u8> {
    let pairs: Vec<(&[u8], Value)> = texts.iter().map(|(key, text)| (*key, Value::Text(text.as_bytes()))).collect();
    build::document(&Value::Pairs(&pairs)).expect("it fits")
}

/// Some pieces long, with ends of pieces within characters, and within words that end in a sigma.
fn long(shift: usize) -> String {
    let mut text = "x".repeat(shift);
    while text.len() < 2 * PIECE {
        text.push_str("abc \u{e4}\u{d6}\u{df} \u{fb01}\u{130} \u{39f}\u{394}\u{39f}\u{3a3} \u{3a3}. \u{65e5}\u{672c} \u{1f600}\u{3a3}\u{301} ");
    }
    text
}

#[test]
fn pieces_make_the_whole() {
    for shift in [0, 1, 2, 5] {
        let text = long(shift);
        let stored = document(&[(b"t", &text)]);
        let is = |rule: &str, wanted: &str| {
            let (value, _) = run(rule, &stored);
            assert!(value.as_deref() == Ok(wanted.as_bytes()), "{rule} with {shift} more");
        };
        is(r#"{"lower": {"var": "t"}}"#, &text.to_lowercase());
        is(r#"{"upper": {"var": "t"}}"#, &text.to_uppercase());
        let count = text.chars().count();
        is(r#"{"length": {"var": "t"}}"#, &count.to_string());
        for (from, length) in [(0, 3), (PIECE / 2, PIECE), (count - 9, 9)] {
            let part: String = text.chars().skip(from).take(length).collect();
            is(&format!(r#"{{"substr": [{{"var": "t"}}, {from}, {length}]}}"#), &part);
        }
        is(r#"{"cat": [{"var": "t"}, "!"]}"#, &format!("{text}!"));
    }
}

#[test]
fn blanks_of_any_length_are_trimmed() {
    let blanks = "\u{2003} \t".repeat(PIECE / 3);
    for text in ["", "a", "\u{e4} b\u{e4}", &"\u{e4} ".repeat(PIECE)] {
        let stored = document(&[(b"t", &format!("{blanks}{text}{blanks}"))]);
        let (value, _) = run(r#"{"trim": {"var": "t"}}"#, &stored);
        assert!(value.as_deref() == Ok(text.trim().as_bytes()), "{} bytes", text.len());
    }
}

#[test]
fn parts_of_any_length_are_found() {
    let text = format!("{}needle{}", "hay ".repeat(PIECE / 8), "stack ".repeat(PIECE / 8));
    let parts = ["needle", "", "no needle", &text[text.len() - PIECE - 1..], &text[..text.len() - 1], &text];
    for (number, part) in parts.iter().enumerate() {
        for part in [(*part).to_owned(), format!("{part}?")] {
            let (value, _) = run(r#"{"in": [{"var": "p"}, {"var": "t"}]}"#, &document(&[(b"p", &part), (b"t", &text)]));
            assert_eq!(value.as_deref(), Ok(text.contains(&part).to_string().as_bytes()), "part {number}");
        }
    }
}

/// As often as the work is long: 8 MB of text in pieces, or thousands of digits again and again.
#[test]
fn a_cancel_is_looked_for_by_the_work_done() {
    let text = "\u{e4}b ".repeat(2 << 20);
    let number = "7".repeat(30_000);
    let stored = document(&[(b"t", &text), (b"n", &number)]);
    let ten = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]";
    for (rule, least) in [
        (r#"{"length": {"lower": {"var": "t"}}}"#.to_owned(), 32),
        (r#"{"length": {"upper": {"var": "t"}}}"#.to_owned(), 32),
        (r#"{"length": {"cat": [{"var": "t"}, {"var": "t"}]}}"#.to_owned(), 64),
        (r#"{"length": {"var": "t"}}"#.to_owned(), 8),
        (r#"{"length": {"substr": [{"var": "t"}, -3]}}"#.to_owned(), 12),
        (r#"{"length": {"trim": {"var": "t"}}}"#.to_owned(), 8),
        (r#"{"in": ["c", {"var": "t"}]}"#.to_owned(), 32),
        (format!(r#"{{"all": [{ten}, {{"%": [1e131071, 7]}}]}}"#), 2),
        (format!(r#"{{"all": [{ten}, {{"/": [1e131071, 1]}}]}}"#), 2),
        (format!(r#"{{"all": [{ten}, {{"!": {{"length": {{"substr": ["abc", 1e131071]}}}}}}]}}"#), 20),
        (format!(r#"{{"all": [{ten}, {{"+": [{{"val": [[2], "n"]}}, {{"var": ""}}]}}]}}"#), 3),
        (r#"{"*": [{"var": "n"}, 12345678901234567890123456789012345678901234567890]}"#.to_owned(), 2),
    ] {
        let (value, polls) = run(&rule, &stored);
        assert!(value.is_ok() && polls >= least, "{rule}: {polls} times, {value:.60?}");
    }
}
