//! Partitions that are closed: no verdict will be added to them, so what is in them can be remembered.
//!
//! A new order has to be looked up in every partition that retention reaches, and is in none. After a backend has looked up often enough in a closed one that it
//! would have been worth it, it reads the partition's index once, into a Bloom filter, and looks there first. A backend that decides an order now and then never pays for it.
//!
//! Why nothing is added any more (see verdict_store.rs): rows that are in after their day has ended are rolled back, and a batch never goes back behind a partition that
//! has rows, even when the clock does. What is given back adds a row, of an order that is there.

use std::cell::RefCell;
use std::collections::HashMap;

use super::bloom_filter::{self, BloomFilter};
use crate::pg::cell::PerBackend;
use crate::pg::verdicts::Table;

/// A look-up in an index that does not fit into the caches takes about as long as reading so many of its entries in order.
const WORTH: u64 = 64;

/// All filters of a backend, in bytes.
const MOST: usize = 64 * 1024 * 1024;

#[derive(Default)]
struct Closed {
    look_ups: u64,
    filter: Option<BloomFilter>,
    size: usize,
}

/// By the index's file.
type Known = HashMap<u32, Closed>;

static KNOWN: PerBackend<RefCell<Option<Known>>> = PerBackend::new(RefCell::new(None));

/// Keeps of the orders those that may be in the partition.
pub fn filter_by_bloom<T>(table: &Table, asked: &[T], digest: impl Fn(&T) -> &[u8; 16], mut keep: impl FnMut(&T)) {
    let mut known = KNOWN.borrow_mut();
    let known = known.get_or_insert_default();
    let used: usize = known.values().map(|closed| closed.size).sum();
    let closed = known.entry(table.index_file()).or_default();
    if closed.filter.is_none() {
        closed.look_ups += asked.len() as u64;
        let digests = table.rows_by_size();
        let size = bloom_filter::size(digests);
        if closed.look_ups * WORTH > digests as u64 && used + size <= MOST {
            let mut filter = BloomFilter::new(digests);
            table.each_digest(|digest| filter.add(digest));
            closed.size = size;
            closed.filter = Some(filter);
        }
    }
    for one in asked {
        if closed.filter.as_ref().is_none_or(|filter| filter.may_have(digest(one))) {
            keep(one);
        }
    }
}

/// Forgets partitions that are not among these any more.
pub fn only(tables: &[Table]) {
    if let Some(known) = KNOWN.borrow_mut().as_mut()
        && known.len() > tables.len()
    {
        let files: Vec<u32> = tables.iter().map(Table::index_file).collect();
        known.retain(|file, _| files.contains(file));
    }
}
