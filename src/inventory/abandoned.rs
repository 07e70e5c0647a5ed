//! Orders that wait for a table that nobody drains: because nobody calls drain_inventory() for it, or because it is gone.

use pgrx::prelude::*;

use crate::error::Result;
use crate::pg::queue::{self, DeadLetter, Request, SEGMENTS, Segment};
use crate::pg::{keys, security, spi};

const DROPPED: &str = "its table was dropped";

/// After `relations` were dropped: they are no inventories any more, and what waits for them is set aside. A new table of the old oid must not be sold from by it.
pub fn forget(relations: &[pg_sys::Oid]) -> Result<()> {
    let inventories = security::as_extension(|| {
        spi::rows(
            "WITH gone AS (
               DELETE FROM bulkhead.inventory i WHERE i.relation OPERATOR(pg_catalog.=) ANY ($1) RETURNING i.relation, i.is_current)
             SELECT g.relation::pg_catalog.oid FROM gone g WHERE g.is_current",
            &[relations.to_vec().into()],
            |row| row.get::<pg_sys::Oid>(1),
        )
    })?;
    if inventories.is_empty() {
        return Ok(());
    }
    let mut count = 0;
    // All of them, before the first is read: else a row could be moved from one that is not read yet to one that is.
    let segments = (0..SEGMENTS.len()).map(Segment::open).collect::<Result<Vec<_>>>()?;
    for segment in &segments {
        for inventory in &inventories {
            // Whoever queues or drains has the table locked against being dropped: nobody is at work on these.
            for (number, tid) in segment.of_relation(*inventory) {
                pgrx::check_for_interrupts!();
                if let Some(request) = segment.request(tid, number) {
                    segment.delete(tid);
                    set_aside(&request)?;
                    count += 1;
                }
            }
        }
    }
    if count > 0 {
        let orders = if count == 1 { "order was" } else { "orders were" };
        warning!("{count} queued {orders} set aside, because {DROPPED}; bulkhead.all_poisoned_orders() lists them");
    }
    Ok(())
}

/// Adds a request again, to the table of the present numbers; or sets it aside where no drain could ever decide it.
pub fn carry(request: &Request) -> Result<()> {
    if security::exists(request.relation) { queue::move_on(request) } else { set_aside(request) }
}

fn set_aside(request: &Request) -> Result<()> {
    let letter = DeadLetter { set_aside_at: keys::now(), sqlstate: "42P01".to_owned(), reason: DROPPED.to_owned() };
    queue::set_aside(request, &letter)
}
