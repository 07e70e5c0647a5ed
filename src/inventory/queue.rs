//! Queueing an order: durable when its transaction is, decided by a drain.

use pgrx::prelude::*;

use super::release;
use super::table;
use crate::error::{self, Result};
use crate::pg::group::ringing;
use crate::pg::queue::{self, Request};
use crate::pg::{client, keys};

/// Lines that a queued order may have.
const MOST_LINES: usize = 1_000;

/// Bytes that its id may have, which is stored with every line.
const MOST_OF_ID: usize = 1_024;

/// Bytes that all its texts may have: a drain holds as many orders in memory as its batch is large, whoever queued them.
const MOST_BYTES: usize = 128 * 1_024;

/// `enqueue_decrement(relation regclass, order_id text, items text[], quantities bigint[])`: the number of the request.
///
/// Errors: 22023 no order, arrays of unequal length, empty, or longer than 1,000, an id of more than 1 kB, texts of more than 128 kB; 42501 no tenant, or no right to the table; 55000 not registered; 25006 read-only. Locks: ROW
/// EXCLUSIVE on the table, and on the queue's. Waits for nobody, but where its number is the last of a table's turn and that table is being emptied, for that commit.
pub fn enqueue(
    relation: pg_sys::Oid,
    order: Option<&[u8]>,
    items: &[Option<&[u8]>],
    quantities: &[Option<i64>],
) -> Result<i64> {
    client::refuse_read_only(c"enqueue_decrement()");
    let order = release::given(order)?;
    if items.len() != quantities.len() || items.is_empty() || items.len() > MOST_LINES {
        return Err(error::argument(
            format!("items and quantities have {} and {} elements", items.len(), quantities.len()),
            format!("Pass two arrays of the same length, from 1 to {MOST_LINES} lines."),
        ));
    }
    let texts = order.len() + items.iter().flatten().map(|item| item.len()).sum::<usize>();
    if order.len() > MOST_OF_ID || texts > MOST_BYTES {
        return Err(error::argument(
            format!("order_id has {} bytes, and with the items {texts}", order.len()),
            format!("A queued order's id may have {MOST_OF_ID} bytes, all its texts {MOST_BYTES}."),
        ));
    }
    let inventory = table::for_caller(relation, true)?;
    let tenant = table::tenant(&inventory)?;
    let number = add(relation, inventory.identity, &tenant, order, items, quantities)?;
    ringing::queued(relation);
    Ok(number)
}

/// Puts an order into the queue, whoever asked for it.
pub fn add(
    relation: pg_sys::Oid,
    identity: [u8; 16],
    tenant: &[u8],
    order: &[u8],
    items: &[Option<&[u8]>],
    quantities: &[Option<i64>],
) -> Result<i64> {
    let number = queue::next_number(c"inventory_request_number")?;
    queue::add(&Request {
        number,
        relation,
        queued_at: keys::now(),
        identity,
        tenant: tenant.to_vec(),
        order: order.to_vec(),
        items: items.iter().map(|item| item.map(<[u8]>::to_vec)).collect(),
        quantities: quantities.to_vec(),
    })?;
    Ok(number)
}
