//! The tables of a program while it is compiled: the same constant, path or expression gets the same number. Pure Rust.

use std::collections::{HashMap, HashSet};

use super::jsonb::key_order;
use super::number::Number;
use super::operator::Order;
use super::program::{Body, Branch, Constant, Dispatch, Node, NodeId, Program, Range, Span, TextTable};
use super::value::{self, Value};

/// So many texts asked of one path are looked up at once.
const DISPATCHED: usize = 4;
/// So many texts in a constant list are looked up by their hash.
const HASHED: usize = 4;

#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Null,
    Bool(bool),
    /// As printed: 1.0 is another constant than 1.
    Number(Vec<u8>),
    Text(&'a [u8]),
    Stored(&'a [u8]),
}

/// What is left of a path, and the slot that it leads to.
type Way<'k> = (&'k [Vec<u8>], u32);

pub struct Interner<'a> {
    source: &'a [u8],
    nodes: Vec<Node>,
    known_nodes: HashMap<Node, NodeId>,
    /// How often a node is an argument or a rule's condition.
    uses: Vec<u32>,
    lists: Vec<NodeId>,
    known_lists: HashMap<Vec<NodeId>, Span>,
    constants: Vec<Constant>,
    known_constants: HashMap<Key<'a>, u32>,
    slots: Vec<Vec<Vec<u8>>>,
    known_slots: HashMap<Vec<Vec<u8>>, u32>,
    paths: Vec<Vec<Box<[u8]>>>,
    known_paths: HashMap<Vec<Vec<u8>>, u32>,
    tables: Vec<TextTable>,
}

