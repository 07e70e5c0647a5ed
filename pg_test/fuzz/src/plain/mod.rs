//! A second engine of JsonLogic, to compare with: straight from the rules of jsonlogic.com and docs/scoring.md, with nothing compiled, shared, stored in binary or fast.
//!
//! It calls itself down the rule as it is written, copies every value, and shares no code with the extension. What it leaves out, and then is [`End::Silent`] about:
//! - quotients of more than sixteen digits, which `numeric` rounds, and numbers of some thousand digits;
//! - `now` and `days_between`, which jsonlogic.com does not have;
//! - paths for `missing` that are no text, number or null; more arguments than an operator has a use for;
//! - models;
//! - what takes so long that budgets decide.
//!
//! That it notices faults is shown by `cargo run --bin fuzz`: each operator of the extension's is given as another one in turn.

mod operators;
mod value;

use std::collections::BTreeMap;

pub use value::{Json, parse};

/// There is no value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// The rule fails for this document.
    Fails,
    /// This engine does not say.
    Silent,
}

pub type Gives = Result<Json, End>;

/// How much may be made on the way.
const MOST: usize = 200_000;

/// What an expression stands in: the document, or an element of an array.
#[derive(Clone, Copy)]
struct Place<'p> {
    data: &'p Json,
    index: usize,
    around: Option<&'p Place<'p>>,
}

struct Plain {
    left: usize,
}

/// The value of a rule that the extension took.
pub fn evaluate(rule: &str, document: &str) -> Gives {
    let (rule, document) = (parse(rule), parse(document));
    Plain { left: MOST }.eval(&rule, Place { data: &document, index: 0, around: None })
}

/// The sum of the scores, which are numbers, of the rules that hold; one that fails counts nothing.
pub fn score(rules: &str, document: &str) -> Gives {
    let Json::List(rules) = parse(rules) else { return Err(End::Silent) };
    let document = parse(document);
    let mut sum = Json::Null.number()?;
    for rule in &rules {
        let part = |name| rule.get(name).ok_or(End::Silent);
        match (Plain { left: MOST }).eval(part("when")?, Place { data: &document, index: 0, around: None }) {
            Ok(holds) if holds.truth() => sum += part("score")?.number()?,
            Ok(_) | Err(End::Fails) => {}
            Err(End::Silent) => return Err(End::Silent),
        }
    }
    Ok(Json::Number(sum))
}

impl Plain {
    fn eval(&mut self, rule: &Json, at: Place) -> Gives {
        let value = match rule {
            Json::List(items) => Json::List(self.all(items, at)?),
            Json::Object(pairs) if pairs.len() == 1 => {
                let (name, arguments) = pairs.iter().next().ok_or(End::Silent)?;
                match arguments {
                    Json::List(given) => self.operation(name, given, true, at)?,
                    only => self.operation(name, std::slice::from_ref(only), false, at)?,
                }
            }
            value => value.clone(),
        };
        self.left = self.left.checked_sub(value.size()).ok_or(End::Silent)?;
        Ok(value)
    }

    fn all(&mut self, given: &[Json], at: Place) -> Result<Vec<Json>, End> {
        given.iter().map(|argument| self.eval(argument, at)).collect()
    }

    /// `listed`: the arguments stand in an array, and are not one without it.
    fn operation(&mut self, name: &str, given: &[Json], listed: bool, at: Place) -> Gives {
        match name {
            "var" => self.var(given, at),
            "val" | "exists" => self.val(name, given, listed, at),
            "if" | "?:" => self.choose(given, at),
            "and" => self.first(given, at, |value| !value.truth()),
            "or" => self.first(given, at, Json::truth),
            "??" => self.first(given, at, |value| *value != Json::Null),
            "!" | "!!" if given.len() > 1 => Err(End::Silent),
            "!" | "!!" => {
                let value = self.first(given, at, |_| true)?;
                Ok(Json::Bool(value.truth() == (name == "!!")))
            }
            "==" | "!=" | "===" | "!==" | "<" | "<=" | ">" | ">=" => self.chain(name, given, at),
            "map" | "filter" | "all" | "none" | "some" | "reduce" => self.through(name, given, at),
            "missing" | "missing_some" => self.missing(name, given, at),
            _ => {
                let values = self.all(given, at)?;
                operators::call(name, &values, listed || given.iter().any(|argument| !is_operation(argument)))
            }
        }
    }

    /// The first of the values that is as it should be, or the last.
    fn first(&mut self, given: &[Json], at: Place, wanted: impl Fn(&Json) -> bool) -> Gives {
        let mut last = Json::Null;
        for argument in given {
            last = self.eval(argument, at)?;
            if wanted(&last) {
                break;
            }
        }
        Ok(last)
    }

    fn choose(&mut self, given: &[Json], at: Place) -> Gives {
        match given {
            [] => Ok(Json::Null),
            [otherwise] => self.eval(otherwise, at),
            [condition, then, rest @ ..] => match self.eval(condition, at)?.truth() {
                true => self.eval(then, at),
                false => self.choose(rest, at),
            },
        }
    }

