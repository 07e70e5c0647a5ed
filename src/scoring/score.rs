//! Scores a document: with the reasons, or without. Pure Rust.

use bumpalo::Bump;

use super::fault::{Fault, Ran};
use super::number::{self, Number};
use super::operator::Arithmetic;
use super::program::{Body, Program, Score, Weight};
use super::run::{Limits, Run};
use super::value::Value;

/// Digits after the point of a logistic score.
const PROBABILITY_DIGITS: usize = 15;

/// A document's score.
pub struct Scored<'a> {
    pub score: Number<'a>,
    /// Rules that failed.
    pub failed: usize,
}

/// The value of one expression.
pub fn evaluate<'a>(program: &'a Program, document: Value<'a>, arena: &'a Bump, limits: Limits<'a>) -> Ran<Value<'a>> {
    let mut run = Run::new(program, document, arena, limits)?;
    match program.body {
        Body::Rule(node) => run.eval(node, None),
        _ => score_in(&mut run).map(|scored| Value::Number(scored.score)),
    }
}

/// The sum of the scores of the rules that hold. A rule that fails adds nothing, and the others count.
pub fn score<'a>(program: &'a Program, document: Value<'a>, arena: &'a Bump, limits: Limits<'a>) -> Ran<Scored<'a>> {
    score_in(&mut Run::new(program, document, arena, limits)?)
}

fn score_in<'a>(run: &mut Run<'a>) -> Ran<Scored<'a>> {
    let program = run.program;
    match &program.body {
        Body::Rules(rules) => {
            let mut scored = Scored { score: Number::Int(0), failed: 0 };
            for rule in rules {
                let holds = match run.test(rule.when, None) {
                    Ok(holds) => holds,
                    Err(fault) if fault.is_final() => return Err(fault),
                    Err(_) => {
                        scored.failed += 1;
                        continue;
                    }
                };
                if !holds {
                    continue;
                }
                if let (Score::Int(score), Number::Int(sum)) = (rule.score, scored.score)
                    && let Some(sum) = sum.checked_add(score)
                {
                    scored.score = Number::Int(sum);
                    continue;
                }
                match points(run, rule.score).and_then(|points| run.binary(Arithmetic::Add, scored.score, points)) {
                    Ok(sum) => scored.score = sum,
                    Err(fault) if fault.is_final() => return Err(fault),
                    Err(_) => scored.failed += 1,
                }
            }
            Ok(scored)
        }
        Body::Model { logistic, intercept, weights } => {
            let mut scored = Scored { score: constant(program, *intercept), failed: 0 };
            for weight in weights {
                match contribution(run, weight).and_then(|part| run.binary(Arithmetic::Add, scored.score, part)) {
                    Ok(sum) => scored.score = sum,
                    Err(fault) if fault.is_final() => return Err(fault),
                    Err(_) => scored.failed += 1,
                }
            }
            if *logistic {
                scored.score = probability(run, scored.score)?;
            }
            Ok(scored)
        }
        Body::Rule(node) => {
            let value = run.eval(*node, None)?;
            Ok(Scored { score: run.number(value)?, failed: 0 })
        }
    }
}

fn points<'a>(run: &mut Run<'a>, score: Score) -> Ran<Number<'a>> {
    match score {
        Score::Int(int) => Ok(Number::Int(int)),
        Score::Node(node) => match run.eval(node, None)? {
            Value::Number(number) => Ok(number),
            other => Err(Fault::Needs { what: "a score, which is a number,", got: other.type_name() }),
        },
    }
}

fn constant(program: &Program, number: u32) -> Number<'_> {
    if let Value::Number(number) = program.constant(number) { number } else { Number::Int(0) }
}

/// A weight times what its path leads to; nothing counts as `missing`, or adds nothing.
fn contribution<'a>(run: &mut Run<'a>, weight: &Weight) -> Ran<Number<'a>> {
    let program = run.program;
    let value = match (run.slot(weight.slot), weight.missing) {
        (Value::Missing | Value::Null, Some(missing)) => constant(program, missing),
        (Value::Missing | Value::Null, None) => Number::Int(0),
        (value, _) => run.number(value)?,
    };
    run.binary(Arithmetic::Multiply, constant(program, weight.weight), value)
}

