//! One tenant's part of a batch: its orders, the items that they ask for, and what became of them.

use std::collections::HashMap;
use std::ops::Range;

use super::digest::digest;
use super::fold::{self, Answer, Earlier, Line, Order, Outcome, Verdict};
use super::item::{Item, ItemType};
use crate::pg::verdicts::Row;

/// Where a text lies in the section's bytes.
type Span = Range<usize>;

pub struct Section {
    /// The tenant's id; empty where the table has no tenants.
    pub tenant: Vec<u8>,
    identity: [u8; 16],
    item_type: ItemType,
    bytes: Vec<u8>,
    /// Each item once, foreign ones too.
    pub items: Vec<Item>,
    numbers: HashMap<Item, u32>,
    /// What each item has, and had before.
    stock: Vec<Option<i64>>,
    before: Vec<Option<i64>>,
    /// Items that are there, and locked by another transaction.
    locked: Vec<u32>,
    lines: Vec<Line>,
    /// The items' texts, as they were given.
    texts: Vec<Option<Span>>,
    orders: Vec<Order>,
    /// The orders' ids; None for one that has none, and cannot be stored.
    ids: Vec<Option<(Span, [u8; 16])>>,
    firsts: HashMap<[u8; 16], usize>,
    answers: Vec<Answer>,
    outcomes: Vec<Outcome>,
}

