//! Compiles rule sets and models: what put_rule_set() takes. Pure Rust.

use super::compile::{Compiled, Compiler};
use super::jsonb::Container;
use super::number::Number;
use super::program::{Body, Program, Rule, Score, Weight};
use super::value::Value;

/// A rule set `[{"id", "when", "score"}, ...]` or a model `{"model", "intercept", "weights"}`. `most_cost`: in operations.
pub fn rule_set(source: &[u8], most_cost: u64) -> Compiled<Program> {
    let mut compiler = Compiler::new(source, most_cost);
    let body = match Container::new(source).root() {
        Value::Stored(container) if container.is_object() => model(&mut compiler, container)?,
        Value::Stored(container) => rules(&mut compiler, container)?,
        _ => return compiler.refuse("rules are an array of rules, or an object that is a model"),
    };
    compiler.check_cost()?;
    Ok(compiler.interner.finish(source, body))
}

fn rules<'a>(compiler: &mut Compiler<'a>, list: Container<'a>) -> Compiled<Body> {
    let mut rules = Vec::with_capacity(list.len().min(10_000));
    let mut ids = std::collections::HashSet::new();
    for (number, value) in list.values().enumerate() {
        let rule = compiler.at(format!("[{number}]"), |compiler| {
            let Value::Stored(object) = value else {
                return compiler.refuse("a rule is an object with \"id\", \"when\" and \"score\"");
            };
            if !object.is_object() {
                return compiler.refuse("a rule is an object with \"id\", \"when\" and \"score\"");
            }
            known_keys(compiler, object, &[b"id", b"when", b"score"])?;
            let Some(Value::Text(id)) = object.get(b"id") else {
                return compiler.refuse("a rule has an \"id\", which is a text");
            };
            if id.is_empty() || !ids.insert(id) {
                let shown = String::from_utf8_lossy(id).into_owned();
                return compiler.refuse(format!("the id \"{shown}\" is empty, or another rule has it"));
            }
            let Some(when) = object.get(b"when") else { return compiler.refuse("a rule has a condition, \"when\"") };
            let Some(score) = object.get(b"score") else { return compiler.refuse("a rule has a \"score\"") };
            let when = compiler.at(".when".to_owned(), |compiler| compiler.expression(when))?;
            let mut slots = compiler.interner.slots_of(when);
            compiler.interner.used(when);
            let score = compiler.at(".score".to_owned(), |compiler| match score {
                Value::Number(Number::Int(int)) => Ok(Score::Int(int)),
                Value::Number(_) | Value::Stored(_) => {
                    let node = compiler.expression(score)?;
                    compiler.interner.used(node);
                    let mut seen: std::collections::HashSet<u32> = slots.iter().copied().collect();
                    slots.extend(compiler.interner.slots_of(node).into_iter().filter(|slot| seen.insert(*slot)));
                    Ok(Score::Node(node))
                }
                other => {
                    compiler.refuse(format!("a score is a number or yields one, and this is {}", other.type_name()))
                }
            })?;
            Ok(Rule { id: compiler.interner.range(id), when, score, slots })
        })?;
        rules.push(rule);
    }
    Ok(Body::Rules(rules))
}

fn model<'a>(compiler: &mut Compiler<'a>, object: Container<'a>) -> Compiled<Body> {
    known_keys(compiler, object, &[b"model", b"intercept", b"weights"])?;
    let logistic = match object.get(b"model") {
        Some(Value::Text(b"linear")) => false,
        Some(Value::Text(b"logistic")) => true,
        _ => return compiler.refuse("a model is \"linear\" or \"logistic\": rules are an array"),
    };
    let intercept = match object.get(b"intercept") {
        None => compiler.interner.constant_number(Value::int(0)),
        Some(value @ Value::Number(_)) => compiler.interner.constant_number(value),
        Some(_) => return compiler.at(".intercept".to_owned(), |compiler| compiler.refuse("it is a number")),
    };
    let Some(Value::Stored(list)) = object.get(b"weights").filter(|value| value.elements().is_some()) else {
        return compiler.refuse("a model has \"weights\", an array");
    };
    let mut weights = Vec::with_capacity(list.len().min(10_000));
    for (number, value) in list.values().enumerate() {
        let weight = compiler.at(format!(".weights[{number}]"), |compiler| {
            let Value::Stored(object) = value else {
                return compiler.refuse("a weight is an object with \"path\", \"weight\" and \"missing\"");
            };
            known_keys(compiler, object, &[b"path", b"weight", b"missing"])?;
            let Some(Value::Text(path)) = object.get(b"path") else {
                return compiler.refuse("a weight has a \"path\", which is a text");
            };
            let Some(weight @ Value::Number(_)) = object.get(b"weight") else {
                return compiler.refuse("a weight has a \"weight\", which is a number");
            };
            let missing = match object.get(b"missing") {
                None | Some(Value::Null) => None,
                Some(value @ Value::Number(_)) => Some(compiler.interner.constant_number(value)),
                Some(_) => return compiler.refuse("\"missing\", what counts where there is nothing, is a number"),
            };
            let keys = compiler.path_of(path)?;
            let slot = compiler.interner.slot(&keys);
            Ok(Weight { slot, weight: compiler.interner.constant_number(weight), missing })
        })?;
        weights.push(weight);
    }
    Ok(Body::Model { logistic, intercept, weights })
}

/// A key that means nothing is a misspelt one.
fn known_keys(compiler: &Compiler, object: Container, known: &[&[u8]]) -> Compiled<()> {
    match object.pairs().find(|(key, _)| !known.contains(key)) {
        Some((key, _)) => {
            let key = String::from_utf8_lossy(key).into_owned();
            compiler.refuse(format!("\"{key}\" is no key that means something here"))
        }
        None => Ok(()),
    }
}