/// One over one and e to the power of less the sum, to fifteen digits.
fn probability<'a>(run: &mut Run<'a>, sum: Number<'a>) -> Ran<Number<'a>> {
    let probability = 1.0 / (1.0 + (-sum.to_float()).exp());
    let printed = format!("{probability:.PROBABILITY_DIGITS$}");
    let parsed = number::parse(printed.as_bytes()).ok_or(Fault::NotANumber)?;
    run.settle(parsed)
}

/// The score with the rules that hold and what they saw, and those that failed and why: an object.
pub fn explain<'a>(
    program: &'a Program,
    version: Option<i64>,
    document: Value<'a>,
    arena: &'a Bump,
    limits: Limits<'a>,
) -> Ran<Value<'a>> {
    let mut run = Run::new(program, document, arena, limits)?;
    let mut fired = Vec::new();
    let mut errors = Vec::new();
    let mut sum = Number::Int(0);
    let mut extra = None;
    match &program.body {
        Body::Rules(rules) => {
            for rule in rules {
                let id = Value::Text(program.bytes(rule.id));
                let points = match run.test(rule.when, None) {
                    Ok(false) => continue,
                    Ok(true) => points(&mut run, rule.score),
                    Err(fault) => Err(fault),
                };
                let added = points.and_then(|points| Ok((points, run.binary(Arithmetic::Add, sum, points)?)));
                match added {
                    Ok((points, total)) => {
                        sum = total;
                        fired.push(entry(&mut run, id, points, &rule.slots)?);
                    }
                    Err(fault) => errors.push(failure(&mut run, id, fault)?),
                }
            }
        }
        Body::Model { logistic, intercept, weights } => {
            sum = constant(program, *intercept);
            fired.push(entry(&mut run, Value::Text(b"intercept"), sum, &[])?);
            for weight in weights {
                let id = Value::Text(&program.slots[weight.slot as usize]);
                let part = contribution(&mut run, weight);
                match part.and_then(|part| Ok((part, run.binary(Arithmetic::Add, sum, part)?))) {
                    Ok((part, total)) => {
                        sum = total;
                        fired.push(entry(&mut run, id, part, &[weight.slot])?);
                    }
                    Err(fault) => errors.push(failure(&mut run, id, fault)?),
                }
            }
            if *logistic {
                extra = Some(sum);
                sum = probability(&mut run, sum)?;
            }
        }
        Body::Rule(node) => {
            let value = run.eval(*node, None)?;
            sum = run.number(value)?;
        }
    }
    let version = version.map_or(Value::Null, Value::int);
    let (fired, errors) = (run.keep_list(&fired)?, run.keep_list(&errors)?);
    let mut pairs: Vec<(&'a [u8], Value<'a>)> =
        vec![(b"score", Value::Number(sum)), (b"version", version), (b"fired", fired), (b"errors", errors)];
    // What the fired parts of a logistic model add up to.
    pairs.extend(extra.map(|sum| (&b"sum"[..], Value::Number(sum))));
    Ok(Value::Pairs(arena.alloc_slice_copy(&pairs)))
}

fn entry<'a>(run: &mut Run<'a>, id: Value<'a>, score: Number<'a>, slots: &[u32]) -> Ran<Value<'a>> {
    let program = run.program;
    let mut values: Vec<(&'a [u8], Value<'a>)> = Vec::with_capacity(slots.len());
    for slot in slots {
        if !matches!(run.slot(*slot), Value::Missing) {
            values.push((&program.slots[*slot as usize], run.slot(*slot)));
        }
    }
    let shown: usize = values.iter().map(|(_, value)| value.size()).sum();
    run.take(size_of_val(&values[..]) + shown + 128)?;
    let values = Value::Pairs(run.arena.alloc_slice_copy(&values));
    let pairs: [(&'a [u8], Value<'a>); 3] = [(b"id", id), (b"score", Value::Number(score)), (b"values", values)];
    Ok(Value::Pairs(run.arena.alloc(pairs)))
}

fn failure<'a>(run: &mut Run<'a>, id: Value<'a>, fault: Fault) -> Ran<Value<'a>> {
    if fault.is_final() {
        return Err(fault);
    }
    let message = run.keep(fault.message().as_bytes())?;
    let pairs: [(&'a [u8], Value<'a>); 2] = [(b"id", id), (b"error", Value::Text(message))];
    Ok(Value::Pairs(run.arena.alloc(pairs)))
}
