//! Numbers: a machine word where it fits, else the server's own bytes. Pure Rust.
//!
//! A number of a document is read from its binary form at once, without a copy where it is long. Nothing is rounded: 0.1 + 0.2 is 0.3.

use std::cmp::Ordering;

use super::decimal::{Decimal, TooLong};

/// A number and how it is shown: 1.50 is not 1.5, though equal.
#[derive(Clone, Copy, Debug)]
pub enum Number<'a> {
    Int(i64),
    /// `mantissa` divided by ten to the power of `scale`, which is 1 to 18.
    Dec {
        mantissa: i64,
        scale: u8,
    },
    /// What fits neither: a numeric as the server stores it, without its length.
    Long(&'a [u8]),
}

pub const MOST_SMALL_SCALE: u32 = 18;

/// Ten to these powers.
pub const POWERS: [i64; 19] = {
    let mut powers = [1; 19];
    let mut at = 1;
    while at < 19 {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

// The server's numeric.c: a short header is one word, a long one two.
const SIGN_MASK: u16 = 0xC000;
pub const NEGATIVE: u16 = 0x4000;
pub const SHORT: u16 = 0x8000;
const SPECIAL: u16 = 0xC000;
pub const SHORT_NEGATIVE: u16 = 0x2000;
const SHORT_SCALE_MASK: u16 = 0x1F80;
pub const SHORT_SCALE_SHIFT: u16 = 7;
pub const SHORT_WEIGHT_SIGN: u16 = 0x0040;
pub const SHORT_WEIGHT_MASK: u16 = 0x003F;
pub const SCALE_MASK: u16 = 0x3FFF;

struct Parts<'a> {
    negative: bool,
    weight: i32,
    scale: u32,
    digits: &'a [u8],
}

#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|word| u16::from_ne_bytes([word[0], word[1]]))
}

#[inline]
fn parts(bytes: &[u8]) -> Option<Parts<'_>> {
    let header = word(bytes, 0)?;
    if header & SIGN_MASK == SHORT {
        let weight = i32::from(header & SHORT_WEIGHT_MASK);
        let weight = if header & SHORT_WEIGHT_SIGN != 0 { weight - 64 } else { weight };
        let scale = u32::from((header & SHORT_SCALE_MASK) >> SHORT_SCALE_SHIFT);
        return Some(Parts { negative: header & SHORT_NEGATIVE != 0, weight, scale, digits: &bytes[2..] });
    }
    if header & SIGN_MASK == SPECIAL {
        return None;
    }
    let weight = i32::from(word(bytes, 2)? as i16);
    let scale = u32::from(header & SCALE_MASK);
    Some(Parts { negative: header & SIGN_MASK == NEGATIVE, weight, scale, digits: &bytes[4..] })
}

impl<'a> Number<'a> {
    /// A numeric as the server stores it, without its length. None for NaN and infinities, which jsonb has not.
    #[inline]
    pub fn read(bytes: &'a [u8]) -> Option<Number<'a>> {
        let parts = parts(bytes)?;
        Some(parts.small().unwrap_or(Number::Long(bytes)))
    }

    #[inline]
    pub fn small(mantissa: i64, scale: u32) -> Option<Number<'static>> {
        match scale {
            0 => Some(Number::Int(mantissa)),
            1..=MOST_SMALL_SCALE => Some(Number::Dec { mantissa, scale: scale as u8 }),
            _ => None,
        }
    }

    fn decimal(&self) -> Decimal {
        match *self {
            Number::Int(int) => Decimal::of(i128::from(int), 0),
            Number::Dec { mantissa, scale } => Decimal::of(i128::from(mantissa), u32::from(scale)),
            Number::Long(bytes) => parts(bytes).map_or_else(Decimal::default, |parts| Decimal {
                negative: parts.negative,
                weight: parts.weight,
                scale: parts.scale,
                digits: parts.digits.chunks_exact(2).map(|word| u16::from_ne_bytes([word[0], word[1]])).collect(),
            }),
        }
    }

    #[inline]
    pub fn scaled(&self) -> Option<(i64, u32)> {
        match *self {
            Number::Int(int) => Some((int, 0)),
            Number::Dec { mantissa, scale } => Some((mantissa, u32::from(scale))),
            Number::Long(_) => None,
        }
    }

    /// Both with the larger scale.
    #[inline]
    fn aligned(&self, other: &Number) -> Option<(i128, i128, u32)> {
        let ((a, a_scale), (b, b_scale)) = (self.scaled()?, other.scaled()?);
        let scale = a_scale.max(b_scale);
        let to = |value: i64, from: u32| i128::from(value) * i128::from(POWERS[(scale - from) as usize]);
        Some((to(a, a_scale), to(b, b_scale), scale))
    }

