//! Looks paths up: all of a document's at once, and those within elements or computed one by one. Pure Rust.

use super::fault::{Fault, Ran};
use super::jsonb::Container;
use super::program::{Branch, NodeId, Program, Span};
use super::run::{Around, At, Run, frame};
use super::value::Value;

impl<'a> Run<'a> {
    pub fn local(&mut self, up: u32, path: u32, around: Around<'_, 'a>) -> Ran<Value<'a>> {
        let program = self.program;
        let keys = &program.paths[path as usize];
        let Some(frame) = frame(around, up) else { return Ok(follow(self.document, keys.iter().map(|key| &**key))) };
        self.within(frame.at, keys.iter().map(|key| &**key))
    }

    pub fn within<'k>(&mut self, at: At<'a>, keys: impl Iterator<Item = &'k [u8]>) -> Ran<Value<'a>> {
        let mut keys = keys;
        match at {
            At::Element(value) => Ok(follow(value, keys)),
            At::Reduce { current, accumulator } => match keys.next() {
                Some(b"current") => Ok(follow(current, keys)),
                Some(b"accumulator") => Ok(follow(accumulator, keys)),
                Some(_) => Ok(Value::Missing),
                None => {
                    let pairs: [(&'a [u8], Value<'a>); 2] = [(b"current", current), (b"accumulator", accumulator)];
                    self.take(size_of_val(&pairs))?;
                    Ok(Value::Pairs(self.arena.alloc(pairs)))
                }
            },
        }
    }

    /// A dotted path from where the expression stands.
    pub fn look(&mut self, path: &[u8], around: Around<'_, 'a>) -> Ran<Value<'a>> {
        self.spend(path.len() / 16)?;
        let at = around.map_or(At::Element(self.document), |frame| frame.at);
        if path.is_empty() {
            return self.within(at, std::iter::empty());
        }
        self.within(at, path.split(|byte| *byte == b'.'))
    }

    pub fn var(&mut self, path: NodeId, otherwise: Option<NodeId>, around: Around<'_, 'a>) -> Ran<Value<'a>> {
        let path = match self.eval(path, around)? {
            Value::Null => &[],
            Value::Text(path) => path,
            Value::Number(number) => {
                let mut text = Vec::new();
                number.print_shortest(&mut text);
                self.keep(&text)?
            }
            other => return Err(Fault::Needs { what: "a path, which is a text or a number,", got: other.type_name() }),
        };
        match (self.look(path, around)?, otherwise) {
            (Value::Missing, Some(otherwise)) => self.eval(otherwise, around),
            (value, _) => Ok(value.or_null()),
        }
    }

    pub fn val(&mut self, up: u32, keys: Span, around: Around<'_, 'a>) -> Ran<Value<'a>> {
        let at = frame(around, up).map_or(At::Element(self.document), |frame| frame.at);
        let mut value = None;
        for number in 0..keys.len {
            let mut text = Vec::new();
            let key = match self.eval(self.child(keys, number), around)? {
                Value::Text(key) => {
                    self.spend(key.len() / 256)?;
                    key
                }
                Value::Number(number) => {
                    number.print_shortest(&mut text);
                    self.spend(text.len() / 64)?;
                    &text
                }
                other => {
                    return Err(Fault::Needs { what: "a key, which is a text or a number,", got: other.type_name() });
                }
            };
            value = Some(match value {
                None => self.within(at, std::iter::once(key))?,
                Some(value) => follow(value, std::iter::once(key)),
            });
        }
        match value {
            Some(value) => Ok(value),
            None => self.within(at, std::iter::empty()),
        }
    }
}

fn follow<'a, 'k>(value: Value<'a>, keys: impl Iterator<Item = &'k [u8]>) -> Value<'a> {
    let mut value = value;
    for key in keys {
        value = value.get(key);
        if !value.is_composite() && matches!(value, Value::Missing) {
            break;
        }
    }
    value
}

/// Reads all paths of a document, each once.
pub fn fill<'a>(program: &'a Program, slots: &mut [Value<'a>], branches: &'a [Branch], value: Value<'a>) {
    let Value::Stored(container) = value else { return };
    if !container.is_object() {
        return fill_array(program, slots, branches, container);
    }
    container.find_all(branches.iter().map(|branch| &*branch.key), |number, value| {
        grow(program, slots, &branches[number], value);
    });
}

fn fill_array<'a>(program: &'a Program, slots: &mut [Value<'a>], branches: &'a [Branch], array: Container<'a>) {
    for branch in branches {
        if let Some(index) = branch.index
            && let Some(value) = array.element(index as usize)
        {
            grow(program, slots, branch, value);
        }
    }
}

fn grow<'a>(program: &'a Program, slots: &mut [Value<'a>], branch: &'a Branch, value: Value<'a>) {
    if let Some(slot) = branch.slot {
        slots[slot as usize] = value;
    }
    if branch.from < branch.to {
        fill(program, slots, &program.branches[branch.from as usize..branch.to as usize], value);
    }
}
