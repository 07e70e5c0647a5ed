//! Equality of arrays and objects, and order. Pure Rust.

use std::cmp::Ordering;

use super::fault::{Fault, Ran};
use super::number::{self, Number};
use super::operator::Order;
use super::run::Run;
use super::value::Value;

/// Comparing goes so deep.
const MOST_DEPTH: usize = 1_000;

impl<'a> Run<'a> {
    pub fn equal(&mut self, a: Value<'a>, b: Value<'a>, loose: bool, depth: usize) -> Ran<bool> {
        if !a.is_composite() || !b.is_composite() {
            self.weigh(&a, &b)?;
            return Ok(if loose { a.equals(&b) } else { a.same(&b) });
        }
        if depth > MOST_DEPTH {
            return Err(Fault::TooDeep);
        }
        if let (Some((left, count)), Some((right, other))) = (a.elements(), b.elements()) {
            if count != other {
                return Ok(false);
            }
            for (left, right) in left.zip(right) {
                self.step()?;
                if !self.equal(left, right, false, depth + 1)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        if a.pair_count() != b.pair_count() || a.pair_count().is_none() {
            return Ok(false);
        }
        match a {
            Value::Stored(container) => {
                for (key, value) in container.pairs() {
                    if !self.has(b, key, value, depth)? {
                        return Ok(false);
                    }
                }
            }
            Value::Pairs(pairs) => {
                for (key, value) in pairs {
                    if !self.has(b, key, *value, depth)? {
                        return Ok(false);
                    }
                }
            }
            _ => {}
        }
        Ok(true)
    }

    fn has(&mut self, object: Value<'a>, key: &[u8], value: Value<'a>, depth: usize) -> Ran<bool> {
        self.step()?;
        let there = object.get(key);
        Ok(!matches!(there, Value::Missing) && self.equal(value, there, false, depth + 1)?)
    }

    /// What comparing long texts and numbers takes, so that a cancel is heard in between.
    #[inline]
    fn weigh(&mut self, a: &Value, b: &Value) -> Ran<()> {
        match (a, b) {
            (Value::Text(a), Value::Text(b)) if a.len() > 256 && b.len() > 256 => {
                self.spend(a.len().min(b.len()) / 256)
            }
            // The text is read as a number.
            (Value::Text(text), Value::Number(_) | Value::Bool(_))
            | (Value::Number(_) | Value::Bool(_), Value::Text(text))
                if text.len() > 32 =>
            {
                self.spend(text.len().min(number::LONGEST_SPELT) / 16)
            }
            (Value::Number(a @ Number::Long(_)), Value::Number(b))
            | (Value::Number(a), Value::Number(b @ Number::Long(_))) => self.spend((a.length() + b.length()) / 64),
            _ => Ok(()),
        }
    }

    pub fn in_order(&mut self, a: Value<'a>, b: Value<'a>, order: Order) -> Ran<bool> {
        let ordering = match (a, b) {
            (Value::Text(left), Value::Text(right)) => {
                self.weigh(&a, &b)?;
                left.cmp(right)
            }
            _ => {
                let (a, b) = (self.number(a)?, self.number(b)?);
                self.spend((a.length() + b.length()) / 64)?;
                a.compare(&b)
            }
        };
        Ok(holds(order, ordering))
    }
}

#[inline]
pub fn holds(order: Order, ordering: Ordering) -> bool {
    match order {
        Order::Less => ordering == Ordering::Less,
        Order::LessOrEqual => ordering != Ordering::Greater,
        Order::Greater => ordering == Ordering::Greater,
        Order::GreaterOrEqual => ordering != Ordering::Less,
    }
}