    /// How many groups of four digits work with it goes through: for the budget.
    pub fn length(&self) -> usize {
        if let Number::Long(bytes) = self { bytes.len() / 2 } else { 1 }
    }

    /// How many groups of four digits it is written with, zeros among them.
    pub fn span(&self) -> usize {
        let Number::Long(bytes) = self else { return 1 };
        parts(bytes).map_or(1, |parts| (parts.weight.max(0) as usize) + 2 + parts.scale as usize / 4)
    }

    #[inline]
    pub fn is_zero(&self) -> bool {
        match *self {
            Number::Int(int) => int == 0,
            Number::Dec { mantissa, .. } => mantissa == 0,
            Number::Long(bytes) => parts(bytes).is_none_or(|parts| parts.digits.is_empty()),
        }
    }

    #[inline]
    pub fn compare(&self, other: &Number) -> Ordering {
        if let (Number::Int(a), Number::Int(b)) = (self, other) {
            return a.cmp(b);
        }
        match self.aligned(other) {
            Some((a, b, _)) => a.cmp(&b),
            None => self.decimal().compare(&other.decimal()),
        }
    }

    /// A whole number that fits a machine word, whatever zeros it is shown with.
    pub fn to_int(self) -> Option<i64> {
        match self {
            Number::Int(int) => Some(int),
            Number::Dec { mantissa, scale } => {
                let power = POWERS[usize::from(scale)];
                (mantissa % power == 0).then_some(mantissa / power)
            }
            Number::Long(_) => {
                let decimal = self.decimal();
                if decimal.least_scale() > 0 {
                    return None;
                }
                decimal.truncated(0).small().and_then(|(mantissa, _)| i64::try_from(mantissa).ok())
            }
        }
    }

    /// The nearest machine number.
    pub fn to_float(self) -> f64 {
        let mut text = Vec::new();
        self.print(&mut text);
        std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
    }

    /// As the server prints it.
    pub fn print(&self, out: &mut Vec<u8>) {
        match *self {
            Number::Int(int) => out.extend_from_slice(int.to_string().as_bytes()),
            _ => self.decimal().print(out),
        }
    }

    /// Without zeros after the point, as JavaScript has it.
    pub fn print_shortest(&self, out: &mut Vec<u8>) {
        if let Number::Int(_) = self {
            return self.print(out);
        }
        let decimal = self.decimal();
        let scale = decimal.least_scale();
        Decimal { scale, ..decimal }.print(out);
    }
}

impl Parts<'_> {
    #[inline]
    fn small(&self) -> Option<Number<'static>> {
        let count = self.digits.len() / 2;
        if count == 0 {
            return Number::small(0, self.scale);
        }
        if count > 5 || self.weight > 4 || self.weight < -5 {
            return None;
        }
        let mut mantissa = 0i128;
        for digit in self.digits.chunks_exact(2) {
            mantissa = mantissa * 10_000 + i128::from(u16::from_ne_bytes([digit[0], digit[1]]));
        }
        let has = (count as i32 - 1 - self.weight) * 4;
        let missing = self.scale as i32 - has;
        if !(-36..=18).contains(&missing) {
            return None;
        }
        if missing > 0 {
            mantissa *= i128::from(POWERS[missing as usize]);
        } else {
            for _ in 0..-missing {
                mantissa /= 10;
            }
        }
        let mantissa = i64::try_from(mantissa).ok()?;
        Number::small(if self.negative { -mantissa } else { mantissa }, self.scale)
    }
}

