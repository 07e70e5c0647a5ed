//! A compiled rule, rule set or model: flat tables of indices, no pointers, so that it can be kept as long as it is of use. Pure Rust.

use super::jsonb::Container;
use super::number::Number;
use super::operator::{Arithmetic, Each, Function, Order};
use super::value::Value;

pub type NodeId = u32;

/// A run of `Program::lists`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Span {
    pub from: u32,
    pub len: u32,
}

/// A step of a rule. Numbers refer to the program's tables; two equal expressions are one node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Node {
    Constant(u32),
    /// What a path of the document leads to.
    Slot(u32),
    SlotOr {
        slot: u32,
        otherwise: NodeId,
    },
    SlotExists(u32),
    /// The same from the element that an array operator is at; `up`: from the one so many array operators around it.
    Local {
        up: u32,
        path: u32,
    },
    LocalOr {
        path: u32,
        otherwise: NodeId,
    },
    LocalExists {
        up: u32,
        path: u32,
    },
    /// Which element that is.
    Index {
        up: u32,
    },
    /// Paths that are computed.
    Var {
        path: NodeId,
        otherwise: Option<NodeId>,
    },
    Val {
        up: u32,
        keys: Span,
    },
    ValExists {
        keys: Span,
    },
    /// `==` or `===` of a path and a text.
    TextIs {
        slot: u32,
        text: u32,
        loose: bool,
        negate: bool,
    },
    /// The same where many texts are asked of one path: a number of `Program::dispatches`, and of the text in it.
    TextAt {
        dispatch: u32,
        number: u32,
        text: u32,
        loose: bool,
        negate: bool,
    },
    /// A path against a whole number.
    IntOrder {
        slot: u32,
        order: Order,
        than: i64,
    },
    Equal {
        arguments: Span,
        loose: bool,
        negate: bool,
    },
    Order {
        arguments: Span,
        order: Order,
    },
    And(Span),
    Or(Span),
    Coalesce(Span),
    If(Span),
    Not(NodeId),
    Truth(NodeId),
    Arithmetic {
        arguments: Span,
        operator: Arithmetic,
    },
    /// The elements of one computed argument.
    Spread {
        argument: NodeId,
        operator: Arithmetic,
    },
    Each {
        list: NodeId,
        body: NodeId,
        each: Each,
    },
    Reduce {
        list: NodeId,
        body: NodeId,
        start: NodeId,
    },
    /// `in` a constant list of texts.
    InTexts {
        needle: NodeId,
        table: u32,
    },
    Call {
        arguments: Span,
        function: Function,
    },
    List(Span),
    /// Asked for more than once in a document: kept after the first time.
    Shared {
        of: NodeId,
        memo: u32,
    },
}

/// Bytes of `Program::source`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Range {
    pub from: u32,
    pub to: u32,
}

#[derive(Clone, Copy, Debug)]
pub enum Constant {
    Null,
    Bool(bool),
    Small(Number<'static>),
    Long(Range),
    Text(Range),
    Stored(Range),
}

/// The tree of all paths that are read from the document. Branches of one parent lie together, sorted as keys are.
#[derive(Debug)]
pub struct Branch {
    pub key: Box<[u8]>,
    /// Its place, should the parent be an array.
    pub index: Option<u32>,
    pub slot: Option<u32>,
    pub from: u32,
    pub to: u32,
}

/// Texts by their hash.
#[derive(Debug, Default)]
pub struct TextTable {
    /// Powers of two in number; a constant and its number, or none.
    cells: Vec<Option<(u32, u32)>>,
    /// The length of the longest: what is longer need not be read.
    longest: usize,
}

pub struct Dispatch {
    pub slot: u32,
    pub table: TextTable,
}

/// What a rule adds.
#[derive(Clone, Copy, Debug)]
pub enum Score {
    Int(i64),
    Node(NodeId),
}

pub struct Rule {
    pub id: Range,
    pub when: NodeId,
    pub score: Score,
    /// The paths that the rule reads.
    pub slots: Vec<u32>,
}

pub struct Weight {
    pub slot: u32,
    /// Constants.
    pub weight: u32,
    pub missing: Option<u32>,
}

pub enum Body {
    /// One expression.
    Rule(NodeId),
    Rules(Vec<Rule>),
    Model {
        logistic: bool,
        intercept: u32,
        weights: Vec<Weight>,
    },
}

pub struct Program {
    /// The rules as jsonb, without its length: constants lie in it.
    pub source: Box<[u8]>,
    pub nodes: Vec<Node>,
    pub lists: Vec<NodeId>,
    pub constants: Vec<Constant>,
    pub branches: Vec<Branch>,
    /// The branches of the root.
    pub root: (u32, u32),
    /// The whole document is a slot.
    pub whole: Option<u32>,
    /// The paths as they are written, by slot.
    pub slots: Vec<Box<[u8]>>,
    /// Paths within elements.
    pub paths: Vec<Vec<Box<[u8]>>>,
    pub tables: Vec<TextTable>,
    pub dispatches: Vec<Dispatch>,
    pub memos: u32,
    pub body: Body,
}

impl Program {
    #[inline]
    pub fn bytes(&self, range: Range) -> &[u8] {
        &self.source[range.from as usize..range.to as usize]
    }

