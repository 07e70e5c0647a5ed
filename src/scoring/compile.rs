//! Compiles JsonLogic to a program. What is wrong with a rule is found here, with the path to it. Pure Rust.
//!
//! Every distinct path of the document is a slot, and every distinct expression a node: what fifty rules ask alike is asked once.

use super::intern::Interner;
use super::jsonb::Container;
use super::number::Number;
use super::operator::{self, Each, Function, Operator};
use super::program::{Body, Node, NodeId, Program};
use super::value::Value;

/// Why rules are refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Where: `[3].when.and[1].<`; empty for the whole.
    pub path: String,
    pub fault: String,
    /// They are larger than a limit allows, and not wrong.
    pub limit: bool,
}

/// Deeper than rules are written: evaluation calls itself so often.
pub const MOST_DEPTH: usize = 100;
/// Expressions and constants of one program.
const MOST_NODES: usize = 200_000;
/// What an array of unknown length counts as.
const GUESSED_LENGTH: u64 = 10;

pub type Compiled<T> = std::result::Result<T, Refusal>;

pub struct Compiler<'a> {
    pub interner: Interner<'a>,
    /// The way to what is being compiled.
    path: Vec<String>,
    depth: usize,
    /// How many array operators are around it.
    scope: usize,
    /// What one document can cost, in operations.
    cost: u64,
    most_cost: u64,
    nodes: usize,
}

/// One expression. `most_cost`: in operations.
pub fn rule(source: &[u8], most_cost: u64) -> Compiled<Program> {
    let mut compiler = Compiler::new(source, most_cost);
    let node = compiler.expression(Container::new(source).root())?;
    compiler.check_cost()?;
    Ok(compiler.interner.finish(source, Body::Rule(node)))
}

impl<'a> Compiler<'a> {
    pub fn new(source: &'a [u8], most_cost: u64) -> Compiler<'a> {
        Compiler { interner: Interner::new(source), path: Vec::new(), depth: 0, scope: 0, cost: 0, most_cost, nodes: 0 }
    }

    pub fn refuse<T>(&self, fault: impl Into<String>) -> Compiled<T> {
        Err(Refusal { path: self.path.concat(), fault: fault.into(), limit: false })
    }

    fn too_much<T>(&self, fault: impl Into<String>) -> Compiled<T> {
        Err(Refusal { path: self.path.concat(), fault: fault.into(), limit: true })
    }

    pub fn at<T>(&mut self, step: String, work: impl FnOnce(&mut Self) -> Compiled<T>) -> Compiled<T> {
        self.path.push(step);
        let result = work(self);
        if result.is_ok() {
            self.path.pop();
        }
        result
    }

    pub fn check_cost(&self) -> Compiled<()> {
        if self.cost > self.most_cost {
            return self.too_much(format!(
                "one document can take {} operations, and bulkhead.score_budget_ops allows {}",
                self.cost, self.most_cost
            ));
        }
        Ok(())
    }

    fn count(&mut self) -> Compiled<()> {
        self.cost = self.cost.saturating_add(1);
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return self.too_much(format!("there are more than {MOST_NODES} expressions"));
        }
        Ok(())
    }

    /// Adds a node for an expression, and what it costs.
    pub fn expression(&mut self, value: Value<'a>) -> Compiled<NodeId> {
        self.count()?;
        if self.depth >= MOST_DEPTH {
            return self.too_much(format!("it is nested deeper than {MOST_DEPTH} levels"));
        }
        self.depth += 1;
        let node = self.expression_here(value);
        self.depth -= 1;
        node
    }

    fn expression_here(&mut self, value: Value<'a>) -> Compiled<NodeId> {
        let Value::Stored(container) = value else { return Ok(self.interner.constant(value)) };
        if !container.is_object() {
            return self.array(container, value);
        }
        let mut pairs = container.pairs();
        match (container.len(), pairs.next()) {
            (1, Some((name, arguments))) => {
                let shown = String::from_utf8_lossy(name).into_owned();
                let Some((operator, least, most)) = operator::find(name) else {
                    return self.refuse(format!("there is no operator \"{shown}\""));
                };
                let dot = if self.path.is_empty() { "" } else { "." };
                self.at(format!("{dot}{shown}"), |compiler| compiler.operation(operator, arguments, least, most))
            }
            _ => {
                if let Some((name, _)) = container.pairs().find(|(name, _)| operator::find(name).is_some()) {
                    let name = String::from_utf8_lossy(name).into_owned();
                    return self.refuse(format!(
                        "an operation is an object with one key, and \"{name}\" stands in one with {}",
                        container.len()
                    ));
                }
                Ok(self.interner.constant(value))
            }
        }
    }

    fn array(&mut self, container: Container<'a>, value: Value<'a>) -> Compiled<NodeId> {
        let mut items = Vec::with_capacity(container.len().min(1_000));
        let mut constant = true;
        for (number, item) in container.values().enumerate() {
            let node = self.at(format!("[{number}]"), |compiler| compiler.expression(item))?;
            constant &= matches!(self.interner.node(node), Node::Constant(_));
            items.push(node);
        }
        if constant {
            return Ok(self.interner.constant(value));
        }
        let list = self.interner.list(&items);
        Ok(self.interner.add(Node::List(list)))
    }