/// The result of an operation: a long one is still to be given memory.
#[derive(Debug)]
pub enum Outcome {
    Small(Number<'static>),
    Long(Decimal),
}

impl Outcome {
    #[inline]
    fn of(mantissa: i128, scale: u32) -> Outcome {
        if let Ok(small) = i64::try_from(mantissa)
            && let Some(number) = Number::small(small, scale)
        {
            return Outcome::Small(number);
        }
        Outcome::Long(Decimal::of(mantissa, scale))
    }
}

impl From<Decimal> for Outcome {
    fn from(decimal: Decimal) -> Outcome {
        match decimal.small() {
            Some((mantissa, scale)) => Outcome::of(mantissa, scale),
            None => Outcome::Long(decimal),
        }
    }
}

#[inline]
pub fn add(a: Number, b: Number) -> Result<Outcome, TooLong> {
    if let (Number::Int(a), Number::Int(b)) = (a, b)
        && let Some(sum) = a.checked_add(b)
    {
        return Ok(Outcome::Small(Number::Int(sum)));
    }
    match a.aligned(&b) {
        Some((a, b, scale)) => Ok(Outcome::of(a + b, scale)),
        None => a.decimal().add(&b.decimal()).map(Outcome::from),
    }
}

pub fn negate(a: Number) -> Outcome {
    match a.scaled() {
        Some((mantissa, scale)) => Outcome::of(-i128::from(mantissa), scale),
        None => Outcome::from(a.decimal().negated()),
    }
}

pub fn subtract(a: Number, b: Number) -> Result<Outcome, TooLong> {
    match a.aligned(&b) {
        Some((a, b, scale)) => Ok(Outcome::of(a - b, scale)),
        None => a.decimal().add(&b.decimal().negated()).map(Outcome::from),
    }
}

pub fn multiply(a: Number, b: Number) -> Result<Outcome, TooLong> {
    match (a.scaled(), b.scaled()) {
        (Some((a, a_scale)), Some((b, b_scale))) => Ok(Outcome::of(i128::from(a) * i128::from(b), a_scale + b_scale)),
        _ => a.decimal().multiply(&b.decimal()).map(Outcome::from),
    }
}

/// `b` is not zero.
pub fn divide(a: Number, b: Number) -> Result<Outcome, TooLong> {
    if let (Number::Int(a), Number::Int(b)) = (a, b)
        && a.checked_rem(b) == Some(0)
    {
        return Ok(Outcome::Small(Number::Int(a / b)));
    }
    a.decimal().divide(&b.decimal()).map(Outcome::from)
}

/// `b` is not zero.
pub fn remainder(a: Number, b: Number) -> Result<Outcome, TooLong> {
    match a.aligned(&b) {
        Some((a, b, scale)) => Ok(Outcome::of(a % b, scale)),
        None => a.decimal().remainder(&b.decimal()).map(Outcome::from),
    }
}

pub fn absolute(a: Number) -> Outcome {
    match a.scaled() {
        Some((mantissa, scale)) => Outcome::of(i128::from(mantissa).abs(), scale),
        None => Outcome::from(Decimal { negative: false, ..a.decimal() }),
    }
}

/// The next whole number: up (`up`) or down.
pub fn whole(a: Number, up: bool) -> Result<Outcome, TooLong> {
    if let Some((mantissa, scale)) = a.scaled() {
        let power = i128::from(POWERS[scale as usize]);
        let mantissa = i128::from(mantissa);
        let down = mantissa.div_euclid(power);
        return Ok(Outcome::of(if up && mantissa.rem_euclid(power) != 0 { down + 1 } else { down }, 0));
    }
    let decimal = a.decimal();
    let whole = decimal.truncated(0);
    if whole.compare(&decimal) == Ordering::Equal
        || whole.compare(&decimal) == (if up { Ordering::Greater } else { Ordering::Less })
    {
        return Ok(Outcome::from(whole));
    }
    whole.add(&Decimal::of(if up { 1 } else { -1 }, 0)).map(Outcome::from)
}

/// No number is longer than this as a text, in bytes.
pub const LONGEST_SPELT: usize = 200_000;

/// As JavaScript reads a text as a number: blanks around it do not count, and nothing at all is 0. None: it is no number.
pub fn parse(text: &[u8]) -> Option<Outcome> {
    if text.len() > LONGEST_SPELT {
        return None;
    }
    let text = text.trim_ascii();
    if text.is_empty() {
        return Some(Outcome::Small(Number::Int(0)));
    }
    let (negative, rest) = match text[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (whole, rest) = rest.split_at(digits(rest));
    let (fraction, rest) = match rest.split_first() {
        Some((b'.', rest)) => rest.split_at(digits(rest)),
        _ => (&rest[..0], rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let exponent = match rest.split_first() {
        None => 0,
        Some((b'e' | b'E', power)) => {
            let (minus, power) = match power.split_first() {
                Some((b'-', power)) => (true, power),
                Some((b'+', power)) => (false, power),
                _ => (false, power),
            };
            if power.is_empty() || digits(power) != power.len() {
                return None;
            }
            let power: i32 = std::str::from_utf8(power).ok()?.parse().ok().filter(|power| *power <= 200_000)?;
            if minus { -power } else { power }
        }
        Some(_) => return None,
    };
    if exponent == 0 && whole.len() + fraction.len() <= 18 {
        let mantissa = whole.iter().chain(fraction).fold(0i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        return Some(Outcome::of(i128::from(if negative { -mantissa } else { mantissa }), fraction.len() as u32));
    }
    Decimal::parse(negative, whole, fraction, exponent).map(Outcome::from)
}
