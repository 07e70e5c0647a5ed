//! Decimals of any length, for what does not fit a machine word: base 10,000, as the server's numeric. Pure Rust.
//!
//! Exact as numeric is exact: sums, differences and products have every digit; a quotient has as many as the server would give it
//! (`select_div_scale` in its numeric.c), less the zeros at its end.

use std::cmp::Ordering;

const BASE: u32 = 10_000;
const BASE_DIGITS: i32 = 4;
/// Digits after the point that the server keeps at the most.
const MOST_SCALE: u32 = 16_383;
/// Digits before the point, in groups of four.
const MOST_WEIGHT: i32 = 131_072 / 4 - 1;
/// The largest product of two lengths in groups of four: some milliseconds of work, because nothing can interrupt it.
pub const MOST_WORK: usize = 4_000_000;
/// Of a quotient, as the server has it.
const LEAST_SIGNIFICANT: i32 = 16;
const MOST_QUOTIENT_SCALE: i32 = 1_000;

/// Longer than a decimal can be, or than can be worked with at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong;

/// `digits[0]` counts `BASE` to the power of `weight`. No zero at either end; zero has no digits.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Decimal {
    pub negative: bool,
    pub weight: i32,
    /// Decimal digits after the point that are shown.
    pub scale: u32,
    pub digits: Vec<u16>,
}

impl Decimal {
    /// `mantissa` divided by ten to the power of `scale`.
    pub fn of(mantissa: i128, scale: u32) -> Decimal {
        let padding = (BASE_DIGITS as u32 - scale % BASE_DIGITS as u32) % BASE_DIGITS as u32;
        let mut left = mantissa.unsigned_abs();
        let mut digits = Vec::with_capacity(11);
        if padding != 0 && left != 0 {
            // The lowest group has zeros at its end.
            let unit = 10u128.pow(BASE_DIGITS as u32 - padding);
            digits.push((left % unit) as u16 * 10u16.pow(padding));
            left /= unit;
        }
        while left != 0 {
            digits.push((left % u128::from(BASE)) as u16);
            left /= u128::from(BASE);
        }
        digits.reverse();
        let weight = digits.len() as i32 - 1 - (scale + padding) as i32 / BASE_DIGITS;
        Decimal { negative: mantissa < 0, weight, scale, digits }.trimmed()
    }

    /// As `mantissa` and scale, if it fits: `scale` digits after the point, or fewer groups.
    pub fn small(&self) -> Option<(i128, u32)> {
        if self.digits.is_empty() {
            return Some((0, self.scale));
        }
        if self.digits.len() > 9 || self.weight > 8 || self.scale > 36 {
            return None;
        }
        let mut mantissa = self.digits.iter().try_fold(0i128, |sum, digit| {
            sum.checked_mul(i128::from(BASE)).and_then(|sum| sum.checked_add(i128::from(*digit)))
        })?;
        // Decimal digits after the point that `mantissa` has now; negative: zeros before it.
        let has = (self.digits.len() as i32 - 1 - self.weight) * BASE_DIGITS;
        let wanted = self.scale as i32;
        if wanted >= has {
            mantissa = mantissa.checked_mul(10i128.checked_pow((wanted - has) as u32)?)?;
        } else {
            // Only zeros: a digit that is not shown does not exist.
            mantissa /= 10i128.checked_pow((has - wanted) as u32)?;
        }
        Some((if self.negative { -mantissa } else { mantissa }, self.scale))
    }

    fn trimmed(mut self) -> Decimal {
        let leading = self.digits.iter().take_while(|digit| **digit == 0).count();
        self.digits.drain(..leading);
        self.weight -= leading as i32;
        while self.digits.last() == Some(&0) {
            self.digits.pop();
        }
        if self.digits.is_empty() {
            self.weight = 0;
            self.negative = false;
        }
        self
    }