    /// Each two that follow each other.
    fn chain(&mut self, name: &str, given: &[Json], at: Place) -> Gives {
        let mut left = self.eval(&given[0], at)?;
        for argument in &given[1..] {
            let right = self.eval(argument, at)?;
            if !operators::compare(name, &left, &right)? {
                return Ok(Json::Bool(false));
            }
            left = right;
        }
        Ok(Json::Bool(true))
    }

    fn var(&mut self, given: &[Json], at: Place) -> Gives {
        let path = match given.first() {
            None => Json::Null,
            Some(path) => self.eval(path, at)?,
        };
        if matches!(path, Json::Bool(_)) || path.is_composite() {
            return Err(End::Fails);
        }
        match (at.data.find(&keys(&path.text()?)), given.get(1)) {
            (Some(value), _) => Ok(value.clone()),
            (None, Some(otherwise)) => self.eval(otherwise, at),
            (None, None) => Ok(Json::Null),
        }
    }

    /// A key for each argument; an array before them says how far to go out.
    fn val(&mut self, name: &str, given: &[Json], listed: bool, at: Place) -> Gives {
        let (mut at, mut given) = (at, given);
        if let ("val", true, Some(Json::List(levels))) = (name, listed, given.first()) {
            let levels = levels.first().ok_or(End::Silent)?.number()?;
            let mut levels: i64 = operators::clamped(&levels).abs();
            given = &given[1..];
            while levels > 1 {
                at = *at.around.ok_or(End::Silent)?;
                levels -= 2;
            }
            if levels == 1 {
                return Ok(Json::Number(num_bigint::BigInt::from(at.index).into()));
            }
        }
        let mut keys = Vec::new();
        for key in given.iter().filter(|key| given.len() > 1 || **key != Json::Null) {
            match self.eval(key, at)? {
                key @ (Json::Text(_) | Json::Number(_)) => keys.push(key.text()?),
                _ => return Err(End::Fails),
            }
        }
        let found = at.data.find(&keys);
        Ok(if name == "exists" { Json::Bool(found.is_some()) } else { found.cloned().unwrap_or(Json::Null) })
    }

    fn through(&mut self, name: &str, given: &[Json], at: Place) -> Gives {
        let list = self.eval(&given[0], at)?;
        let start = if let Some(start) = given.get(2) { self.eval(start, at)? } else { Json::Null };
        let Json::List(list) = list else {
            return Ok(match name {
                "map" | "filter" => Json::List(Vec::new()),
                "reduce" => start,
                _ => Json::Bool(name == "none"),
            });
        };
        let (mut made, mut accumulator) = (Vec::new(), start);
        for (index, element) in list.iter().enumerate() {
            let both;
            let mut data = element;
            if name == "reduce" {
                let pairs = [("current", element.clone()), ("accumulator", accumulator.clone())];
                both = Json::Object(
                    pairs.map(|(key, value)| (key.to_owned(), value)).into_iter().collect::<BTreeMap<_, _>>(),
                );
                data = &both;
            }
            let value = self.eval(&given[1], Place { data, index, around: Some(&at) })?;
            match name {
                "map" => made.push(value),
                "filter" if value.truth() => made.push(element.clone()),
                "reduce" => accumulator = value,
                "all" if !value.truth() => return Ok(Json::Bool(false)),
                "some" if value.truth() => return Ok(Json::Bool(true)),
                "none" if value.truth() => return Ok(Json::Bool(false)),
                _ => {}
            }
        }
        Ok(match name {
            "map" | "filter" => Json::List(made),
            "reduce" => accumulator,
            "all" => Json::Bool(!list.is_empty()),
            _ => Json::Bool(name == "none"),
        })
    }

    fn missing(&mut self, name: &str, given: &[Json], at: Place) -> Gives {
        let values = self.all(given, at)?;
        let wanted = match (name, values.as_slice()) {
            ("missing_some", [_, Json::List(wanted)]) | ("missing", [Json::List(wanted), ..]) => wanted,
            ("missing_some", _) => return Err(End::Silent),
            (_, wanted) => wanted,
        };
        let mut missing = Vec::new();
        for path in wanted {
            if matches!(path, Json::Bool(_)) || path.is_composite() {
                return Err(End::Silent);
            }
            let found = at.data.find(&keys(&path.text()?)).unwrap_or(&Json::Null);
            if *found == Json::Null || *found == Json::Text(String::new()) {
                missing.push(path.clone());
            }
        }
        let there = Json::Number(num_bigint::BigInt::from(wanted.len() - missing.len()).into());
        if name == "missing_some" && there.number()? >= values[0].number()? {
            missing.clear();
        }
        Ok(Json::List(missing))
    }
}

fn is_operation(argument: &Json) -> bool {
    matches!(argument, Json::Object(pairs) if pairs.len() == 1)
}

/// The keys of a dotted path.
fn keys(path: &str) -> Vec<String> {
    if path.is_empty() { Vec::new() } else { path.split('.').map(str::to_owned).collect() }
}
