//! Queueing an order: durable when its transaction is, decided by a drain.

use pgrx::prelude::*;

use super::release;
use super::table;
use crate::error::{self, Result};
use crate::pg::keys;
use crate::pg::queue::{self, Request};

/// Lines that a queued order may have.
const MOST_LINES: usize = 1_000;

/// `enqueue_decrement(relation regclass, order_id text, items text[], quantities bigint[])`: the number of the request.
///
/// Errors: 22023 no order, arrays of unequal length, empty, or longer than 1,000; 42501 no tenant, or no right to the table; 55000 not registered; 25006 read-only. Locks: ROW
/// EXCLUSIVE on the table, and on the queue's. Waits for nobody.
pub fn enqueue(
    relation: pg_sys::Oid,
    order: Option<&[u8]>,
    items: &[Option<&[u8]>],
    quantities: &[Option<i64>],
) -> Result<i64> {
    keys::refuse_read_only(c"enqueue_decrement()");
    let order = release::given(order)?;
    if items.len() != quantities.len() || items.is_empty() || items.len() > MOST_LINES {
        return Err(error::argument(
            format!("items and quantities have {} and {} elements", items.len(), quantities.len()),
            format!("Pass two arrays of the same length, from 1 to {MOST_LINES} lines."),
        ));
    }
    let inventory = table::for_caller(relation, true)?;
    let tenant = table::tenant(&inventory)?;
    let number = queue::next_number(c"inventory_request_number")?;
    queue::add(&Request {
        number,
        relation,
        queued_at: keys::now(),
        tenant,
        order: order.to_vec(),
        items: items.iter().map(|item| item.map(<[u8]>::to_vec)).collect(),
        quantities: quantities.to_vec(),
    })?;
    Ok(number)
}
