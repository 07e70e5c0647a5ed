//! `+ - * / % max min abs ceil floor`: exact, and an error for what is no number. Pure Rust.

use super::decimal;
use super::fault::{Fault, Ran};
use super::number::{self, Number, Outcome};
use super::operator::{Arithmetic, Function};
use super::program::{NodeId, Span};
use super::run::{Around, Run};
use super::value::Value;

impl<'a> Run<'a> {
    /// What counts as a number: null as 0, booleans as 0 and 1, a text as what it spells.
    #[inline]
    pub fn number(&mut self, value: Value<'a>) -> Ran<Number<'a>> {
        match value {
            Value::Number(number) => Ok(number),
            Value::Null | Value::Missing => Ok(Number::Int(0)),
            Value::Bool(truth) => Ok(Number::Int(i64::from(truth))),
            Value::Text(text) => self.spelt(text),
            other => Err(Fault::Needs { what: "a number", got: other.type_name() }),
        }
    }

    fn spelt(&mut self, text: &[u8]) -> Ran<Number<'a>> {
        self.spend(text.len().min(number::LONGEST_SPELT) / 16)?;
        let parsed = number::parse(text).ok_or(Fault::NotANumber)?;
        self.settle(parsed)
    }

    pub fn arithmetic(&mut self, operator: Arithmetic, span: Span, around: Around<'_, 'a>) -> Ran<Value<'a>> {
        let mut folded = None;
        for at in 0..span.len {
            let value = self.eval(self.child(span, at), around)?;
            folded = Some(self.fold(operator, folded, value)?);
        }
        self.folded(operator, folded, span.len as usize)
    }

    /// The same over the elements of one computed argument, should it be an array.
    pub fn spread(&mut self, operator: Arithmetic, argument: NodeId, around: Around<'_, 'a>) -> Ran<Value<'a>> {
        let value = self.eval(argument, around)?;
        let mut folded = None;
        let Some((elements, count)) = value.elements() else {
            let only = self.fold(operator, None, value)?;
            return self.folded(operator, Some(only), 1);
        };
        for element in elements {
            self.spend(1)?;
            folded = Some(self.fold(operator, folded, element)?);
        }
        self.folded(operator, folded, count)
    }

    #[inline]
    fn fold(&mut self, operator: Arithmetic, before: Option<Number<'a>>, value: Value<'a>) -> Ran<Number<'a>> {
        let number = if matches!(operator, Arithmetic::Max | Arithmetic::Min) {
            self.comparable(value)?
        } else {
            self.number(value)?
        };
        let Some(before) = before else { return Ok(number) };
        self.binary(operator, before, number)
    }

    /// For the largest and the smallest, where nothing and a boolean are no small numbers.
    fn comparable(&mut self, value: Value<'a>) -> Ran<Number<'a>> {
        match value {
            Value::Number(number) => Ok(number),
            Value::Text(text) if !text.trim_ascii().is_empty() => self.spelt(text),
            Value::Text(_) => Err(Fault::NotANumber),
            other => Err(Fault::Needs { what: "a number", got: other.type_name() }),
        }
    }

    #[inline]
    pub fn binary(&mut self, operator: Arithmetic, a: Number<'a>, b: Number<'a>) -> Ran<Number<'a>> {
        if let (Number::Long(_), _) | (_, Number::Long(_)) = (a, b) {
            let (spans, lengths) = (a.span() + b.span(), a.length().saturating_mul(b.length()));
            let work = match operator {
                Arithmetic::Multiply => lengths,
                // Zeros of the dividend are divided as well.
                Arithmetic::Divide | Arithmetic::Remainder => (spans + 256).saturating_mul(b.length()),
                _ => spans,
            };
            self.spend(work.min(decimal::MOST_WORK) / 16)?;
        }
        let outcome = match operator {
            Arithmetic::Add => number::add(a, b),
            Arithmetic::Subtract => number::subtract(a, b),
            Arithmetic::Multiply => number::multiply(a, b),
            Arithmetic::Divide | Arithmetic::Remainder if b.is_zero() => return Err(Fault::DivisionByZero),
            Arithmetic::Divide => number::divide(a, b),
            Arithmetic::Remainder => number::remainder(a, b),
            Arithmetic::Max => return Ok(if b.compare(&a).is_gt() { b } else { a }),
            Arithmetic::Min => return Ok(if b.compare(&a).is_lt() { b } else { a }),
        };
        self.settle(outcome.map_err(|_| Fault::TooLong)?)
    }

    /// What the fold means with no argument, or with one.
    fn folded(&mut self, operator: Arithmetic, folded: Option<Number<'a>>, count: usize) -> Ran<Value<'a>> {
        let Some(number) = folded else {
            return match operator {
                Arithmetic::Add => Ok(Value::int(0)),
                Arithmetic::Multiply => Ok(Value::int(1)),
                _ => Err(Fault::Needs { what: "a number", got: "an empty array" }),
            };
        };
        let number = match operator {
            Arithmetic::Subtract if count == 1 => self.settle(number::negate(number))?,
            Arithmetic::Divide if count == 1 => self.binary(operator, Number::Int(1), number)?,
            Arithmetic::Remainder if count == 1 => {
                return Err(Fault::Needs { what: "a second number", got: "an array of one" });
            }
            _ => number,
        };
        Ok(Value::Number(number))
    }

    pub fn round(&mut self, function: Function, value: Value<'a>) -> Ran<Value<'a>> {
        let number = self.number(value)?;
        self.spend(number.span() / 4)?;
        let outcome: Outcome = match function {
            Function::Ceil => number::whole(number, true).map_err(|_| Fault::TooLong)?,
            Function::Floor => number::whole(number, false).map_err(|_| Fault::TooLong)?,
            _ => number::absolute(number),
        };
        self.settle(outcome).map(Value::Number)
    }
}
