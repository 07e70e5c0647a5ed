//! Against another engine of JsonLogic, datalogic-rs: generated rules of every operator, and what is wanted otherwise, each with its reason.

use datalogic_rs::Engine;

use super::numbers::Random;
use super::{rule_set, run};

const RULES: u32 = 30_000;

/// Rules of a type, over documents whose fields have one: what differs by the types is in `WANTED`.
struct Generator {
    random: Random,
    depth: u32,
}

impl Generator {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.random.next(from.len() as u64) as usize]
    }

    fn deeper(&mut self, make: impl FnOnce(&mut Self) -> String) -> String {
        self.depth += 1;
        let made = make(self);
        self.depth -= 1;
        made
    }

    fn number(&mut self) -> String {
        if self.depth > 4 || self.random.next(3) == 0 {
            return match self.random.next(4) {
                0 => (self.random.next(20) as i64 - 5).to_string(),
                1 => format!("{}.{}", self.random.next(10), 5 * self.random.next(2)),
                2 => self
                    .pick(&[
                        r#"{"var": "n"}"#,
                        r#"{"var": "o.m"}"#,
                        r#"{"val": ["o", "m"]}"#,
                        r#"{"var": ["gone", 3]}"#,
                    ])
                    .into(),
                _ => self
                    .pick(&[
                        r#"{"var": "l.0"}"#,
                        r#"{"var": "gone"}"#,
                        r#"{"length": {"var": "l"}}"#,
                        r#"{"length": {"var": "t"}}"#,
                    ])
                    .into(),
            };
        }
        self.deeper(|g| match g.random.next(9) {
            0..=2 => format!(r#"{{"{}": [{}, {}]}}"#, g.pick(&["+", "-", "*"]), g.number(), g.number()),
            3 => format!(r#"{{"{}": [{}, {}, {}]}}"#, g.pick(&["+", "*", "-"]), g.number(), g.number(), g.number()),
            4 => format!(r#"{{"if": [{}, {}, {}]}}"#, g.truth(), g.number(), g.number()),
            5 => format!(
                r#"{{"reduce": [{}, {{"+": [{{"var": "accumulator"}}, {{"var": "current"}}]}}, {}]}}"#,
                g.list(),
                g.number()
            ),
            6 => format!(r#"{{"{}": [{}]}}"#, g.pick(&["abs", "ceil", "floor", "-"]), g.present()),
            7 => format!(r#"{{"{}": [{}, {}]}}"#, g.pick(&["max", "min"]), g.present(), g.present()),
            _ => format!(r#"{{"%": [{}, {}]}}"#, g.present(), 1 + g.random.next(6)),
        })
    }

    /// A number that is there, and no null.
    fn present(&mut self) -> String {
        if self.random.next(2) == 0 {
            return self.pick(&[r#"{"var": "n"}"#, r#"{"var": "o.m"}"#, "7", "-2.5", "0"]).into();
        }
        format!(r#"{{"+": [{}, {}]}}"#, self.number(), self.random.next(9))
    }

    fn text(&mut self) -> String {
        if self.depth > 4 || self.random.next(2) == 0 {
            return self.pick(&[r#"{"var": "t"}"#, r#"{"var": "u"}"#, "\"abc\"", "\"\"", "\"Zürich\""]).into();
        }
        self.deeper(|g| match g.random.next(4) {
            0 => format!(r#"{{"cat": [{}, {}]}}"#, g.text(), g.text()),
            1 => format!(
                r#"{{"substr": [{}, {}, {}]}}"#,
                g.text(),
                g.random.next(6) as i64 - 3,
                g.random.next(6) as i64 - 3
            ),
            2 => format!(r#"{{"{}": [{}]}}"#, g.pick(&["upper", "lower", "trim"]), g.text()),
            _ => format!(r#"{{"if": [{}, {}, {}]}}"#, g.truth(), g.text(), g.text()),
        })
    }

    fn list(&mut self) -> String {
        if self.depth > 4 || self.random.next(2) == 0 {
            return self.pick(&[r#"{"var": "l"}"#, "[1, 2, 3]", "[]", r#"{"merge": [{"var": "l"}, [4]]}"#]).into();
        }
        self.deeper(|g| match g.random.next(3) {
            0 => format!(r#"{{"map": [{}, {{"*": [{{"var": ""}}, {}]}}]}}"#, g.list(), 1 + g.random.next(4)),
            1 => format!(r#"{{"filter": [{}, {{">": [{{"var": ""}}, {}]}}]}}"#, g.list(), g.random.next(4)),
            _ => format!(r#"{{"merge": [{}, {}]}}"#, g.list(), g.list()),
        })
    }

    fn truth(&mut self) -> String {
        if self.depth > 4 {
            return self.pick(&["true", "false", r#"{"var": "b"}"#]).into();
        }
        self.deeper(|g| match g.random.next(9) {
            0 => format!(r#"{{"{}": [{}, {}]}}"#, g.pick(&["<", "<=", ">", ">="]), g.number(), g.number()),
            1 => format!(r#"{{"{}": [{}, {}]}}"#, g.pick(&["==", "!=", "===", "!=="]), g.present(), g.present()),
            2 => format!(r#"{{"{}": [{}, {}]}}"#, g.pick(&["==", "!=", "===", "<", ">="]), g.text(), g.text()),
            3 => format!(r#"{{"{}": [{}, {}]}}"#, g.pick(&["and", "or"]), g.truth(), g.truth()),
            4 => format!(r#"{{"{}": [{}]}}"#, g.pick(&["!", "!!"]), g.truth()),
            5 => format!(
                r#"{{"{}": [{}, {{">": [{{"var": ""}}, {}]}}]}}"#,
                g.pick(&["all", "some", "none"]),
                g.list(),
                g.random.next(4)
            ),
            6 => format!(r#"{{"in": [{}, {}]}}"#, g.text(), g.text()),
            7 => format!(r#"{{"in": [{}, {}]}}"#, g.present(), g.list()),
            _ => format!(r#"{{"{}": [{}, {}]}}"#, g.pick(&["starts_with", "ends_with"]), g.text(), g.text()),
        })
    }

    fn rule(&mut self) -> String {
        match self.random.next(6) {
            0 | 1 => self.truth(),
            2 | 3 => self.number(),
            4 => self.text(),
            _ => match self.random.next(4) {
                0 => self.list(),
                1 => r#"{"missing": ["n", "gone", "o.m", "o.gone"]}"#.into(),
                2 => format!(r#"{{"missing_some": [{}, ["n", "gone", "u"]]}}"#, self.random.next(4)),
                _ => format!(r#"{{"??": [{{"var": "gone"}}, {}]}}"#, self.number()),
            },
        }
    }

    fn document(&mut self) -> String {
        let list: Vec<String> =
            (0..1 + self.random.next(4)).map(|_| (self.random.next(9) as i64 - 2).to_string()).collect();
        format!(
            r#"{{"n": {}, "o": {{"m": {}.5}}, "t": "{}", "u": "{}", "b": {}, "l": [{}]}}"#,
            self.random.next(30) as i64 - 10,
            self.random.next(9),
            self.pick(&["", "a", "abc", "Lead \u{1f600} x", " b "]),
            self.pick(&["ABC", "b", "zz top"]),
            self.pick(&["true", "false"]),
            list.join(", ")
        )
    }
}

/// Equal as JSON; numbers as far as theirs, which are binary, can say.
fn agree(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number};
    match (a, b) {
        (Number(a), Number(b)) => {
            let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
            (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
        }
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| agree(a, b)),
        _ => a == b,
    }
}

#[test]
fn generated_rules_give_the_same() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121);
    println!("SEED={seed}");
    let mut generator = Generator { random: Random(seed), depth: 0 };
    let engine = Engine::new();
    let (mut values, mut failures) = (0, 0);
    for _ in 0..RULES {
        let (rule, document) = (generator.rule(), generator.document());
        let ours = run(&rule, &document);
        let theirs = engine.eval_str(&rule, &document);
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                let same = agree(&serde_json::from_str(&ours).unwrap(), &serde_json::from_str(&theirs).unwrap());
                assert!(same, "{rule} of {document}: ours {ours}, theirs {theirs}; SEED={seed}");
                values += 1;
            }
            (Err(_), Err(_)) => failures += 1,
            (ours, theirs) => panic!("{rule} of {document}: ours {ours:?}, theirs {theirs:?}; SEED={seed}"),
        }
    }
    assert!(values > RULES * 9 / 10, "{values} values, {failures} failures");
}

/// A rule, a document, what we give and what they give (`!`: it fails), and why ours is as it is.
const WANTED: &[(&str, &str, &str, &str, &str)] = &[
    (
        r#"{"==": [{"var": "x"}, 0]}"#,
        "{}",
        "false",
        "true",
        "JavaScript: null equals null alone; a field that is missing is not 0",
    ),
    (r#"{"==": [{"var": "x"}, ""]}"#, "{}", "false", "true", "the same for an empty text"),
    (r#"{"==": [{"var": "x"}, false]}"#, "{}", "false", "true", "the same for false"),
    (
        r#"{"==": [{"var": "x"}, true]}"#,
        r#"{"x": "true"}"#,
        "false",
        "true",
        "JavaScript compares both as numbers, and \"true\" is none",
    ),
    (r#"{"==": [{"var": "x"}, true]}"#, r#"{"x": "1"}"#, "true", "false", "the same"),
    (
        r#"{"==": [{"var": "x"}, 5]}"#,
        r#"{"x": "five"}"#,
        "false",
        "!",
        "a comparison that cannot hold does not hold; it does not make the document fail",
    ),
    (r#"{"==": [{"var": "x"}, 5]}"#, r#"{"x": [5]}"#, "false", "!", "the same for an array"),
    (r#"{"+": [0.1, 0.2]}"#, "{}", "0.3", "0.30000000000000004", "numbers are decimals, as in the document"),
    (r#"{"+": [9007199254740993, 0.5]}"#, "{}", "9007199254740993.5", "9007199254740992", "the same"),
    (
        r#"{"*": [9223372036854775807, 9223372036854775807]}"#,
        "{}",
        "85070591730234615847396907784232501249",
        "8.507059173023462e37",
        "the same",
    ),
    (r#"{"/": [1.5, 0]}"#, "{}", "!", "1.7976931348623157e308", "no number is the quotient"),
    (
        r#"{"missing_some": [2, ["t", "gone"]]}"#,
        r#"{"t": ""}"#,
        r#"["t","gone"]"#,
        r#"["gone"]"#,
        "jsonlogic.com: an empty text is missing, for missing_some as for missing",
    ),
    (r#"{"max": [1, "2"]}"#, "{}", "2", "!", "documents of forms have numbers as texts, and + takes them too"),
];

#[test]
fn the_differences_are_the_wanted_ones() {
    let engine = Engine::new();
    for (rule, document, ours, theirs, why) in WANTED {
        assert_eq!(run(rule, document).unwrap_or_else(|_| "!".to_owned()), *ours, "ours of {rule}: {why}");
        let other = engine.eval_str(*rule, *document).unwrap_or_else(|_| "!".to_owned());
        assert_eq!(&other, theirs, "theirs of {rule}: {why}");
    }
    // And what they take when it is put, and we refuse: a misspelt rule.
    assert!(rule_set(r#"[{"id": "a", "when": {"a": 1, "==": [1, 1]}, "score": 1}]"#).is_err());
}