    /// The arguments of an operation; one that is no array stands for an array of one.
    fn operation(&mut self, operator: Operator, arguments: Value<'a>, least: usize, most: usize) -> Compiled<NodeId> {
        let listed = matches!(arguments, Value::Stored(container) if !container.is_object());
        let given: Vec<Value<'a>> = match arguments.elements() {
            Some((elements, count)) => {
                if count > MOST_NODES {
                    return self.too_much(format!("there are more than {MOST_NODES} expressions"));
                }
                elements.collect()
            }
            None => vec![arguments],
        };
        if !(least..=most).contains(&given.len()) && !is_lenient(operator, given.len()) {
            let wanted = match (least, most) {
                (least, usize::MAX) => format!("{least} or more"),
                (least, most) if least == most => least.to_string(),
                (least, most) => format!("{least} to {most}"),
            };
            return self.refuse(format!("it takes {wanted} arguments, and has {}", given.len()));
        }
        match operator {
            Operator::Var => self.var(&given, listed),
            Operator::Val => self.val(&given, listed, false),
            Operator::Exists => self.val(&given, listed, true),
            Operator::Each(each) => self.each(each, &given),
            Operator::Reduce => self.reduce(&given),
            _ => {
                let nodes = self.all(&given, listed)?;
                self.plain(operator, &nodes, listed)
            }
        }
    }

    fn all(&mut self, given: &[Value<'a>], listed: bool) -> Compiled<Vec<NodeId>> {
        let mut nodes = Vec::with_capacity(given.len());
        for (number, value) in given.iter().enumerate() {
            nodes.push(self.argument(*value, number, listed)?);
        }
        Ok(nodes)
    }

    fn argument(&mut self, value: Value<'a>, number: usize, listed: bool) -> Compiled<NodeId> {
        if listed {
            self.at(format!("[{number}]"), |compiler| compiler.expression(value))
        } else {
            self.expression(value)
        }
    }

    /// An operation whose arguments are expressions and nothing else.
    fn plain(&mut self, operator: Operator, nodes: &[NodeId], listed: bool) -> Compiled<NodeId> {
        let computed = |interner: &Interner, node| !matches!(interner.node(node), Node::Constant(_));
        let node = match operator {
            Operator::And => Node::And(self.interner.list(nodes)),
            Operator::Or => Node::Or(self.interner.list(nodes)),
            Operator::Coalesce => Node::Coalesce(self.interner.list(nodes)),
            Operator::If => Node::If(self.interner.list(nodes)),
            Operator::Not | Operator::Truth => {
                let of = nodes.first().copied().unwrap_or_else(|| self.interner.constant(Value::Null));
                if operator == Operator::Not { Node::Not(of) } else { Node::Truth(of) }
            }
            Operator::Equal { loose, negate } => {
                if let Some(node) = self.interner.text_is(nodes, loose, negate) {
                    node
                } else {
                    Node::Equal { arguments: self.interner.list(nodes), loose, negate }
                }
            }
            Operator::Order(order) => match self.interner.int_order(nodes, order) {
                Some(node) => node,
                None => Node::Order { arguments: self.interner.list(nodes), order },
            },
            Operator::Arithmetic(operator) => match nodes {
                [argument] if !listed && computed(&self.interner, *argument) => {
                    Node::Spread { argument: *argument, operator }
                }
                [_] if operator == operator::Arithmetic::Remainder => {
                    return self.refuse("it takes 2 or more arguments, and has 1");
                }
                _ => Node::Arithmetic { arguments: self.interner.list(nodes), operator },
            },
            Operator::Call(Function::In) => match self.interner.in_texts(nodes) {
                Some(node) => node,
                None => Node::Call { arguments: self.interner.list(nodes), function: Function::In },
            },
            Operator::Call(function) => Node::Call { arguments: self.interner.list(nodes), function },
            _ => return self.refuse("it cannot stand here"),
        };
        Ok(self.interner.add(node))
    }

    fn var(&mut self, given: &[Value<'a>], listed: bool) -> Compiled<NodeId> {
        let otherwise = match given.get(1) {
            Some(value) => Some(self.argument(*value, 1, true)?),
            None => None,
        };
        let keys = match given.first() {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Text(path)) => split(path),
            Some(Value::Number(number)) => split(&printed(number)),
            Some(Value::Bool(_)) => return self.refuse("a path is a text or a number"),
            Some(computed) => {
                let path = self.argument(*computed, 0, listed)?;
                return Ok(self.interner.add(Node::Var { path, otherwise }));
            }
        };
        self.check_path(&keys)?;
        let node = if self.scope == 0 {
            let slot = self.interner.slot(&keys);
            otherwise.map_or(Node::Slot(slot), |otherwise| Node::SlotOr { slot, otherwise })
        } else {
            let path = self.interner.path(keys);
            otherwise.map_or(Node::Local { up: 0, path }, |otherwise| Node::LocalOr { path, otherwise })
        };
        Ok(self.interner.add(node))
    }

    /// `val` and `exists`: each argument is a key. `[[2], …]` goes out of one array operator, `[[1], "index"]` is the element's number.
    fn val(&mut self, given: &[Value<'a>], listed: bool, exists: bool) -> Compiled<NodeId> {
        let mut given = given;
        let mut levels = 0;
        if !exists
            && listed
            && let Some(first @ Value::Stored(container)) = given.first()
            && !container.is_object()
        {
            let Some(Value::Number(Number::Int(up))) = first.get(b"0").some().filter(|_| container.len() == 1) else {
                return self.refuse("what says how far to go out is an array of one whole number");
            };
            levels = up.unsigned_abs() as usize;
            given = &given[1..];
        }
        let up = levels / 2;
        if levels % 2 == 1 {
            return match given {
                [Value::Text(b"index")] if up < self.scope => Ok(self.interner.add(Node::Index { up: up as u32 })),
                _ => self.refuse("an odd number of levels leads to \"index\" alone, inside of an array operator"),
            };
        }
        if up > self.scope {
            return self.refuse(format!("it is inside of {} array operators, and goes out of {up}", self.scope));
        }
        let mut keys = Vec::with_capacity(given.len());
        for key in given {
            match key {
                Value::Text(key) => keys.push(key.to_vec()),
                Value::Number(number) => keys.push(printed(number)),
                Value::Null if given.len() == 1 => {}
                _ => {
                    let nodes = self.all(given, listed)?;
                    let keys = self.interner.list(&nodes);
                    let node = if exists { Node::ValExists { keys } } else { Node::Val { up: up as u32, keys } };
                    return Ok(self.interner.add(node));
                }
            }
        }
        self.check_path(&keys)?;
        let node = if up == self.scope {
            let slot = self.interner.slot(&keys);
            if exists { Node::SlotExists(slot) } else { Node::Slot(slot) }
        } else {
            let path = self.interner.path(keys);
            let up = up as u32;
            if exists { Node::LocalExists { up, path } } else { Node::Local { up, path } }
        };
        Ok(self.interner.add(node))
    }

    fn check_path(&self, keys: &[Vec<u8>]) -> Compiled<()> {
        if keys.len() > MOST_DEPTH {
            return self.too_much(format!("the path has more than {MOST_DEPTH} keys"));
        }
        Ok(())
    }

    /// The keys of a dotted path.
    pub fn path_of(&mut self, path: &[u8]) -> Compiled<Vec<Vec<u8>>> {
        self.count()?;
        let keys = split(path);
        self.check_path(&keys)?;
        Ok(keys)
    }

    /// How long the array is that an operator goes through.
    fn length(&self, list: NodeId) -> u64 {
        match self.interner.node(list) {
            Node::Constant(number) => self.interner.constant_length(number),
            Node::List(span) => u64::from(span.len),
            _ => GUESSED_LENGTH,
        }
    }

    fn body(&mut self, list: NodeId, value: Value<'a>) -> Compiled<NodeId> {
        let before = self.cost;
        self.scope += 1;
        let body = self.argument(value, 1, true);
        self.scope -= 1;
        self.cost = before.saturating_add((self.cost - before).saturating_mul(self.length(list)));
        self.check_cost()?;
        body
    }

    fn each(&mut self, each: Each, given: &[Value<'a>]) -> Compiled<NodeId> {
        let list = self.argument(given[0], 0, true)?;
        let body = self.body(list, given[1])?;
        Ok(self.interner.add(Node::Each { list, body, each }))
    }

    fn reduce(&mut self, given: &[Value<'a>]) -> Compiled<NodeId> {
        let list = self.argument(given[0], 0, true)?;
        let body = self.body(list, given[1])?;
        let start = match given.get(2) {
            Some(value) => self.argument(*value, 2, true)?,
            None => self.interner.constant(Value::Null),
        };
        Ok(self.interner.add(Node::Reduce { list, body, start }))
    }
}

/// More arguments than are of use are no fault where JavaScript's engine ignores them.
fn is_lenient(operator: Operator, given: usize) -> bool {
    given > 0 && matches!(operator, Operator::Not | Operator::Truth | Operator::Call(Function::Log | Function::Now))
}

/// A dotted path's keys.
pub fn split(path: &[u8]) -> Vec<Vec<u8>> {
    if path.is_empty() { Vec::new() } else { path.split(|byte| *byte == b'.').map(<[u8]>::to_vec).collect() }
}

fn printed(number: &Number) -> Vec<u8> {
    let mut out = Vec::new();
    number.print_shortest(&mut out);
    out
}

impl<'a> Value<'a> {
    fn some(self) -> Option<Value<'a>> {
        (!matches!(self, Value::Missing)).then_some(self)
    }
}
