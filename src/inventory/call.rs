//! `decrement_inventory()`: a batch that a client brings, in the client's transaction and as its role.

use std::collections::HashMap;

use pgrx::prelude::*;

use super::batch::{Batch, Busy};
use super::section::Section;
use super::table;
use crate::error::{self, Result};
use crate::pg::client;
use crate::pg::inventory::Told;
use crate::pg::prepared::{Run, Steps};

/// A text as it was given, NULL or not.
type Text = Option<Box<[u8]>>;

/// Lines that one call takes.
const MOST_LINES: usize = 100_000;

/// Bytes that all their texts may have: they are held in memory a few times over.
const MOST_BYTES: usize = 64 << 20;

/// A call, from its arguments to its rows.
///
/// Arguments: a line of an order each, in the order of arrival; lines of one order need not stand side by side. Errors: 22023 arrays that are NULL, of
/// unequal length, of several dimensions or longer than 100,000, or with more than 64 MB of text; 42501 no tenant, or no right to the table; 55000 not registered; 40001 the same order is being
/// decided elsewhere, or the transaction's snapshot is older than the items; 25006 read-only; whatever the table's constraints and triggers raise.
/// Locks: the items' rows, in the order of their keys (FOR NO KEY UPDATE); ROW EXCLUSIVE on the table and on the partitions of the verdicts' table.
pub struct Call {
    batch: Batch,
    /// For each line of the call, the line of the batch.
    places: Vec<usize>,
    /// As they were given.
    texts: Vec<(Text, Text)>,
}

impl Call {
    pub fn new(
        relation: pg_sys::Oid,
        orders: &[Option<&[u8]>],
        items: &[Option<&[u8]>],
        quantities: &[Option<i64>],
    ) -> Result<Call> {
        client::refuse_read_only(c"decrement_inventory()");
        let lines = orders.len();
        if items.len() != lines || quantities.len() != lines {
            return Err(error::argument(
                format!(
                    "order_ids, items and quantities have {lines}, {} and {} elements",
                    items.len(),
                    quantities.len()
                ),
                "Pass three arrays of the same length, a line of an order each.",
            ));
        }
        if lines > MOST_LINES {
            return Err(error::argument(
                format!("{lines} lines are more than a call takes"),
                format!("Pass at most {MOST_LINES} lines; some hundreds are best."),
            ));
        }
        let texts: usize = orders.iter().chain(items).flatten().map(|text| text.len()).sum();
        if texts > MOST_BYTES {
            return Err(error::argument(
                format!("the texts of {lines} lines have {texts} bytes, more than a call takes"),
                format!("Pass at most {MOST_BYTES} bytes of order ids and items."),
            ));
        }
        let inventory = table::for_caller(relation, true)?;
        let tenant = table::tenant(&inventory)?;
        let mut section = Section::new(tenant, inventory.identity, inventory.item_type, lines);
        let mut places = vec![0; lines];
        let mut place = 0;
        for order in by_order(orders) {
            let mut is_first = true;
            for line in order {
                if is_first {
                    section.order(orders[line]);
                    is_first = false;
                }
                section.line(items[line], quantities[line]);
                places[line] = place;
                place += 1;
            }
        }
        let texts = orders.iter().zip(items).map(|(order, item)| (order.map(Box::from), item.map(Box::from))).collect();
        Ok(Call { batch: Batch::new(inventory, vec![section], Busy::Raise), places, texts })
    }

    /// The rows, in the order of the call's lines.
    pub fn told(&self, mut put: impl FnMut(Told)) {
        let [section] = self.batch.sections.as_slice() else { return };
        let answers = section.answers();
        for (line, (place, (order, item))) in self.places.iter().zip(&self.texts).enumerate() {
            let Some(answer) = answers.get(*place) else { return };
            put(Told {
                line: line as i32 + 1,
                order: order.as_deref(),
                item: item.as_deref(),
                verdict: answer.verdict,
                remaining: answer.remaining,
            });
        }
    }
}

/// The lines of each order, the orders in the order of their first lines. A line without an order's id is one by itself.
fn by_order(orders: &[Option<&[u8]>]) -> Vec<Vec<usize>> {
    let mut grouped: Vec<Vec<usize>> = Vec::with_capacity(orders.len());
    let mut known: HashMap<&[u8], usize> = HashMap::with_capacity(orders.len());
    for (line, order) in orders.iter().enumerate() {
        let number = match order {
            Some(order) => *known.entry(order).or_insert(grouped.len()),
            None => grouped.len(),
        };
        match grouped.get_mut(number) {
            Some(lines) => lines.push(line),
            None => grouped.push(vec![line]),
        }
    }
    grouped
}

impl Steps for Call {
    fn next(&mut self) -> Result<Run> {
        self.batch.next()
    }

    fn done(&mut self, rows: u64) -> Result<()> {
        self.batch.done(rows)
    }
}
