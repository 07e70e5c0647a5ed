//! The operators that look at nothing but the values of their arguments.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One as _, Signed as _, ToPrimitive as _, Zero as _};

use super::value::{Json, kept, quotient};
use super::{End, Gives};

/// `listed`: otherwise one argument that is an array stands for its elements.
pub fn call(name: &str, values: &[Json], listed: bool) -> Gives {
    let given = |number: usize| values.get(number).ok_or(End::Silent);
    match (name, values) {
        ("+" | "-" | "*" | "/" | "%" | "max" | "min", [Json::List(spread)]) if !listed => arithmetic(name, spread),
        ("+" | "-" | "*" | "/" | "%" | "max" | "min", _) => arithmetic(name, values),
        ("abs", _) => kept(given(0)?.number()?.abs()),
        ("ceil", _) => kept(given(0)?.number()?.ceil()),
        ("floor", _) => kept(given(0)?.number()?.floor()),
        ("log", [value]) => Ok(value.clone()),
        ("merge", _) => Ok(Json::List(values.iter().flat_map(elements).cloned().collect())),
        ("in", _) => contains(given(0)?, given(1)?),
        // The elements of one array are put together without commas.
        ("cat", [only @ Json::List(_)]) => cat(elements(only)),
        ("cat", _) => cat(values),
        ("substr", _) => substr(given(0)?, given(1)?, values.get(2)),
        ("length", [Json::Text(text)]) => Ok(count(text.chars().count())),
        ("length", [Json::List(list)]) => Ok(count(list.len())),
        ("length", _) => Err(End::Fails),
        ("starts_with", _) => Ok(Json::Bool(given(0)?.plain_text()?.starts_with(&given(1)?.plain_text()?))),
        ("ends_with", _) => Ok(Json::Bool(given(0)?.plain_text()?.ends_with(&given(1)?.plain_text()?))),
        ("upper", _) => Ok(Json::Text(given(0)?.plain_text()?.to_uppercase())),
        ("lower", _) => Ok(Json::Text(given(0)?.plain_text()?.to_lowercase())),
        ("trim", _) => Ok(Json::Text(given(0)?.plain_text()?.trim().to_owned())),
        _ => Err(End::Silent),
    }
}

fn count(many: usize) -> Json {
    Json::Number(BigInt::from(many).into())
}

fn elements(value: &Json) -> &[Json] {
    if let Json::List(list) = value { list } else { std::slice::from_ref(value) }
}

fn cat(parts: &[Json]) -> Gives {
    Ok(Json::Text(parts.iter().map(Json::text).collect::<Result<String, _>>()?))
}

pub fn compare(name: &str, a: &Json, b: &Json) -> Result<bool, End> {
    Ok(match name {
        "===" => a == b,
        "!==" => a != b,
        "==" => equal(a, b),
        "!=" => !equal(a, b),
        _ => {
            let order = match (a, b) {
                (Json::Text(a), Json::Text(b)) => a.cmp(b),
                _ => a.number()?.cmp(&b.number()?),
            };
            match name {
                "<" => order == Ordering::Less,
                "<=" => order != Ordering::Greater,
                ">" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            }
        }
    })
}

/// `==` of JavaScript, but for arrays and objects, which are equal by their contents, and equal nothing else.
fn equal(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Null, _) | (_, Json::Null) | (Json::Text(_), Json::Text(_)) => a == b,
        _ if a.is_composite() || b.is_composite() => a == b,
        _ => a.number().is_ok_and(|a| b.number() == Ok(a)),
    }
}

fn arithmetic(name: &str, values: &[Json]) -> Gives {
    let mut numbers = Vec::new();
    for value in values {
        let nothing = match value {
            Json::Text(text) => text.trim().is_empty(),
            value => matches!(value, Json::Null | Json::Bool(_)),
        };
        if nothing && matches!(name, "max" | "min") {
            return Err(End::Fails);
        }
        numbers.push(value.number()?);
    }
    match (name, numbers.as_slice()) {
        ("+", []) => return Ok(Json::Number(BigRational::zero())),
        ("*", []) => return Ok(Json::Number(BigRational::one())),
        (_, []) | ("%", [_]) => return Err(End::Fails),
        ("-", [only]) => return kept(-only),
        ("/", [_]) => numbers.insert(0, BigRational::one()),
        _ => {}
    }
    let mut numbers = numbers.into_iter();
    let mut folded = numbers.next().ok_or(End::Fails)?;
    for number in numbers {
        folded = match name {
            "/" | "%" if number.is_zero() => return Err(End::Fails),
            "+" => folded + number,
            "-" => folded - number,
            "*" => folded * number,
            "/" => quotient(folded, number)?,
            "%" => &folded - &number * (&folded / &number).trunc(),
            "max" => folded.max(number),
            _ => folded.min(number),
        };
        kept(folded.clone())?;
    }
    Ok(Json::Number(folded))
}

/// A part of a text, of which null is none; or an element of an array.
fn contains(needle: &Json, stack: &Json) -> Gives {
    Ok(Json::Bool(match stack {
        Json::Text(_) if *needle == Json::Null => false,
        Json::Text(text) => text.contains(&needle.text()?),
        Json::List(list) => list.contains(needle),
        _ => false,
    }))
}

/// As far as anybody counts.
pub fn clamped(number: &BigRational) -> i64 {
    const FAR: i64 = 1 << 40;
    let whole = number.to_integer();
    whole.to_i64().unwrap_or(if whole.is_negative() { -FAR } else { FAR }).clamp(-FAR, FAR)
}

/// A negative start counts from the end, a negative length leaves so many out there.
fn substr(text: &Json, start: &Json, length: Option<&Json>) -> Gives {
    let text: Vec<char> = text.plain_text()?.chars().collect();
    let all = text.len() as i64;
    let start = clamped(&start.number()?);
    let from = if start < 0 { (all + start).max(0) } else { start.min(all) };
    let to = match length {
        None | Some(Json::Null) => all,
        Some(length) => match clamped(&length.number()?) {
            length if length < 0 => all + length,
            length => (from + length).min(all),
        },
    };
    Ok(Json::Text(text.iter().skip(from as usize).take((to - from).max(0) as usize).collect()))
}
