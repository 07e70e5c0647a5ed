//! What the plain engine calculates with: JSON, whose numbers are fractions of whole numbers of any length.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{Pow as _, Signed as _, Zero as _};
use serde_json::value::RawValue;

use super::{End, Gives};

/// Equal when the contents are, as `===` has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(BigRational),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

/// More than these, before or after the point, are not looked into.
const MOST_DIGITS: u64 = 2_000;

pub fn parse(text: &str) -> Json {
    let well = "JSON that was made is well formed";
    match text.trim_start().as_bytes()[0] {
        b'n' => Json::Null,
        b't' => Json::Bool(true),
        b'f' => Json::Bool(false),
        b'"' => Json::Text(serde_json::from_str(text).expect(well)),
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).expect(well);
            Json::List(items.into_iter().map(|item| parse(item.get())).collect())
        }
        b'{' => {
            let pairs: BTreeMap<String, &RawValue> = serde_json::from_str(text).expect(well);
            Json::Object(pairs.into_iter().map(|(key, value)| (key, parse(value.get()))).collect())
        }
        _ => Json::Number(spelt(text).expect(well)),
    }
}

/// The number that a text spells, as JavaScript reads it; blanks around it do not count, and nothing at all is 0.
pub fn spelt(text: &str) -> Option<BigRational> {
    let text = text.trim();
    if text.is_empty() {
        return Some(BigRational::zero());
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = BigRational::from(digits.parse::<BigInt>().ok()?) * ten_to(exponent - fraction.len() as i32);
    Some(if negative { -number } else { number })
}

fn ten_to(power: i32) -> BigRational {
    BigRational::from(BigInt::from(10)).pow(power)
}

/// How many digits a number has after the point; None: there is no end to them, or to our patience.
fn scale(number: &BigRational) -> Option<i32> {
    (0..=MOST_DIGITS as i32).find(|scale| (number * ten_to(*scale)).is_integer())
}

pub fn printed(number: &BigRational) -> Result<String, End> {
    let scale = scale(number).ok_or(End::Silent)?;
    let digits = (number.abs() * ten_to(scale)).to_integer().to_string();
    let digits = format!("{digits:0>width$}", width = scale as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
    let (sign, point) = (if number.is_negative() { "-" } else { "" }, if fraction.is_empty() { "" } else { "." });
    Ok(format!("{sign}{whole}{point}{fraction}"))
}

/// A number, if it is short enough to be followed.
pub fn kept(number: BigRational) -> Gives {
    match number.numer().bits().max(number.denom().bits()) > 3 * MOST_DIGITS {
        true => Err(End::Silent),
        false => Ok(Json::Number(number)),
    }
}

/// `numeric` gives a quotient sixteen digits at least. With more of them, or without an end, it is rounded, and that is not what is asked here.
pub fn quotient(a: BigRational, b: BigRational) -> Result<BigRational, End> {
    let quotient = a / b;
    let digits = printed(&quotient)?;
    let significant = digits.trim_start_matches(['-', '0', '.']).trim_end_matches('0').replace('.', "");
    let fraction = digits.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    if significant.len() > 16 || fraction > 300 { Err(End::Silent) } else { Ok(quotient) }
}

impl Json {
    /// null, false, 0, an empty text, array or object are false.
    pub fn truth(&self) -> bool {
        match self {
            Json::Null => false,
            Json::Bool(truth) => *truth,
            Json::Number(number) => !number.is_zero(),
            Json::Text(text) => !text.is_empty(),
            Json::List(list) => !list.is_empty(),
            Json::Object(pairs) => !pairs.is_empty(),
        }
    }

    pub fn is_composite(&self) -> bool {
        matches!(self, Json::List(_) | Json::Object(_))
    }

    /// null counts as 0, booleans as 0 and 1, a text as the number that it spells.
    pub fn number(&self) -> Result<BigRational, End> {
        match self {
            Json::Null => Ok(BigRational::zero()),
            Json::Bool(truth) => Ok(BigRational::from(BigInt::from(i32::from(*truth)))),
            Json::Number(number) => Ok(number.clone()),
            Json::Text(text) => spelt(text).ok_or(End::Fails),
            _ => Err(End::Fails),
        }
    }

    /// As `cat` puts it; an array's elements with commas between.
    pub fn text(&self) -> Result<String, End> {
        match self {
            Json::Null => Ok(String::new()),
            Json::Bool(truth) => Ok(truth.to_string()),
            Json::Number(number) => printed(number),
            Json::Text(text) => Ok(text.clone()),
            Json::List(list) => Ok(list.iter().map(Json::text).collect::<Result<Vec<_>, _>>()?.join(",")),
            Json::Object(_) => Err(End::Fails),
        }
    }

    /// What functions of texts take: no arrays.
    pub fn plain_text(&self) -> Result<String, End> {
        if self.is_composite() { Err(End::Fails) } else { self.text() }
    }

    /// What an object has under a key, or an array at a place.
    pub fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(pairs) => pairs.get(key),
            Json::List(list) => (0..list.len()).find(|place| place.to_string() == key).map(|place| &list[place]),
            _ => None,
        }
    }

    pub fn find(&self, keys: &[String]) -> Option<&Json> {
        keys.iter().try_fold(self, |value, key| value.get(key))
    }

    /// About how much there is of it.
    pub fn size(&self) -> usize {
        match self {
            Json::Null | Json::Bool(_) => 1,
            Json::Number(number) => 1 + (number.numer().bits() + number.denom().bits()) as usize / 64,
            Json::Text(text) => 1 + text.len() / 16,
            Json::List(list) => 1 + list.iter().map(Json::size).sum::<usize>(),
            Json::Object(pairs) => 1 + pairs.values().map(Json::size).sum::<usize>(),
        }
    }
}
