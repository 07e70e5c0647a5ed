//! Runs a program over one document. Pure Rust.
//!
//! The tree of nodes is walked by calls that nest no deeper than rules do (compile.rs). What is made on the way lies in an arena that the caller empties
//! after the document, so that the usual rule asks the system for no memory at all. Operations and bytes are counted; every few thousand
//! operations `poll` is called, which may end it all.

mod budget;

use bumpalo::Bump;

use super::compare::holds;
use super::fault::Ran;
use super::look::fill;
use super::number::Number;
use super::operator::Each;
use super::program::{Node, NodeId, Program, Span};
use super::value::Value;

/// What one document may take, and what the rules may know of the world.
#[derive(Clone, Copy)]
pub struct Limits<'p> {
    pub operations: u64,
    pub bytes: usize,
    /// Called every few thousand operations.
    pub poll: &'p dyn Fn(),
    /// What `now` says, in microseconds since 1970.
    pub now: i64,
}

/// Operations between two polls: some tens of microseconds. What takes longer than others is charged as more of them, in pieces where it may take milliseconds.
const FUEL: u32 = 4_096;
/// Texts are worked at in pieces of this length.
pub const PIECE: usize = 256 * 1024;
/// A path is not looked up yet, and leads to none of the texts.
const UNKNOWN: u32 = u32::MAX;
const NO_TEXT: u32 = u32::MAX - 1;

pub struct Run<'a> {
    pub program: &'a Program,
    pub arena: &'a Bump,
    limits: Limits<'a>,
    pub document: Value<'a>,
    slots: &'a mut [Value<'a>],
    memos: &'a mut [Option<Value<'a>>],
    dispatched: &'a mut [u32],
    fuel: u32,
    operations: u64,
    bytes: usize,
}

/// What an array operator is at, and what it stands in.
pub struct Frame<'f, 'a> {
    pub at: At<'a>,
    pub index: usize,
    pub around: Option<&'f Frame<'f, 'a>>,
}

#[derive(Clone, Copy)]
pub enum At<'a> {
    Element(Value<'a>),
    Reduce { current: Value<'a>, accumulator: Value<'a> },
}

pub type Around<'f, 'a> = Option<&'f Frame<'f, 'a>>;