    #[inline]
    pub fn constant(&self, number: u32) -> Value<'_> {
        match self.constants[number as usize] {
            Constant::Null => Value::Null,
            Constant::Bool(truth) => Value::Bool(truth),
            Constant::Small(number) => Value::Number(number),
            Constant::Long(range) => Value::Number(Number::Long(self.bytes(range))),
            Constant::Text(range) => Value::Text(self.bytes(range)),
            Constant::Stored(range) => Value::Stored(Container::new(self.bytes(range))),
        }
    }

    /// The bytes of a constant text.
    #[inline]
    pub fn text(&self, number: u32) -> &[u8] {
        if let Constant::Text(range) = self.constants[number as usize] { self.bytes(range) } else { &[] }
    }

    /// About how much memory it takes.
    pub fn size(&self) -> usize {
        let branches: usize = self.branches.iter().map(|branch| branch.key.len() + size_of::<Branch>()).sum();
        let rules = if let Body::Rules(rules) = &self.body {
            rules.iter().map(|rule| rule.slots.len() * 4 + size_of::<Rule>()).sum()
        } else {
            0
        };
        let tables = self.tables.iter().chain(self.dispatches.iter().map(|dispatch| &dispatch.table));
        size_of::<Program>()
            + self.source.len()
            + self.nodes.len() * size_of::<Node>()
            + self.lists.len() * 4
            + self.constants.len() * size_of::<Constant>()
            + branches
            + rules
            + self.slots.iter().map(|slot| slot.len() + 16).sum::<usize>()
            + self.paths.iter().flatten().map(|key| key.len() + 16).sum::<usize>()
            + tables.map(|table| table.cells.len() * 12).sum::<usize>()
    }
}

impl TextTable {
    /// From constants and their numbers.
    pub fn new(texts: &[(u32, u32)], text: impl Fn(u32) -> Vec<u8>) -> TextTable {
        let mut table = TextTable { cells: vec![None; (texts.len() * 2).next_power_of_two().max(2)], longest: 0 };
        for (constant, number) in texts {
            let bytes = text(*constant);
            table.longest = table.longest.max(bytes.len());
            let mut at = hash(&bytes) as usize & (table.cells.len() - 1);
            while table.cells[at].is_some() {
                at = (at + 1) & (table.cells.len() - 1);
            }
            table.cells[at] = Some((*constant, *number));
        }
        table
    }

    /// The number of a text.
    #[inline]
    pub fn find(&self, program: &Program, text: &[u8]) -> Option<u32> {
        if text.len() > self.longest {
            return None;
        }
        let mask = self.cells.len() - 1;
        let mut at = hash(text) as usize & mask;
        while let Some((constant, number)) = self.cells[at] {
            if program.text(constant) == text {
                return Some(number);
            }
            at = (at + 1) & mask;
        }
        None
    }
}

/// Texts are short, and their table is made of the rule set's own: it need not withstand an attack by documents, whose texts are only looked up.
fn hash(text: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut state = text.len() as u64;
    let mut chunks = text.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        state = (state.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
    }
    for byte in chunks.remainder() {
        state = (state.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(FACTOR);
    }
    state ^ (state >> 32)
}
