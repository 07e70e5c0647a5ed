//! The same rules in every form: JsonLogic, jsonpath, and SQL.

use serde_json::{Value, json};

/// A condition on a lead, as people write them.
pub enum Condition {
    Is(&'static str, String),
    Above(&'static str, i64),
    OneOf(&'static str, Vec<String>),
    There(&'static str),
    Both(Box<Condition>, Box<Condition>),
}

use Condition::{Above, Both, Is, OneOf, There};

/// Rule number `n`: over 500 the constants differ, the fields do not.
pub fn condition(n: usize) -> Condition {
    let v = n / 10;
    let of = |list: &[&str]| list.get(v).map_or_else(|| format!("x{v}"), |word| (*word).to_owned());
    match n % 10 {
        0 => Is("utm_source", of(&["google", "facebook", "bing", "mail", "direct"])),
        1 => Above("budget", 1_000 * (v as i64 + 1)),
        2 => Both(
            Box::new(Is("country", of(&["DE", "FR", "US", "GB", "NL"]))),
            Box::new(Above("company.employees", 50 * v as i64)),
        ),
        3 => OneOf(
            "industry",
            ["software", "finance", "retail", "health"]
                .iter()
                .map(|word| format!("{word}{}", if v == 0 { String::new() } else { v.to_string() }))
                .collect(),
        ),
        4 => {
            if v == 0 {
                There("gclid")
            } else {
                Is("phone", format!("+49{v}"))
            }
        }
        5 => Both(Box::new(Is("utm_medium", "cpc".into())), Box::new(Is("utm_campaign", format!("c{v}")))),
        6 => Above("pages", v as i64 + 3),
        7 => Is("company.size", of(&["S", "M", "L", "XL", "XS"])),
        8 => Both(Box::new(Above("visits", v as i64)), Box::new(There("email"))),
        _ => Is("role", of(&["cto", "ceo", "dev", "ops", "hr"])),
    }
}

pub fn score(n: usize) -> usize {
    n % 7 + 1
}

impl Condition {
    pub fn logic(&self) -> Value {
        match self {
            Is(path, text) => json!({"==": [{"var": path}, text]}),
            Above(path, than) => json!({">": [{"var": path}, than]}),
            OneOf(path, texts) => json!({"in": [{"var": path}, texts]}),
            There(path) => json!({"!!": [{"var": path}]}),
            Both(a, b) => json!({"and": [a.logic(), b.logic()]}),
        }
    }

    /// A predicate for `@@`.
    pub fn jsonpath(&self) -> String {
        match self {
            Is(path, text) => format!("$.{path} == \"{text}\""),
            Above(path, than) => format!("$.{path} > {than}"),
            OneOf(path, texts) => {
                let any: Vec<String> = texts.iter().map(|text| format!("$.{path} == \"{text}\"")).collect();
                format!("({})", any.join(" || "))
            }
            There(path) => format!("exists($.{path})"),
            Both(a, b) => format!("({} && {})", a.jsonpath(), b.jsonpath()),
        }
    }

    pub fn sql(&self) -> String {
        let text = |path: &str| match path.split_once('.') {
            Some((first, second)) => format!("document -> '{first}' ->> '{second}'"),
            None => format!("document ->> '{path}'"),
        };
        match self {
            Is(path, word) => format!("({}) = '{word}'", text(path)),
            Above(path, than) => format!("({})::numeric > {than}", text(path)),
            OneOf(path, texts) => format!("({}) IN ('{}')", text(path), texts.join("', '")),
            There(path) => format!("({}) IS NOT NULL", text(path)),
            Both(a, b) => format!("({} AND {})", a.sql(), b.sql()),
        }
    }
}

/// What put_rule_set() takes.
pub fn rule_set(count: usize) -> String {
    let rules = (0..count).map(|n| json!({"id": format!("r{n}"), "when": condition(n).logic(), "score": score(n)}));
    Value::Array(rules.collect()).to_string()
}

/// By hand: one expression.
pub fn case(count: usize) -> String {
    let cases: Vec<String> =
        (0..count).map(|n| format!("CASE WHEN {} THEN {} ELSE 0 END", condition(n).sql(), score(n))).collect();
    cases.join(" + ")
}

/// Rows of a table (path, score).
pub fn paths(count: usize) -> String {
    let rows: Vec<String> = (0..count).map(|n| format!("('{}', {})", condition(n).jsonpath(), score(n))).collect();
    rows.join(", ")
}