impl<'a> Interner<'a> {
    pub fn new(source: &'a [u8]) -> Interner<'a> {
        Interner {
            source,
            nodes: Vec::new(),
            known_nodes: HashMap::new(),
            uses: Vec::new(),
            lists: Vec::new(),
            known_lists: HashMap::new(),
            constants: Vec::new(),
            known_constants: HashMap::new(),
            slots: Vec::new(),
            known_slots: HashMap::new(),
            paths: Vec::new(),
            known_paths: HashMap::new(),
            tables: Vec::new(),
        }
    }

    pub fn node(&self, id: NodeId) -> Node {
        self.nodes[id as usize]
    }

    pub fn add(&mut self, node: Node) -> NodeId {
        if let Some(known) = self.known_nodes.get(&node) {
            return *known;
        }
        let id = self.nodes.len() as NodeId;
        self.nodes.push(node);
        self.uses.push(0);
        self.known_nodes.insert(node, id);
        self.children(node, |interner, child| interner.uses[child as usize] += 1);
        id
    }

    /// A rule asks for the node.
    pub fn used(&mut self, id: NodeId) {
        self.uses[id as usize] += 1;
    }

    pub fn list(&mut self, nodes: &[NodeId]) -> Span {
        if let Some(known) = self.known_lists.get(nodes) {
            return *known;
        }
        let span = Span { from: self.lists.len() as u32, len: nodes.len() as u32 };
        self.lists.extend_from_slice(nodes);
        self.known_lists.insert(nodes.to_vec(), span);
        span
    }

    /// Where a part of the source lies.
    pub fn range(&self, bytes: &[u8]) -> Range {
        let from = (bytes.as_ptr() as usize).wrapping_sub(self.source.as_ptr() as usize);
        // What is empty may lie anywhere.
        if bytes.is_empty() || from + bytes.len() > self.source.len() {
            return Range { from: 0, to: 0 };
        }
        Range { from: from as u32, to: (from + bytes.len()) as u32 }
    }

    pub fn constant(&mut self, value: Value<'a>) -> NodeId {
        let number = self.constant_number(value);
        self.add(Node::Constant(number))
    }

    pub fn constant_number(&mut self, value: Value<'a>) -> u32 {
        let (key, constant) = match value {
            Value::Bool(truth) => (Key::Bool(truth), Constant::Bool(truth)),
            Value::Number(number) => {
                let mut text = Vec::new();
                number.print(&mut text);
                let constant = match number {
                    Number::Long(bytes) => Constant::Long(self.range(bytes)),
                    Number::Int(int) => Constant::Small(Number::Int(int)),
                    Number::Dec { mantissa, scale } => Constant::Small(Number::Dec { mantissa, scale }),
                };
                (Key::Number(text), constant)
            }
            Value::Text(text) => (Key::Text(text), Constant::Text(self.range(text))),
            Value::Stored(container) => {
                (Key::Stored(container.bytes()), Constant::Stored(self.range(container.bytes())))
            }
            _ => (Key::Null, Constant::Null),
        };
        let next = self.constants.len() as u32;
        let number = *self.known_constants.entry(key).or_insert(next);
        if number == next {
            self.constants.push(constant);
        }
        number
    }

    /// The length of a constant array.
    pub fn constant_length(&self, number: u32) -> u64 {
        if let Constant::Stored(range) = self.constants[number as usize] {
            let bytes = &self.source[range.from as usize..range.to as usize];
            return super::jsonb::Container::new(bytes).len() as u64;
        }
        1
    }

    /// The slot of a path of the document.
    pub fn slot(&mut self, keys: &[Vec<u8>]) -> u32 {
        let next = self.slots.len() as u32;
        let slot = *self.known_slots.entry(keys.to_vec()).or_insert(next);
        if slot == next {
            self.slots.push(keys.to_vec());
        }
        slot
    }

    /// A path from an element.
    pub fn path(&mut self, keys: Vec<Vec<u8>>) -> u32 {
        let next = self.paths.len() as u32;
        let boxed = keys.iter().map(|key| key.clone().into_boxed_slice()).collect();
        let path = *self.known_paths.entry(keys).or_insert(next);
        if path == next {
            self.paths.push(boxed);
        }
        path
    }

    /// A path and a text, in any order.
    pub fn text_is(&self, nodes: &[NodeId], loose: bool, negate: bool) -> Option<Node> {
        let &[a, b] = nodes else { return None };
        match (self.node(a), self.node(b)) {
            (Node::Slot(slot), Node::Constant(text)) | (Node::Constant(text), Node::Slot(slot))
                if matches!(self.constants[text as usize], Constant::Text(_)) =>
            {
                Some(Node::TextIs { slot, text, loose, negate })
            }
            _ => None,
        }
    }

    /// A path and a whole number, in any order.
    pub fn int_order(&self, nodes: &[NodeId], order: Order) -> Option<Node> {
        let &[a, b] = nodes else { return None };
        let int = |number: u32| match self.constants[number as usize] {
            Constant::Small(Number::Int(int)) => Some(int),
            _ => None,
        };
        match (self.node(a), self.node(b)) {
            (Node::Slot(slot), Node::Constant(number)) => Some(Node::IntOrder { slot, order, than: int(number)? }),
            (Node::Constant(number), Node::Slot(slot)) => {
                let order = match order {
                    Order::Less => Order::Greater,
                    Order::LessOrEqual => Order::GreaterOrEqual,
                    Order::Greater => Order::Less,
                    Order::GreaterOrEqual => Order::LessOrEqual,
                };
                Some(Node::IntOrder { slot, order, than: int(number)? })
            }
            _ => None,
        }
    }

    /// Something in a constant list of many texts.
    pub fn in_texts(&mut self, nodes: &[NodeId]) -> Option<Node> {
        let &[needle, list] = nodes else { return None };
        let Node::Constant(number) = self.node(list) else { return None };
        let Constant::Stored(range) = self.constants[number as usize] else { return None };
        let source = self.source;
        let container = super::jsonb::Container::new(&source[range.from as usize..range.to as usize]);
        if container.is_object() || container.len() < HASHED || !container.values().all(|v| matches!(v, Value::Text(_)))
        {
            return None;
        }
        let texts: Vec<(u32, u32)> = container.values().map(|text| (self.constant_number(text), 0)).collect();
        let table = TextTable::new(&texts, |constant| self.text(constant));
        self.tables.push(table);
        Some(Node::InTexts { needle, table: self.tables.len() as u32 - 1 })
    }

    fn text(&self, constant: u32) -> Vec<u8> {
        match self.constants[constant as usize] {
            Constant::Text(range) => self.source[range.from as usize..range.to as usize].to_vec(),
            _ => Vec::new(),
        }
    }

    /// Calls `visit` with each node that this one evaluates.
    fn children(&mut self, node: Node, mut visit: impl FnMut(&mut Self, NodeId)) {
        for child in self.child_list(node) {
            visit(self, child);
        }
    }

    fn child_list(&self, node: Node) -> Vec<NodeId> {
        let list = |span: Span| self.lists[span.from as usize..][..span.len as usize].to_vec();
        match node {
            Node::SlotOr { otherwise, .. } | Node::LocalOr { otherwise, .. } => vec![otherwise],
            Node::Var { path, otherwise } => [Some(path), otherwise].into_iter().flatten().collect(),
            Node::Val { keys, .. } | Node::ValExists { keys } => list(keys),
            Node::Equal { arguments, .. }
            | Node::Order { arguments, .. }
            | Node::Arithmetic { arguments, .. }
            | Node::Call { arguments, .. } => list(arguments),
            Node::And(span) | Node::Or(span) | Node::Coalesce(span) | Node::If(span) | Node::List(span) => list(span),
            Node::Not(of) | Node::Truth(of) => vec![of],
            Node::Spread { argument, .. } => vec![argument],
            Node::Each { list, body, .. } => vec![list, body],
            Node::Reduce { list, body, start } => vec![list, body, start],
            Node::InTexts { needle, .. } => vec![needle],
            _ => Vec::new(),
        }
    }

    /// The slots that an expression reads, in the order of their first use.
    pub fn slots_of(&self, node: NodeId) -> Vec<u32> {
        let mut slots = Vec::new();
        let (mut seen, mut seen_slots) = (HashSet::new(), HashSet::new());
        let mut waiting = vec![node];
        while let Some(id) = waiting.pop() {
            if !seen.insert(id) {
                continue;
            }
            match self.node(id) {
                Node::Slot(slot)
                | Node::SlotOr { slot, .. }
                | Node::SlotExists(slot)
                | Node::TextIs { slot, .. }
                | Node::IntOrder { slot, .. }
                    if seen_slots.insert(slot) =>
                {
                    slots.push(slot);
                }
                _ => {}
            }
            let mut children = self.child_list(self.node(id));
            children.reverse();
            waiting.extend(children);
        }
        slots
    }

    /// How many array operators around it a node needs to have a value; none: it reads nothing but the document, and has one value for each. Children have smaller
    /// numbers than their parents.
    fn needs(&self) -> Vec<u32> {
        use super::operator::Function::{Missing, MissingSome};
        let mut needs: Vec<u32> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let of = |child: &NodeId| needs[*child as usize];
            let need = match node {
                Node::Local { up, .. } | Node::LocalExists { up, .. } | Node::Index { up } => up + 1,
                Node::LocalOr { otherwise, .. } => of(otherwise).max(1),
                // What they read is computed, or is whatever they stand in.
                Node::Var { .. } | Node::Val { .. } | Node::ValExists { .. } => u32::MAX,
                Node::Call { function: Missing | MissingSome, .. } => u32::MAX,
                Node::Each { list, body, .. } => of(list).max(inside(of(body))),
                Node::Reduce { list, body, start } => of(list).max(of(start)).max(inside(of(body))),
                _ => self.child_list(*node).iter().map(of).max().unwrap_or(0),
            };
            needs.push(need);
        }
        needs
    }

