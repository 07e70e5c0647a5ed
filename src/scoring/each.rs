//! The operators that go through an array: map, filter, all, none, some and reduce. Pure Rust.

use super::fault::Ran;
use super::operator::Each;
use super::program::NodeId;
use super::run::{Around, At, Frame, Run};
use super::value::{Elements, Value};

impl<'a> Run<'a> {
    /// The elements that an array operator goes through.
    fn list(&mut self, list: NodeId, around: Around<'_, 'a>) -> Ran<Option<(Elements<'a>, usize)>> {
        Ok(self.eval(list, around)?.elements())
    }

    pub fn collect(&mut self, list: NodeId, body: NodeId, filter: bool, around: Around<'_, 'a>) -> Ran<Value<'a>> {
        let Some((elements, count)) = self.list(list, around)? else { return Ok(Value::List(&[])) };
        self.take(count * size_of::<Value>())?;
        let mut made = bumpalo::collections::Vec::with_capacity_in(count, self.arena);
        for (index, element) in elements.enumerate() {
            let frame = Frame { at: At::Element(element), index, around };
            if !filter {
                made.push(self.eval(body, Some(&frame))?);
            } else if self.test(body, Some(&frame))? {
                made.push(element);
            }
        }
        Ok(Value::List(made.into_bump_slice()))
    }

    pub fn quantify(&mut self, each: Each, list: NodeId, body: NodeId, around: Around<'_, 'a>) -> Ran<bool> {
        let (elements, count) = match self.list(list, around)? {
            Some(list) => list,
            None => return Ok(each == Each::None),
        };
        for (index, element) in elements.enumerate() {
            let frame = Frame { at: At::Element(element), index, around };
            let holds = self.test(body, Some(&frame))?;
            if holds != (each == Each::All) {
                return Ok(each == Each::Some);
            }
        }
        Ok(match each {
            Each::All => count > 0,
            Each::None => true,
            _ => false,
        })
    }

    pub fn reduce(&mut self, list: NodeId, body: NodeId, start: NodeId, around: Around<'_, 'a>) -> Ran<Value<'a>> {
        let elements = self.list(list, around)?;
        let mut accumulator = self.eval(start, around)?;
        let Some((elements, _)) = elements else { return Ok(accumulator) };
        for (index, current) in elements.enumerate() {
            let frame = Frame { at: At::Reduce { current, accumulator }, index, around };
            accumulator = self.eval(body, Some(&frame))?;
        }
        Ok(accumulator)
    }
}