impl Section {
    pub fn new(tenant: Vec<u8>, identity: [u8; 16], item_type: ItemType, capacity: usize) -> Section {
        Section {
            tenant,
            identity,
            item_type,
            bytes: Vec::with_capacity(capacity * 48),
            items: Vec::new(),
            numbers: HashMap::new(),
            stock: Vec::new(),
            before: Vec::new(),
            locked: Vec::new(),
            lines: Vec::with_capacity(capacity),
            texts: Vec::with_capacity(capacity),
            orders: Vec::with_capacity(capacity),
            ids: Vec::with_capacity(capacity),
            firsts: HashMap::with_capacity(capacity),
            answers: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    fn keep(&mut self, text: &[u8]) -> Span {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(text);
        from..self.bytes.len()
    }

    /// Adds an order. Its lines are those that `line` adds until the next order; returns its number.
    pub fn order(&mut self, id: Option<&[u8]>) -> usize {
        let number = self.orders.len();
        let id = id.filter(|id| !id.is_empty()).map(|id| (self.keep(id), digest(&self.identity, &self.tenant, id)));
        let mut earlier = Earlier::Nothing;
        if let Some((_, digest)) = &id {
            let first = *self.firsts.entry(*digest).or_insert(number);
            if first != number {
                earlier = Earlier::InBatch(first);
            }
        }
        let end = self.lines.len();
        self.orders.push(Order { lines: end..end, earlier });
        self.ids.push(id);
        number
    }

    /// Adds a line to the last order. A line of an order without an id asks for nothing.
    pub fn line(&mut self, item: Option<&[u8]>, quantity: Option<i64>) {
        let span = item.map(|item| self.keep(item));
        let has_id = self.ids.last().is_some_and(Option::is_some);
        let item = item.filter(|_| has_id).map(|item| self.number(item));
        self.lines.push(Line { item, quantity });
        self.texts.push(span);
        if let Some(order) = self.orders.last_mut() {
            order.lines.end = self.lines.len();
        }
    }

    fn number(&mut self, text: &[u8]) -> u32 {
        let item = self.item_type.parse(text);
        if let Some(number) = self.numbers.get(&item) {
            return *number;
        }
        let number = self.items.len() as u32;
        self.items.push(item.clone());
        self.stock.push(None);
        self.numbers.insert(item, number);
        number
    }

    /// Whether there is anything to lock: an item that could be in the table, in a line that could be accepted.
    pub fn wanted(&self) -> Vec<&Item> {
        self.items.iter().filter(|item| !matches!(item, Item::Foreign(_))).collect()
    }

    /// The item is there, and locked. False when it was there before: two rows are the same item.
    pub fn has(&mut self, item: &Item, quantity: Option<i64>) -> bool {
        let Some(number) = self.numbers.get(item) else { return true };
        self.stock[*number as usize].replace(quantity.unwrap_or(0)).is_none()
    }

    /// Items that were to be locked and have not been.
    pub fn missing(&self) -> Vec<&Item> {
        let items = self.items.iter().zip(&self.stock);
        items
            .filter(|(item, stock)| stock.is_none() && !matches!(item, Item::Foreign(_)))
            .map(|(item, _)| item)
            .collect()
    }

    /// The item is there, and another transaction has locked it.
    pub fn is_locked(&mut self, item: &Item) {
        self.locked.extend(self.numbers.get(item));
    }

    /// One of the items that are locked, in no particular order.
    pub fn locked(&self, place: usize) -> Option<&Item> {
        self.locked.get(place).map(|number| &self.items[*number as usize])
    }

    /// It is not locked after all: it is there with its quantity, or as if it were not there.
    pub fn is_not_locked(&mut self, place: usize, quantity: Option<Option<i64>>) {
        let number = self.locked.swap_remove(place);
        self.stock[number as usize] = quantity.map(Option::unwrap_or_default);
    }

    /// Leaves out the new orders that ask for an item which another transaction has locked.
    pub fn leave_locked(&mut self) {
        if self.locked.is_empty() {
            return;
        }
        for order in self.orders.iter_mut().filter(|order| order.earlier == Earlier::Nothing) {
            let is_locked = |line: &Line| line.item.is_some_and(|item| self.locked.contains(&item));
            if self.lines[order.lines.clone()].iter().any(is_locked) {
                order.earlier = Earlier::Busy;
            }
        }
    }

    /// The digests of the orders to be looked up, each with its number.
    pub fn asked(&self) -> impl Iterator<Item = ([u8; 16], usize)> {
        self.ids.iter().enumerate().filter_map(|(number, id)| {
            let (_, digest) = id.as_ref()?;
            (self.orders[number].earlier == Earlier::Nothing).then_some((*digest, number))
        })
    }

    pub fn id(&self, order: usize) -> &[u8] {
        self.ids[order].as_ref().map_or(&[], |(span, _)| &self.bytes[span.clone()])
    }

    /// What is stored of an order: rows that are committed, or our own.
    pub fn is_stored(&mut self, order: usize, rows: Vec<Row>) {
        let stored = rows
            .into_iter()
            .map(|row| {
                let item = row.item.as_deref().map(|item| self.number(item));
                let verdict = Verdict::of_letter(row.verdict).unwrap_or(Verdict::Invalid);
                (Line { item, quantity: row.quantity }, Answer { verdict, remaining: row.remaining })
            })
            .collect();
        self.orders[order].earlier = Earlier::Stored(stored);
    }

    /// The order is being decided by another transaction, and is none of this batch.
    pub fn leave(&mut self, order: usize) {
        self.orders[order].earlier = Earlier::Busy;
    }

    pub fn is_left(&self, order: usize) -> bool {
        self.outcomes[order] == Outcome::Left
    }

    /// The order is decided now, and was given what it asks for.
    pub fn took(&self, order: usize) -> bool {
        let is_accepted = |answer: &Answer| answer.verdict == Verdict::Accepted;
        self.outcomes[order] == Outcome::Decided && self.answers_of(order).iter().any(is_accepted)
    }

    /// Decides, once all is known.
    pub fn decide(&mut self) {
        self.before = self.stock.clone();
        self.answers = vec![Answer { verdict: Verdict::Invalid, remaining: None }; self.lines.len()];
        self.outcomes = fold::fold(&self.lines, &self.orders, &mut self.stock, &mut self.answers);
    }

    /// What was taken, by item.
    pub fn taken(&self) -> Vec<(&Item, i64)> {
        let taken = self.before.iter().zip(&self.stock).zip(&self.items);
        taken
            .filter_map(|((before, after), item)| match (before, after) {
                (Some(before), Some(after)) if after < before => Some((item, before - after)),
                _ => None,
            })
            .collect()
    }

    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    /// What an order's lines are told.
    pub fn answers_of(&self, order: usize) -> &[Answer] {
        &self.answers[self.orders[order].lines.clone()]
    }

    /// Calls `each` with every line of every new verdict.
    pub fn decided<'a>(&'a self, mut each: impl FnMut(Decided<'a>)) {
        for (number, outcome) in self.outcomes.iter().enumerate() {
            let (Outcome::Decided, Some((_, digest))) = (outcome, &self.ids[number]) else { continue };
            for (line, at) in self.orders[number].lines.clone().enumerate() {
                each(Decided {
                    digest,
                    order: self.id(number),
                    line: line as i32 + 1,
                    item: self.texts[at].clone().map(|span| &self.bytes[span]),
                    quantity: self.lines[at].quantity,
                    answer: self.answers[at],
                });
            }
        }
    }
}

/// A line of a new verdict.
pub struct Decided<'a> {
    pub digest: &'a [u8; 16],
    pub order: &'a [u8],
    /// From 1.
    pub line: i32,
    pub item: Option<&'a [u8]>,
    pub quantity: Option<i64>,
    pub answer: Answer,
}