    /// Nodes that are asked for more than once, and are worth keeping, are kept.
    fn share(&mut self) -> u32 {
        let needs = self.needs();
        let mut memos = 0;
        for (id, need) in needs.into_iter().enumerate() {
            let worth = !matches!(
                self.nodes[id],
                Node::Constant(_)
                    | Node::Slot(_)
                    | Node::SlotOr { .. }
                    | Node::SlotExists(_)
                    | Node::TextIs { .. }
                    | Node::IntOrder { .. }
            );
            if self.uses[id] > 1 && worth && need == 0 {
                let of = self.nodes.len() as NodeId;
                self.nodes.push(self.nodes[id]);
                self.nodes[id] = Node::Shared { of, memo: memos };
                memos += 1;
            }
        }
        memos
    }

    /// Paths that are compared with many texts are looked up in a table of these.
    fn dispatch(&mut self) -> Vec<Dispatch> {
        let mut asked: HashMap<u32, HashMap<u32, u32>> = HashMap::new();
        for node in &self.nodes {
            if let Node::TextIs { slot, text, .. } = *node {
                let texts = asked.entry(slot).or_default();
                let next = texts.len() as u32;
                texts.entry(text).or_insert(next);
            }
        }
        let mut slots: Vec<u32> =
            asked.iter().filter(|(_, texts)| texts.len() >= DISPATCHED).map(|(s, _)| *s).collect();
        slots.sort_unstable();
        for node in &mut self.nodes {
            if let Node::TextIs { slot, text, loose, negate } = *node
                && let Ok(dispatch) = slots.binary_search(&slot)
                && let Some(number) = asked.get(&slot).and_then(|texts| texts.get(&text))
            {
                *node = Node::TextAt { dispatch: dispatch as u32, number: *number, text, loose, negate };
            }
        }
        let mut dispatches = Vec::with_capacity(slots.len());
        for slot in slots {
            let numbered: Vec<(u32, u32)> = asked.remove(&slot).unwrap_or_default().into_iter().collect();
            let table = TextTable::new(&numbered, |constant| self.text(constant));
            dispatches.push(Dispatch { slot, table });
        }
        dispatches
    }

