//! Values while a rule runs, and what JsonLogic makes of them: truth, equality, numbers and texts. Pure Rust.

use std::cmp::Ordering;

use super::jsonb::Container;
use super::number::{self, Number, Outcome};

#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Not there: what a path that leads nowhere gives. Never handed on by an operator.
    Missing,
    Null,
    Bool(bool),
    Number(Number<'a>),
    /// In the database's encoding.
    Text(&'a [u8]),
    /// An array or object as the server stores it.
    Stored(Container<'a>),
    /// Made by a rule.
    List(&'a [Value<'a>]),
    /// Made by a rule. Few: they are searched one by one.
    Pairs(&'a [(&'a [u8], Value<'a>)]),
}

/// The elements of an array, wherever they lie.
pub enum Elements<'a> {
    Stored(super::jsonb::Values<'a>),
    Made(std::slice::Iter<'a, Value<'a>>),
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    #[inline]
    fn next(&mut self) -> Option<Value<'a>> {
        match self {
            Elements::Stored(values) => values.next(),
            Elements::Made(values) => values.next().copied(),
        }
    }
}

impl<'a> Value<'a> {
    pub const fn int(value: i64) -> Value<'static> {
        Value::Number(Number::Int(value))
    }

    /// What an operator hands on.
    #[inline]
    pub fn or_null(self) -> Value<'a> {
        if let Value::Missing = self { Value::Null } else { self }
    }

    /// null, false, 0, an empty text, array or object are false.
    #[inline]
    pub fn truth(&self) -> bool {
        match self {
            Value::Missing | Value::Null => false,
            Value::Bool(truth) => *truth,
            Value::Number(number) => !number.is_zero(),
            Value::Text(text) => !text.is_empty(),
            Value::Stored(container) => container.len() != 0,
            Value::List(list) => !list.is_empty(),
            Value::Pairs(pairs) => !pairs.is_empty(),
        }
    }

    /// The elements, if it is an array, and how many.
    #[inline]
    pub fn elements(&self) -> Option<(Elements<'a>, usize)> {
        match self {
            Value::Stored(container) if !container.is_object() => {
                Some((Elements::Stored(container.values()), container.len()))
            }
            Value::List(list) => Some((Elements::Made(list.iter()), list.len())),
            _ => None,
        }
    }

    /// What an object has under a key, or an array at a place.
    pub fn get(&self, key: &[u8]) -> Value<'a> {
        let found = match self {
            Value::Stored(container) if container.is_object() => container.get(key),
            Value::Stored(container) => index(key).and_then(|at| container.element(at)),
            Value::List(list) => index(key).and_then(|at| list.get(at).copied()),
            Value::Pairs(pairs) => pairs.iter().rev().find(|pair| pair.0 == key).map(|pair| pair.1),
            _ => None,
        };
        found.unwrap_or(Value::Missing)
    }

    /// About how many bytes it is copied as.
    pub fn size(&self) -> usize {
        match self {
            Value::Text(text) => text.len(),
            Value::Stored(container) => container.bytes().len(),
            _ => 16,
        }
    }

    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Missing => "nothing",
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::Stored(container) if container.is_object() => "an object",
            Value::Pairs(_) => "an object",
            Value::Stored(_) | Value::List(_) => "an array",
        }
    }

    /// `===` of what is no array and no object: of the same type and equal.
    #[inline]
    pub fn same(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Missing | Value::Null, Value::Missing | Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Number(a), Value::Number(b)) => a.compare(b) == Ordering::Equal,
            (Value::Text(a), Value::Text(b)) => a == b,
            _ => false,
        }
    }

    /// How many pairs an object has.
    pub fn pair_count(&self) -> Option<usize> {
        match self {
            Value::Stored(container) if container.is_object() => Some(container.len()),
            Value::Pairs(pairs) => Some(pairs.len()),
            _ => None,
        }
    }

    #[inline]
    pub fn is_composite(&self) -> bool {
        matches!(self, Value::Stored(_) | Value::List(_) | Value::Pairs(_))
    }

    /// `==`, as JavaScript has it for null, booleans, numbers and texts: null equals null alone; else a boolean counts as 0 or 1, and a text as the number that
    /// it spells. An array or object equals none of them.
    pub fn equals(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Text(text), Value::Number(number)) | (Value::Number(number), Value::Text(text)) => {
                spells(text, number)
            }
            (Value::Bool(truth), Value::Number(number)) | (Value::Number(number), Value::Bool(truth)) => {
                number.compare(&Number::Int(i64::from(*truth))) == Ordering::Equal
            }
            (Value::Bool(truth), Value::Text(text)) | (Value::Text(text), Value::Bool(truth)) => {
                spells(text, &Number::Int(i64::from(*truth)))
            }
            _ => self.same(other),
        }
    }
}

fn spells(text: &[u8], number: &Number) -> bool {
    match number::parse(text) {
        Some(Outcome::Small(spelt)) => spelt.compare(number) == Ordering::Equal,
        Some(Outcome::Long(decimal)) => Number::Long(&super::build::long(&decimal)).compare(number) == Ordering::Equal,
        None => false,
    }
}

/// A place in an array: digits, without zeros in front.
pub fn index(key: &[u8]) -> Option<usize> {
    if key.is_empty() || key.len() > 9 || (key.len() > 1 && key[0] == b'0') {
        return None;
    }
    key.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + usize::from(byte - b'0')))
}
