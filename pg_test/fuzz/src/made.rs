//! JSON out of the fuzzer's bytes: whatever they are, it is well formed, so that what is tried is rules and not brackets.

use crate::scoring::operator;

/// Bytes, from the first to the last; then zeros.
pub struct Made<'a>(&'a [u8]);

/// Paths that documents have, and some that they do not.
const KEYS: [&str; 10] = ["a", "b", "c", "aa", "list", "0", "accumulator", "current", "", "\u{e9}"];
const NUMBERS: [&str; 12] = [
    "0",
    "1",
    "-1",
    "2.50",
    "1e3",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "0.000001",
    "123456789012345678901234567890.5",
    "-0.0",
    "1e300",
];
const TEXTS: [&str; 10] = ["", "a", "Berlin", "12", " 7 ", "2026-11-22", "1e5", "\u{1f600}\u{e9}", "a.b", "-"];
const NAMES: [&str; 49] = [
    "var",
    "val",
    "exists",
    "if",
    "?:",
    "and",
    "or",
    "??",
    "!",
    "!!",
    "==",
    "!=",
    "===",
    "!==",
    "<",
    "<=",
    ">",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "max",
    "min",
    "map",
    "filter",
    "all",
    "none",
    "some",
    "reduce",
    "merge",
    "in",
    "cat",
    "substr",
    "log",
    "length",
    "starts_with",
    "ends_with",
    "upper",
    "lower",
    "trim",
    "abs",
    "ceil",
    "floor",
    "now",
    "days_between",
    "missing",
    "missing_some",
];

impl<'a> Made<'a> {
    pub fn of(bytes: &'a [u8]) -> Made<'a> {
        debug_assert!(NAMES.iter().all(|name| operator::find(name.as_bytes()).is_some()));
        Made(bytes)
    }

    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn one(&mut self, of: &[&'static str]) -> &'static str {
        of[usize::from(self.byte()) % of.len()]
    }

    fn list(&mut self, most: u8, mut each: impl FnMut(&mut Self, u8) -> String) -> String {
        let many = self.byte() % (most + 1);
        (0..many).map(|number| each(self, number)).collect::<Vec<_>>().join(",")
    }

    fn number(&mut self) -> String {
        match self.byte() % 2 {
            0 => (i64::from(self.byte()) - 128).to_string(),
            _ => self.one(&NUMBERS).to_owned(),
        }
    }

    /// A number, a text, true, false or null.
    fn atom(&mut self) -> String {
        match self.byte() % 6 {
            0 => "null".to_owned(),
            1 => if self.byte() % 2 == 0 { "true" } else { "false" }.to_owned(),
            2 | 3 => self.number(),
            4 => format!("\"{}\"", self.one(&TEXTS)),
            _ => format!("\"{}\"", self.one(&KEYS)),
        }
    }

    /// Anything, nested so deep at most.
    pub fn document(&mut self, depth: u32) -> String {
        match self.byte() % 3 {
            0 if depth > 0 => format!("[{}]", self.list(40, |made, _| made.document(depth - 1))),
            1 if depth > 0 => {
                // Equal keys would be one in the server's documents; the writer takes what it is given.
                let mut left = KEYS.to_vec();
                let pairs = self.list(KEYS.len() as u8, |made, _| {
                    let key = left.swap_remove(usize::from(made.byte()) % left.len());
                    format!("\"{key}\":{}", made.document(depth - 1))
                });
                format!("{{{pairs}}}")
            }
            _ => self.atom(),
        }
    }

    /// An expression, nested so deep at most.
    pub fn rule(&mut self, depth: u32) -> String {
        if depth == 0 {
            return self.atom();
        }
        match self.byte() % 8 {
            0 => self.atom(),
            1 => format!(r#"{{"var":"{}"}}"#, self.one(&KEYS)),
            2 => format!(r#"{{"var":["{}.{}",{}]}}"#, self.one(&KEYS), self.one(&KEYS), self.atom()),
            3 => format!("[{}]", self.list(4, |made, _| made.rule(depth - 1))),
            4 => {
                let name = self.one(&NAMES);
                format!(r#"{{"{name}":{}}}"#, self.rule(depth - 1))
            }
            _ => {
                let name = self.one(&NAMES);
                format!(r#"{{"{name}":[{}]}}"#, self.list(4, |made, _| made.rule(depth - 1)))
            }
        }
    }

    /// Rules with their scores, or a model's weights.
    pub fn rule_set(&mut self) -> String {
        if self.byte() % 4 > 0 {
            let rules = self.list(6, |made, number| {
                format!(r#"{{"id":"r{number}","when":{},"score":{}}}"#, made.rule(4), made.number())
            });
            return format!("[{rules}]");
        }
        let model = self.one(&["linear", "logistic"]);
        let intercept = self.number();
        let weights = self.list(6, |made, _| {
            format!(r#"{{"path":"{}","weight":{},"missing":{}}}"#, made.one(&KEYS), made.number(), made.number())
        });
        format!(r#"{{"model":"{model}","intercept":{intercept},"weights":[{weights}]}}"#)
    }
}
