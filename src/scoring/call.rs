//! Functions of texts, arrays and dates. Pure Rust.

use super::date;
use super::fault::{Fault, Ran};
use super::operator::Function;
use super::program::Span;
use super::run::{Around, PIECE, Run};
use super::value::Value;

impl<'a> Run<'a> {
    pub fn call(&mut self, function: Function, span: Span, around: Around<'_, 'a>) -> Ran<Value<'a>> {
        let arguments = self.all(span, around)?;
        let first = arguments.first().copied().unwrap_or(Value::Null);
        let second = arguments.get(1).copied().unwrap_or(Value::Null);
        match function {
            Function::Log => Ok(first),
            Function::Merge => self.merge(arguments),
            Function::In => self.contains(first, second).map(Value::Bool),
            Function::Cat => self.cat(arguments),
            Function::Substr => self.substr(first, second, arguments.get(2).copied()),
            Function::Length => self.length(first),
            Function::StartsWith | Function::EndsWith => {
                let (text, part) = (self.text(first)?, self.text(second)?);
                self.spend(part.len() / 256)?;
                let is = if function == Function::StartsWith { text.starts_with(part) } else { text.ends_with(part) };
                Ok(Value::Bool(is))
            }
            Function::Upper | Function::Lower => {
                let text = self.text(first)?;
                self.change_case(text, function == Function::Upper).map(Value::Text)
            }
            Function::Trim => {
                let text = self.text(first)?;
                self.trim(text).map(Value::Text)
            }
            Function::Abs | Function::Ceil | Function::Floor => self.round(function, first),
            Function::Now => {
                let now = date::print(self.now());
                self.keep(now.as_bytes()).map(Value::Text)
            }
            Function::DaysBetween => {
                let (from, to) = (self.date(first)?, self.date(second)?);
                Ok(Value::int(date::days_between(from, to)))
            }
            Function::Missing => {
                let keys = match first.elements() {
                    Some((elements, count)) => {
                        self.take(count * size_of::<Value>())?;
                        bumpalo::collections::Vec::from_iter_in(elements, self.arena).into_bump_slice()
                    }
                    None => arguments,
                };
                self.missing(keys, around)
            }
            Function::MissingSome => {
                let needed = self.number(first)?;
                let Some((elements, count)) = second.elements() else {
                    return Err(Fault::Needs { what: "an array of paths", got: second.type_name() });
                };
                self.take(count * size_of::<Value>())?;
                let keys = bumpalo::collections::Vec::from_iter_in(elements, self.arena).into_bump_slice();
                let missing = self.missing(keys, around)?;
                let there = count - missing.elements().map_or(0, |(_, count)| count);
                let enough = super::number::Number::Int(there as i64).compare(&needed).is_ge();
                Ok(if enough { Value::List(&[]) } else { missing })
            }
        }
    }

    /// Paths that lead to nothing, to null or to an empty text.
    fn missing(&mut self, keys: &[Value<'a>], around: Around<'_, 'a>) -> Ran<Value<'a>> {
        let mut missing = Vec::new();
        for key in keys {
            self.spend(1)?;
            let path = self.as_text(*key)?;
            match self.look(path, around)? {
                Value::Missing | Value::Null | Value::Text(b"") => missing.push(*key),
                _ => {}
            }
        }
        self.keep_list(&missing)
    }

    fn merge(&mut self, arguments: &[Value<'a>]) -> Ran<Value<'a>> {
        let count = arguments.iter().map(|value| value.elements().map_or(1, |(_, count)| count)).sum::<usize>();
        self.take(count * size_of::<Value>())?;
        let mut merged = bumpalo::collections::Vec::with_capacity_in(count, self.arena);
        for value in arguments {
            match value.elements() {
                Some((elements, count)) => {
                    self.spend(count / 8)?;
                    merged.extend(elements);
                }
                None => merged.push(*value),
            }
        }
        Ok(Value::List(merged.into_bump_slice()))
    }

    /// An element of an array, by `===`; or a part of a text, of which nothing is none: a field that is missing is in no list of names.
    fn contains(&mut self, needle: Value<'a>, stack: Value<'a>) -> Ran<bool> {
        match stack {
            Value::Text(_) if matches!(needle, Value::Missing | Value::Null) => Ok(false),
            Value::Text(text) => {
                let part = self.as_text(needle)?;
                self.find(text, part)
            }
            _ => {
                let Some((elements, _)) = stack.elements() else { return Ok(false) };
                for element in elements {
                    self.spend(1)?;
                    if self.equal(element, needle, false, 0)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    fn text(&mut self, value: Value<'a>) -> Ran<&'a [u8]> {
        match value {
            Value::Text(text) => Ok(text),
            Value::Null | Value::Missing => Ok(&[]),
            Value::Number(_) | Value::Bool(_) => self.as_text(value),
            other => Err(Fault::Needs { what: "a text", got: other.type_name() }),
        }
    }

    /// As JavaScript prints it, but for objects, of which that says nothing.
    fn as_text(&mut self, value: Value<'a>) -> Ran<&'a [u8]> {
        if let Value::Text(text) = value {
            return Ok(text);
        }
        let mut out = Vec::new();
        self.print(value, &mut out, 0)?;
        self.keep(&out)
    }

    fn print(&mut self, value: Value<'a>, out: &mut Vec<u8>, depth: usize) -> Ran<()> {
        self.spend(1)?;
        match value {
            Value::Missing | Value::Null => {}
            Value::Bool(truth) => out.extend_from_slice(if truth { b"true" } else { b"false" }),
            Value::Number(number) => {
                // A number of a few bytes may have a hundred thousand digits.
                let before = out.len();
                number.print_shortest(out);
                self.take(out.len() - before)?;
            }
            Value::Text(text) => {
                for piece in text.chunks(PIECE) {
                    self.take(piece.len())?;
                    out.extend_from_slice(piece);
                }
            }
            _ => {
                let Some((elements, _)) = value.elements() else {
                    return Err(Fault::Needs { what: "a text", got: "an object" });
                };
                if depth > 100 {
                    return Err(Fault::TooDeep);
                }
                for (number, element) in elements.enumerate() {
                    if number > 0 {
                        out.push(b',');
                    }
                    self.print(element, out, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn cat(&mut self, arguments: &[Value<'a>]) -> Ran<Value<'a>> {
        // One array stands for its elements.
        let mut out = Vec::new();
        if let [only] = arguments
            && let Some((elements, _)) = only.elements()
        {
            for element in elements {
                self.print(element, &mut out, 0)?;
            }
        } else {
            for argument in arguments {
                self.print(*argument, &mut out, 0)?;
            }
        }
        // Its bytes were taken from the budget when they were printed.
        Ok(Value::Text(self.copied(&out)))
    }

    fn length(&mut self, value: Value<'a>) -> Ran<Value<'a>> {
        if let Value::Text(text) = value {
            return Ok(Value::int(self.characters(text)? as i64));
        }
        match value.elements() {
            Some((_, count)) => Ok(Value::int(count as i64)),
            None => Err(Fault::Needs { what: "a text or an array", got: value.type_name() }),
        }
    }

    fn whole(&mut self, value: Value<'a>) -> Ran<i64> {
        let number = self.number(value)?;
        // It is printed to be read.
        self.spend(number.span())?;
        number
            .to_int()
            .or_else(|| {
                // A fraction is cut off; what is beyond any text is as good as its end.
                let float = number.to_float();
                (!float.is_nan()).then_some(float as i64)
            })
            .ok_or(Fault::NotANumber)
    }

    /// A negative start counts from the end; a negative length leaves so many out there.
    fn substr(&mut self, text: Value<'a>, start: Value<'a>, length: Option<Value<'a>>) -> Ran<Value<'a>> {
        let text = self.text(text)?;
        let count = self.characters(text)? as i64;
        let start = self.whole(start)?;
        let from = if start < 0 { count.saturating_add(start).max(0) } else { start.min(count) };
        let to = match length {
            None | Some(Value::Null) => count,
            Some(length) => {
                let length = self.whole(length)?;
                if length < 0 { count.saturating_add(length) } else { from.saturating_add(length).min(count) }
            }
        };
        let to = to.max(from);
        let from = self.place(text, count as usize, from as usize)?;
        let to = self.place(text, count as usize, to as usize)?;
        Ok(Value::Text(&text[from..to]))
    }

    fn date(&mut self, value: Value<'a>) -> Ran<i64> {
        match value {
            Value::Text(text) => date::parse(text).ok_or(Fault::NotADate),
            other => Err(Fault::Needs { what: "an ISO date", got: other.type_name() }),
        }
    }
}