impl<'a> Run<'a> {
    pub fn new(program: &'a Program, document: Value<'a>, arena: &'a Bump, limits: Limits<'a>) -> Ran<Run<'a>> {
        let needed = program.slots.len() * size_of::<Value>() + program.memos as usize * size_of::<Option<Value>>();
        let fuel = FUEL.min(u32::try_from(limits.operations).unwrap_or(FUEL));
        let run = Run {
            program,
            arena,
            limits,
            document,
            slots: arena.alloc_slice_fill_copy(program.slots.len(), Value::Missing),
            memos: arena.alloc_slice_fill_copy(program.memos as usize, None),
            dispatched: arena.alloc_slice_fill_copy(program.dispatches.len(), UNKNOWN),
            fuel,
            operations: limits.operations - u64::from(fuel),
            // What the program itself needs is not the document's fault.
            bytes: limits.bytes.saturating_add(needed),
        };
        if let Some(whole) = program.whole {
            run.slots[whole as usize] = document;
        }
        let branches = &program.branches[program.root.0 as usize..program.root.1 as usize];
        fill(program, run.slots, branches, document);
        Ok(run)
    }

    pub fn now(&self) -> i64 {
        self.limits.now
    }

    pub fn slot(&self, slot: u32) -> Value<'a> {
        self.slots[slot as usize]
    }

    #[inline]
    pub fn eval(&mut self, id: NodeId, around: Around<'_, 'a>) -> Ran<Value<'a>> {
        self.step()?;
        match self.program.nodes[id as usize] {
            Node::Constant(number) => Ok(self.program.constant(number)),
            Node::Slot(slot) => Ok(self.slot(slot).or_null()),
            node => self.eval_other(node, around),
        }
    }

    fn eval_other(&mut self, node: Node, around: Around<'_, 'a>) -> Ran<Value<'a>> {
        match node {
            Node::Constant(number) => Ok(self.program.constant(number)),
            Node::Slot(slot) => Ok(self.slot(slot).or_null()),
            Node::SlotOr { slot, otherwise } => match self.slot(slot) {
                Value::Missing => self.eval(otherwise, around),
                value => Ok(value),
            },
            Node::Local { up, path } => Ok(self.local(up, path, around)?.or_null()),
            Node::LocalOr { path, otherwise } => match self.local(0, path, around)? {
                Value::Missing => self.eval(otherwise, around),
                value => Ok(value),
            },
            Node::Index { up } => Ok(frame(around, up).map_or(Value::Null, |frame| Value::int(frame.index as i64))),
            Node::Var { path, otherwise } => self.var(path, otherwise, around),
            Node::Val { up, keys } => Ok(self.val(up, keys, around)?.or_null()),
            Node::And(span) | Node::Or(span) => self.logical(span, matches!(node, Node::Or(_)), around),
            Node::Coalesce(span) => {
                let mut last = Value::Null;
                for at in 0..span.len {
                    last = self.eval(self.child(span, at), around)?;
                    if !matches!(last, Value::Null) {
                        break;
                    }
                }
                Ok(last)
            }
            Node::If(span) => match self.chosen(span, around)? {
                Some(chosen) => chosen,
                None => Ok(Value::Null),
            },
            Node::Arithmetic { arguments, operator } => self.arithmetic(operator, arguments, around),
            Node::Spread { argument, operator } => self.spread(operator, argument, around),
            Node::Each { list, body, each: each @ (Each::Map | Each::Filter) } => {
                self.collect(list, body, each == Each::Filter, around)
            }
            Node::Reduce { list, body, start } => self.reduce(list, body, start, around),
            Node::Call { arguments, function } => self.call(function, arguments, around),
            Node::List(span) => {
                let list = self.all(span, around)?;
                Ok(Value::List(list))
            }
            Node::Shared { of, memo } => {
                if let Some(known) = self.memos[memo as usize] {
                    return Ok(known);
                }
                let value = self.eval(of, around)?;
                self.memos[memo as usize] = Some(value);
                Ok(value)
            }
            _ => self.decide(node, around).map(Value::Bool),
        }
    }

    /// The truth of an expression.
    #[inline]
    pub fn test(&mut self, id: NodeId, around: Around<'_, 'a>) -> Ran<bool> {
        self.step()?;
        self.test_node(self.program.nodes[id as usize], around)
    }

    #[inline]
    fn test_node(&mut self, node: Node, around: Around<'_, 'a>) -> Ran<bool> {
        match node {
            Node::And(span) => {
                for at in 0..span.len {
                    if !self.test(self.child(span, at), around)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Node::Or(span) => {
                for at in 0..span.len {
                    if self.test(self.child(span, at), around)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Node::TextIs { .. }
            | Node::TextAt { .. }
            | Node::IntOrder { .. }
            | Node::Equal { .. }
            | Node::Order { .. }
            | Node::Not(_)
            | Node::Truth(_)
            | Node::InTexts { .. }
            | Node::SlotExists(_)
            | Node::LocalExists { .. }
            | Node::ValExists { .. } => self.decide(node, around),
            Node::Each { each: Each::All | Each::None | Each::Some, .. } => self.decide(node, around),
            Node::Slot(slot) => Ok(self.slot(slot).truth()),
            _ => Ok(self.eval_other(node, around)?.truth()),
        }
    }

    /// What is true or false whatever it is asked for.
    #[inline]
    fn decide(&mut self, node: Node, around: Around<'_, 'a>) -> Ran<bool> {
        match node {
            Node::TextIs { slot, text, loose, negate } => {
                let is = match self.slot(slot) {
                    Value::Text(bytes) => bytes == self.program.text(text),
                    value => loose && value.equals(&self.program.constant(text)),
                };
                Ok(is != negate)
            }
            Node::TextAt { dispatch, number, text, loose, negate } => {
                let state = self.dispatched[dispatch as usize];
                let state = if state == UNKNOWN { self.look_up(dispatch) } else { state };
                // What is no text is compared one by one.
                let is = if state == UNKNOWN {
                    let value = self.slot(self.program.dispatches[dispatch as usize].slot);
                    loose && value.equals(&self.program.constant(text))
                } else {
                    state == number
                };
                Ok(is != negate)
            }
            Node::IntOrder { slot, order, than } => match self.slot(slot) {
                Value::Number(Number::Int(int)) => Ok(holds(order, int.cmp(&than))),
                value => self.in_order(value.or_null(), Value::int(than), order),
            },
            Node::Equal { arguments, loose, negate } => {
                let mut left = self.eval(self.child(arguments, 0), around)?;
                for at in 1..arguments.len {
                    let right = self.eval(self.child(arguments, at), around)?;
                    if self.equal(left, right, loose, 0)? == negate {
                        return Ok(false);
                    }
                    left = right;
                }
                Ok(true)
            }
            Node::Order { arguments, order } => {
                let mut left = self.eval(self.child(arguments, 0), around)?;
                for at in 1..arguments.len {
                    let right = self.eval(self.child(arguments, at), around)?;
                    if !self.in_order(left, right, order)? {
                        return Ok(false);
                    }
                    left = right;
                }
                Ok(true)
            }
            Node::Not(of) => Ok(!self.test(of, around)?),
            Node::Truth(of) => self.test(of, around),
            Node::InTexts { needle, table } => Ok(match self.eval(needle, around)? {
                Value::Text(text) => self.program.tables[table as usize].find(self.program, text).is_some(),
                _ => false,
            }),
            Node::Each { list, body, each } => self.quantify(each, list, body, around),
            Node::SlotExists(slot) => Ok(!matches!(self.slot(slot), Value::Missing)),
            Node::LocalExists { up, path } => Ok(!matches!(self.local(up, path, around)?, Value::Missing)),
            Node::ValExists { keys } => Ok(!matches!(self.val(0, keys, around)?, Value::Missing)),
            _ => Ok(self.eval_other(node, around)?.truth()),
        }
    }

    #[inline]
    pub fn child(&self, span: Span, at: u32) -> NodeId {
        self.program.lists[(span.from + at) as usize]
    }

    pub fn all(&mut self, span: Span, around: Around<'_, 'a>) -> Ran<&'a [Value<'a>]> {
        self.take(span.len as usize * size_of::<Value>())?;
        let list = self.arena.alloc_slice_fill_copy(span.len as usize, Value::Null);
        for at in 0..span.len {
            list[at as usize] = self.eval(self.child(span, at), around)?;
        }
        Ok(list)
    }

    fn logical(&mut self, span: Span, until: bool, around: Around<'_, 'a>) -> Ran<Value<'a>> {
        let mut last = Value::Null;
        for at in 0..span.len {
            last = self.eval(self.child(span, at), around)?;
            if last.truth() == until {
                break;
            }
        }
        Ok(last)
    }

    /// `if`: conditions and consequences by turns, and what holds otherwise.
    #[allow(clippy::type_complexity)]
    fn chosen(&mut self, span: Span, around: Around<'_, 'a>) -> Ran<Option<Ran<Value<'a>>>> {
        let mut at = 0;
        while at + 1 < span.len {
            if self.test(self.child(span, at), around)? {
                return Ok(Some(self.eval(self.child(span, at + 1), around)));
            }
            at += 2;
        }
        Ok((at < span.len).then(|| self.eval(self.child(span, at), around)))
    }

    #[cold]
    #[inline(never)]
    fn look_up(&mut self, dispatch: u32) -> u32 {
        let asked = &self.program.dispatches[dispatch as usize];
        let Value::Text(text) = self.slot(asked.slot) else { return UNKNOWN };
        let state = asked.table.find(self.program, text).unwrap_or(NO_TEXT);
        self.dispatched[dispatch as usize] = state;
        state
    }
}

pub fn frame<'f, 'a>(around: Around<'f, 'a>, up: u32) -> Option<&'f Frame<'f, 'a>> {
    let mut at = around;
    for _ in 0..up {
        at = at?.around;
    }
    at
}
