//! What is known only when a program is whole: what is asked more than once, what one path is compared with, and how the paths hang together.

use std::collections::HashMap;

use super::{Interner, Way};
use crate::scoring::jsonb::key_order;
use crate::scoring::operator::Function::{Missing, MissingSome};
use crate::scoring::program::{Branch, Dispatch, Node, NodeId, TextTable};
use crate::scoring::value;

/// So many texts asked of one path are looked up at once.
const DISPATCHED: usize = 4;

impl Interner<'_> {
    /// How many array operators around it a node needs to have a value; none: it reads nothing but the document, and has one value for each. Children have smaller
    /// numbers than their parents.
    fn needs(&self) -> Vec<u32> {
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
    pub(super) fn share(&mut self) -> u32 {
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
    pub(super) fn dispatch(&mut self) -> Vec<Dispatch> {
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
}

/// What an array operator around it leaves of a need.
fn inside(need: u32) -> u32 {
    if need == u32::MAX { need } else { need.saturating_sub(1) }
}

/// Adds the branches that these paths begin with, all together, and then what is below each.
pub(super) fn grow(branches: &mut Vec<Branch>, mut paths: Vec<Way>) -> (u32, u32) {
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