    fn checked(self) -> Result<Decimal, TooLong> {
        if self.weight > MOST_WEIGHT || self.scale > MOST_SCALE { Err(TooLong) } else { Ok(self) }
    }

    pub fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    pub fn negated(mut self) -> Decimal {
        self.negative = !self.negative && !self.is_zero();
        self
    }

    /// The digit that counts `BASE` to the power of `weight`.
    fn at(&self, weight: i32) -> u32 {
        let index = self.weight - weight;
        if index < 0 { 0 } else { self.digits.get(index as usize).map_or(0, |digit| u32::from(*digit)) }
    }

    /// The weight of the last digit.
    fn last(&self) -> i32 {
        self.weight - self.digits.len() as i32 + 1
    }

    fn compare_size(&self, other: &Decimal) -> Ordering {
        match (self.is_zero(), other.is_zero()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => self.weight.cmp(&other.weight).then_with(|| self.digits.cmp(&other.digits)),
        }
    }

    pub fn compare(&self, other: &Decimal) -> Ordering {
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.compare_size(other),
            (true, true) => other.compare_size(self),
        }
    }

    /// Sizes added, or the smaller taken from the larger.
    fn combine(large: &Decimal, small: &Decimal, subtract: bool) -> Decimal {
        if small.is_zero() {
            return large.clone();
        }
        let top = large.weight.max(small.weight);
        let low = large.last().min(small.last());
        let mut digits = Vec::with_capacity((top - low + 2) as usize);
        let mut carry = 0i32;
        for weight in low..=top {
            let other = small.at(weight) as i32;
            let sum = large.at(weight) as i32 + if subtract { -other } else { other } + carry;
            carry = sum.div_euclid(BASE as i32);
            digits.push(sum.rem_euclid(BASE as i32) as u16);
        }
        digits.push(carry as u16);
        digits.reverse();
        Decimal { negative: false, weight: top + 1, scale: 0, digits }
    }

    pub fn add(&self, other: &Decimal) -> Result<Decimal, TooLong> {
        let scale = self.scale.max(other.scale);
        if self.is_zero() || other.is_zero() {
            let sum = if self.is_zero() { other } else { self };
            return Ok(Decimal { scale, ..sum.clone() });
        }
        let (large, small) = if self.compare_size(other) == Ordering::Less { (other, self) } else { (self, other) };
        let sum = Decimal::combine(large, small, self.negative != other.negative);
        Decimal { negative: large.negative, scale, ..sum }.trimmed().checked()
    }

    pub fn multiply(&self, other: &Decimal) -> Result<Decimal, TooLong> {
        let scale = self.scale + other.scale;
        if self.digits.len().saturating_mul(other.digits.len()) > MOST_WORK {
            return Err(TooLong);
        }
        let mut sums = vec![0u64; self.digits.len() + other.digits.len()];
        for (i, a) in self.digits.iter().enumerate() {
            for (j, b) in other.digits.iter().enumerate() {
                sums[i + j + 1] += u64::from(*a) * u64::from(*b);
            }
        }
        let mut carry = 0;
        let mut digits: Vec<u16> = sums
            .iter()
            .rev()
            .map(|sum| {
                let sum = sum + carry;
                carry = sum / u64::from(BASE);
                (sum % u64::from(BASE)) as u16
            })
            .collect();
        digits.reverse();
        let weight = self.weight + other.weight + 1;
        let product = Decimal { negative: self.negative != other.negative, weight, scale, digits }.trimmed();
        // The server rounds what has more digits after the point than it keeps.
        if product.scale > MOST_SCALE { product.rounded(MOST_SCALE).checked() } else { product.checked() }
    }

    /// So many digits after the point, rounded half away from zero.
    pub fn rounded(&self, scale: u32) -> Decimal {
        self.cut(scale, true)
    }

    /// So many digits after the point, without the rest.
    pub fn truncated(&self, scale: u32) -> Decimal {
        self.cut(scale, false)
    }

    fn cut(&self, scale: u32, round: bool) -> Decimal {
        // The group that holds the last digit to keep, and the unit of that digit in it.
        let group = -(scale.div_ceil(BASE_DIGITS as u32) as i32);
        let unit = 10u32.pow((BASE_DIGITS as u32 - scale % BASE_DIGITS as u32) % BASE_DIGITS as u32);
        if self.is_zero() || self.last() > group {
            return Decimal { scale, ..self.clone() };
        }
        let kept = (group..=self.weight.max(group)).rev().map(|weight| self.at(weight) as u16).collect();
        let mut result = Decimal { negative: self.negative, weight: self.weight.max(group), scale, digits: kept };
        let last = self.at(group);
        let rest = last % unit;
        if let Some(digit) = result.digits.last_mut() {
            *digit -= rest as u16;
        }
        let half = if unit > 1 { rest * 2 >= unit } else { self.at(group - 1) >= BASE / 2 };
        if round && half {
            let step = Decimal { negative: false, weight: group, scale: 0, digits: vec![unit as u16] };
            let negative = result.negative;
            let size = Decimal { negative: false, ..result }.trimmed();
            let sum = Decimal::combine(&size, &step, false);
            return Decimal { negative, scale, ..sum }.trimmed();
        }
        result.trimmed()
    }

    /// How many digits after the point the server would give the quotient.
    fn quotient_scale(&self, divisor: &Decimal) -> u32 {
        let (first, second) = (self.digits.first(), divisor.digits.first());
        let mut weight = self.weight - divisor.weight;
        if first <= second {
            weight -= 1;
        }
        let scale = LEAST_SIGNIFICANT - weight * BASE_DIGITS;
        let scale = scale.max(self.scale as i32).max(divisor.scale as i32).clamp(0, MOST_QUOTIENT_SCALE);
        scale as u32
    }

    /// The divisor is not zero.
    pub fn divide(&self, divisor: &Decimal) -> Result<Decimal, TooLong> {
        let scale = self.quotient_scale(divisor);
        // One more digit, for the rounding.
        let quotient = self.quotient(divisor, scale + 1)?;
        let mut rounded = quotient.rounded(scale);
        rounded.scale = rounded.least_scale();
        rounded.checked()
    }

    /// Digits after the point without zeros at the end.
    pub fn least_scale(&self) -> u32 {
        let Some(last) = self.digits.last() else { return 0 };
        let zeros = (0..BASE_DIGITS as u32).take_while(|zeros| u32::from(*last) % 10u32.pow(zeros + 1) == 0).count();
        (-self.last() * BASE_DIGITS - zeros as i32).max(0) as u32
    }

    /// What is left of whole multiples of the divisor, with the sign of this one. The divisor is not zero.
    pub fn remainder(&self, divisor: &Decimal) -> Result<Decimal, TooLong> {
        let whole = self.quotient(divisor, 0)?;
        let rest = self.add(&whole.multiply(divisor)?.negated())?;
        Ok(Decimal { scale: self.scale.max(divisor.scale), ..rest })
    }

    /// Long division, cut off after at least so many digits behind the point.
    fn quotient(&self, divisor: &Decimal, scale: u32) -> Result<Decimal, TooLong> {
        let last = -(scale.div_ceil(BASE_DIGITS as u32) as i32);
        let top = self.weight - divisor.weight;
        if self.is_zero() || top < last {
            return Ok(Decimal { scale, ..Decimal::default() });
        }
        let count = (top - last + 1) as usize;
        if count.saturating_mul(divisor.digits.len()) > MOST_WORK {
            return Err(TooLong);
        }
        // Knuth's algorithm D: both are multiplied so that the divisor's first digit is large.
        let factor = BASE / (u32::from(divisor.digits[0]) + 1);
        let scaled = |digits: &[u16], length: usize| {
            let mut carry = 0;
            let mut result = vec![0u32; length + 1];
            for at in (0..length).rev() {
                let product = digits.get(at).map_or(0, |digit| u32::from(*digit)) * factor + carry;
                result[at + 1] = product % BASE;
                carry = product / BASE;
            }
            result[0] = carry;
            result
        };
        let size = divisor.digits.len();
        let by = scaled(&divisor.digits, size);
        let by = &by[1..];
        let mut rest = scaled(&self.digits, count + size - 1);
        let mut digits = Vec::with_capacity(count);
        for at in 0..count {
            let head = u64::from(rest[at]) * u64::from(BASE) + u64::from(rest[at + 1]);
            let mut guess = (head / u64::from(by[0])).min(u64::from(BASE) - 1);
            if size > 1 {
                let next = u64::from(rest[at + 2]);
                while guess * u64::from(by[1]) > (head - guess * u64::from(by[0])) * u64::from(BASE) + next {
                    guess -= 1;
                }
            }
            let mut carry = 0u32;
            for of in (0..size).rev() {
                let product = guess as u32 * by[of] + carry;
                carry = product / BASE;
                let (digit, place) = (product % BASE, &mut rest[at + 1 + of]);
                if *place < digit {
                    *place += BASE;
                    carry += 1;
                }
                *place -= digit;
            }
            let left = i64::from(rest[at]) - i64::from(carry);
            rest[at] = left.max(0) as u32;
            if left < 0 {
                guess -= 1;
                let mut carry = 0;
                for of in (0..size).rev() {
                    let sum = rest[at + 1 + of] + by[of] + carry;
                    rest[at + 1 + of] = sum % BASE;
                    carry = sum / BASE;
                }
                rest[at] = 0;
            }
            digits.push(guess as u16);
        }
        let negative = self.negative != divisor.negative;
        let cut = Decimal { negative, weight: top, scale: 0, digits }.trimmed();
        Ok(Decimal { scale: (-last * BASE_DIGITS) as u32, ..cut })
    }

    /// Digits, a point, digits: all that are shown.
    pub fn print(&self, out: &mut Vec<u8>) {
        if self.negative {
            out.push(b'-');
        }
        if self.weight < 0 || self.is_zero() {
            out.push(b'0');
        } else {
            for weight in (0..=self.weight).rev() {
                let group = self.at(weight);
                let printed = if weight == self.weight { format!("{group}") } else { format!("{group:04}") };
                out.extend_from_slice(printed.as_bytes());
            }
        }
        if self.scale == 0 {
            return;
        }
        out.push(b'.');
        let start = out.len();
        let groups = self.scale.div_ceil(BASE_DIGITS as u32) as i32;
        for weight in 1..=groups {
            out.extend_from_slice(format!("{:04}", self.at(-weight)).as_bytes());
        }
        out.truncate(start + self.scale as usize);
    }

    /// From decimal digits before and after the point and an exponent; None when it is too long.
    pub fn parse(negative: bool, whole: &[u8], fraction: &[u8], exponent: i32) -> Option<Decimal> {
        let point = whole.len() as i32 + exponent;
        let scale = (fraction.len() as i32 - exponent).max(0) as u32;
        // The place of the first digit decides how many of them the first group has.
        let first = (point + BASE_DIGITS - 1).div_euclid(BASE_DIGITS);
        let lead = (first * BASE_DIGITS - point) as usize;
        let mut digits = Vec::with_capacity((whole.len() + fraction.len()) / 4 + 2);
        let (mut group, mut filled) = (0u16, lead);
        for digit in whole.iter().chain(fraction) {
            group = group * 10 + u16::from(digit - b'0');
            filled += 1;
            if filled == BASE_DIGITS as usize {
                digits.push(group);
                (group, filled) = (0, 0);
            }
        }
        if filled > 0 {
            digits.push(group * 10u16.pow((BASE_DIGITS as usize - filled) as u32));
        }
        Decimal { negative, weight: first - 1, scale, digits }.trimmed().checked().ok()
    }
}