    pub fn finish(mut self, source: &[u8], body: Body) -> Program {
        let memos = self.share();
        let dispatches = self.dispatch();
        let mut branches = Vec::new();
        let whole = self.known_slots.get(&Vec::new()).copied();
        let mut all: Vec<Way> = self.slots.iter().map(Vec::as_slice).zip(0..).collect();
        all.retain(|(keys, _)| !keys.is_empty());
        let root = grow(&mut branches, all);
        Program {
            source: source.into(),
            nodes: self.nodes,
            lists: self.lists,
            constants: self.constants,
            branches,
            root,
            whole,
            slots: self.slots.iter().map(|keys| keys.join(&b'.').into_boxed_slice()).collect(),
            paths: self.paths,
            tables: self.tables,
            dispatches,
            memos,
            body,
        }
    }
}

/// What an array operator around it leaves of a need.
fn inside(need: u32) -> u32 {
    if need == u32::MAX { need } else { need.saturating_sub(1) }
}

/// Adds the branches that these paths begin with, all together, and then what is below each.
fn grow(branches: &mut Vec<Branch>, mut paths: Vec<Way>) -> (u32, u32) {
    paths.sort_by(|a, b| key_order(&a.0[0], &b.0[0]));
    let from = branches.len();
    let mut below: Vec<Vec<Way>> = Vec::new();
    for (keys, slot) in paths {
        let [first, rest @ ..] = keys else { continue };
        if branches.len() == from || branches.last().is_some_and(|last| *last.key != **first) {
            let index = value::index(first).map(|index| index as u32);
            branches.push(Branch { key: first.clone().into_boxed_slice(), index, slot: None, from: 0, to: 0 });
            below.push(Vec::new());
        }
        if rest.is_empty() {
            if let Some(last) = branches.last_mut() {
                last.slot = Some(slot);
            }
        } else if let Some(last) = below.last_mut() {
            last.push((rest, slot));
        }
    }
    let to = branches.len();
    for (number, paths) in below.into_iter().enumerate() {
        if !paths.is_empty() {
            (branches[from + number].from, branches[from + number].to) = grow(branches, paths);
        }
    }
    (from as u32, to as u32)
}
