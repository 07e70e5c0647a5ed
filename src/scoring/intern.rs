//! The tables of a program while it is compiled: the same constant, path or expression gets the same number. Pure Rust.

mod finish;

use std::collections::{HashMap, HashSet};

use super::number::Number;
use super::operator::Order;
use super::program::{Body, Constant, Node, NodeId, Program, Range, Span, TextTable};
use super::value::Value;

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

    pub fn finish(mut self, source: &[u8], body: Body) -> Program {
        let memos = self.share();
        let dispatches = self.dispatch();
        let mut branches = Vec::new();
        let whole = self.known_slots.get(&Vec::new()).copied();
        let mut all: Vec<Way> = self.slots.iter().map(Vec::as_slice).zip(0..).collect();
        all.retain(|(keys, _)| !keys.is_empty());
        let root = finish::grow(&mut branches, all);
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
