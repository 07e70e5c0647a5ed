//! Runs a program over one document. Pure Rust.
//!
//! The tree of nodes is walked by calls that nest no deeper than rules do (compile.rs). What is made on the way lies in an arena that the caller empties
//! after the document, so that the usual rule asks the system for no memory at all. Operations and bytes are counted; every few thousand
//! operations `poll` is called, which may end it all.

use std::cmp::Ordering;

use bumpalo::Bump;

use super::fault::{Fault, Ran};
use super::jsonb::Container;
use super::number::{Number, Outcome};
use super::operator::{Each, Order};
use super::program::{Branch, Node, NodeId, Program, Span};
use super::value::{Elements, Value};

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

/// Operations between two polls: some tens of microseconds.
const FUEL: u32 = 4_096;
/// Comparing goes so deep.
const MOST_DEPTH: usize = 1_000;
/// A path is not looked up yet, and leads to none of the texts.
const UNKNOWN: u32 = u32::MAX;
const NO_TEXT: u32 = u32::MAX - 1;

pub struct Run<'a> {
    pub program: &'a Program,
    pub arena: &'a Bump,
    limits: Limits<'a>,
    document: Value<'a>,
    slots: &'a mut [Value<'a>],
    memos: &'a mut [Option<Value<'a>>],
    dispatched: &'a mut [u32],
    fuel: u32,
    operations: u64,
    bytes: usize,
}

/// What an array operator is at, and what it stands in.
pub struct Frame<'f, 'a> {
    at: At<'a>,
    index: usize,
    around: Option<&'f Frame<'f, 'a>>,
}

#[derive(Clone, Copy)]
enum At<'a> {
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

    #[inline(always)]
    fn step(&mut self) -> Ran<()> {
        if self.fuel == 0 {
            self.refuel()?;
        }
        self.fuel -= 1;
        Ok(())
    }

    #[cold]
    fn refuel(&mut self) -> Ran<()> {
        if self.operations == 0 {
            return Err(Fault::Operations);
        }
        (self.limits.poll)();
        self.fuel = FUEL.min(u32::try_from(self.operations).unwrap_or(FUEL));
        self.operations -= u64::from(self.fuel);
        Ok(())
    }

    /// As many steps at once.
    pub fn spend(&mut self, steps: usize) -> Ran<()> {
        let mut left = steps;
        while left > 0 {
            if self.fuel == 0 {
                self.refuel()?;
            }
            let now = left.min(self.fuel as usize);
            self.fuel -= now as u32;
            left -= now;
        }
        Ok(())
    }

    /// Takes so many bytes from the budget, and the time to fill them.
    pub fn take(&mut self, bytes: usize) -> Ran<()> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Fault::Bytes)?;
        self.spend(bytes / 64)
    }

    pub fn settle(&mut self, outcome: Outcome) -> Ran<Number<'a>> {
        match outcome {
            Outcome::Small(number) => Ok(number),
            Outcome::Long(decimal) => {
                let bytes = super::build::long(&decimal);
                Ok(Number::Long(self.keep(&bytes)?))
            }
        }
    }

    pub fn keep(&mut self, bytes: &[u8]) -> Ran<&'a [u8]> {
        self.take(bytes.len())?;
        Ok(self.arena.alloc_slice_copy(bytes))
    }

    pub fn keep_list(&mut self, list: &[Value<'a>]) -> Ran<Value<'a>> {
        self.take(size_of_val(list))?;
        Ok(Value::List(self.arena.alloc_slice_copy(list)))
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

    pub fn equal(&mut self, a: Value<'a>, b: Value<'a>, loose: bool, depth: usize) -> Ran<bool> {
        if !a.is_composite() || !b.is_composite() {
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
        for (key, value) in self.pairs(a)? {
            self.step()?;
            let there = b.get(key);
            if matches!(there, Value::Missing) || !self.equal(value, there, false, depth + 1)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn pairs(&mut self, object: Value<'a>) -> Ran<Vec<(&'a [u8], Value<'a>)>> {
        self.spend(object.pair_count().unwrap_or(0))?;
        Ok(match object {
            Value::Stored(container) => container.pairs().collect(),
            Value::Pairs(pairs) => pairs.to_vec(),
            _ => Vec::new(),
        })
    }

    fn in_order(&mut self, a: Value<'a>, b: Value<'a>, order: Order) -> Ran<bool> {
        let ordering = match (a, b) {
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            _ => {
                let (a, b) = (self.number(a)?, self.number(b)?);
                self.spend((a.length() + b.length()) / 64)?;
                a.compare(&b)
            }
        };
        Ok(holds(order, ordering))
    }

    fn local(&mut self, up: u32, path: u32, around: Around<'_, 'a>) -> Ran<Value<'a>> {
        let program = self.program;
        let keys = &program.paths[path as usize];
        let Some(frame) = frame(around, up) else { return Ok(follow(self.document, keys.iter().map(|key| &**key))) };
        self.within(frame.at, keys.iter().map(|key| &**key))
    }

    fn within<'k>(&mut self, at: At<'a>, keys: impl Iterator<Item = &'k [u8]>) -> Ran<Value<'a>> {
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

    fn var(&mut self, path: NodeId, otherwise: Option<NodeId>, around: Around<'_, 'a>) -> Ran<Value<'a>> {
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

    fn val(&mut self, up: u32, keys: Span, around: Around<'_, 'a>) -> Ran<Value<'a>> {
        let at = frame(around, up).map_or(At::Element(self.document), |frame| frame.at);
        let mut value = None;
        for number in 0..keys.len {
            let mut text = Vec::new();
            let key = match self.eval(self.child(keys, number), around)? {
                Value::Text(key) => key,
                Value::Number(number) => {
                    number.print_shortest(&mut text);
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

    /// The elements that an array operator goes through.
    fn list(&mut self, list: NodeId, around: Around<'_, 'a>) -> Ran<Option<(Elements<'a>, usize)>> {
        Ok(self.eval(list, around)?.elements())
    }

    fn collect(&mut self, list: NodeId, body: NodeId, filter: bool, around: Around<'_, 'a>) -> Ran<Value<'a>> {
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

    fn quantify(&mut self, each: Each, list: NodeId, body: NodeId, around: Around<'_, 'a>) -> Ran<bool> {
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

    fn reduce(&mut self, list: NodeId, body: NodeId, start: NodeId, around: Around<'_, 'a>) -> Ran<Value<'a>> {
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

#[inline]
fn holds(order: Order, ordering: Ordering) -> bool {
    match order {
        Order::Less => ordering == Ordering::Less,
        Order::LessOrEqual => ordering != Ordering::Greater,
        Order::Greater => ordering == Ordering::Greater,
        Order::GreaterOrEqual => ordering != Ordering::Less,
    }
}

fn frame<'f, 'a>(around: Around<'f, 'a>, up: u32) -> Option<&'f Frame<'f, 'a>> {
    let mut at = around;
    for _ in 0..up {
        at = at?.around;
    }
    at
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
fn fill<'a>(program: &'a Program, slots: &mut [Value<'a>], branches: &'a [Branch], value: Value<'a>) {
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
