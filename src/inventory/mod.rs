//! inventory: many orders for few items, decided in batches.
//!
//! `fold` decides, `item` says what a text means, `digest` what stands for an order, `bloom_filter` which orders a day may have: pure Rust. `section` is one tenant's part
//! of a batch, `batch` its steps, `verdict_store` the stored verdicts, `closed` those of days that are over, `table` what has to be known of a registered table, `register` which
//! those are. `call` is decrement_inventory(), `release` release_order(), `queue` enqueue_decrement(), `drain` drain_inventory(), `sweep` a worker's way through the queue,
//! `backlog` what either takes next, `many` how orders of several tenants are decided, `judge` what becomes of those that fail, `dead_letters` what was set aside, `abandoned` what
//! nobody drains, `lag` what health() says of it, `follow` what renames change, `group` group commit.
//! src/pg/verdicts and src/pg/queue read and write the rows.
//!
//! The SQL functions, declared in sql/inventory.sql:
//! - register_inventory(), and what drain_inventory() and the triggers call: here
//! - decrement_inventory(), order_verdicts(), release_order(), enqueue_decrement(): src/pg/inventory/calls.rs
//! - decrement_now(): src/pg/group/calls.rs
//! - poisoned_orders(), all_poisoned_orders(), requeue_poisoned(), forget_poisoned(): dead_letters.rs

mod abandoned;
mod backlog;
mod batch;
mod bloom_filter;
mod call;
mod closed;
mod dead_letters;
mod digest;
mod drain;
pub mod fold;
mod follow;
pub mod group;
pub mod item;
mod judge;
mod lag;
mod many;
mod queue;
mod register;
mod release;
mod section;
mod sweep;
mod table;
mod verdict_store;

pub use abandoned::forget;
pub use call::Call;
pub use follow::follow;
pub use lag::{Estimate, estimate, waiting};
pub use queue::enqueue;
pub use release::Release;
pub use table::given as given_table;

use pgrx::prelude::*;

use crate::error::{Result, given};
use crate::pg::verdicts::Row;
use crate::pg::{registry, settings, wal, watch};
use fold::Verdict;
use section::Section;
use verdict_store::VerdictStore;

::pgrx::extension_sql_file!("../../sql/inventory.sql", name = "inventory", requires = ["scoring"]);

/// `register_inventory(relation regclass, item_column name DEFAULT 'id', quantity_column name DEFAULT 'quantity')`: from now on orders may be placed on
/// the table. A second call changes the columns.
///
/// Errors: 42501 not the owner; 22023 no such table or column, or a type that cannot be; 55000 no unique index on the item column (with the
/// tenant column of a protected table), or row level security that protect() did not make; 25006 read-only. SHARE UPDATE EXCLUSIVE on the table.
#[pg_extern(sql = false)]
fn register_inventory(
    relation: Option<pg_sys::Oid>,
    item_column: Option<&std::ffi::CStr>,
    quantity_column: Option<&std::ffi::CStr>,
) -> Result<()> {
    let relation = given(relation, "relation")?;
    let item = given(item_column, "item_column")?.to_string_lossy().into_owned();
    let quantity = given(quantity_column, "quantity_column")?.to_string_lossy().into_owned();
    register::register(relation, &item, &quantity)
}

/// `drain_batch(relation regclass, batch_size integer, passed bigint[])`: a batch of drain_inventory(), in a transaction of its own: how many requests are decided or set
/// aside, the numbers of those that wait on, and the error that these have met, if it is not that another transaction is at them. No row when another
/// transaction was in the way.
///
/// `batch_size`: 1 to 10,000; `passed`: numbers of requests that are none of the batch. Errors: 22023; 42501 without EXECUTE on drain_inventory(); 55000 not registered; 25006 read-only; whatever the table raises that is no
/// request's fault. Locks: the inventory's drain lock, for which it waits, and what decrement_inventory() locks.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn drain_batch(
    relation: Option<pg_sys::Oid>,
    batch_size: Option<i32>,
    passed: Option<Vec<Option<i64>>>,
) -> Result<
    TableIterator<
        'static,
        (name!(done, i64), name!(passed_by, Vec<i64>), name!(code, Option<String>), name!(message, Option<String>)),
    >,
> {
    let relation = given(relation, "relation")?;
    let passed = passed.unwrap_or_default().into_iter().flatten().collect();
    let went = drain::batch(relation, given(batch_size, "batch_size")?, &passed)?;
    Ok(TableIterator::new(went.into_iter().map(|went| {
        let (code, message) = went.failure.map(|failure| (failure.spelled(), failure.message)).unzip();
        (went.done as i64, went.left, code, message)
    })))
}

/// Event trigger before ALTER TABLE: the first one in a restored or copied database finds out the numbers of inventories' columns, while their names are still right.
#[pg_extern(sql = false)]
fn before_alter_table() -> Result<()> {
    follow::come_home()
}

/// Trigger on the registry: every session reads it anew.
#[pg_extern(sql = false)]
fn announce_inventory() {
    registry::announce_inventory();
}

/// How long verdicts are kept before their partition is dropped, in microseconds.
pub fn retention() -> i64 {
    settings::order_retention()
}

/// A part of the transaction was rolled back, and with it perhaps what was read in it.
pub fn rolled_back() {
    watch::changed();
    backlog::rolled_back();
}

/// `order_verdicts(relation regclass, order_id text)`: the stored verdict of an order, a row for each line; no row when there is none (yet).
///
/// Errors: 22023 no order; 42501 no tenant, or no right to the table; 55000 not registered. No locks beyond ACCESS SHARE on the table.
pub fn order_verdicts(relation: pg_sys::Oid, order: Option<&[u8]>, mut put: impl FnMut(&Row, Verdict)) -> Result<()> {
    let order = release::given(order)?;
    let inventory = table::for_caller(relation, false)?;
    let tenant = table::tenant(&inventory)?;
    let mut section = Section::new(tenant, inventory.identity, inventory.item_type, 1);
    section.order(Some(order));
    let Some(store) = VerdictStore::open_to_read()? else { return Ok(()) };
    for mut found in store.look_up(&[section])? {
        if found.durable_at() > 0 {
            wal::make_durable(found.durable_at());
        }
        found.rows.sort_by_key(|row| row.line);
        for row in found.rows.iter().filter(|row| row.line != verdict_store::RELEASED && !row.is_uncommitted) {
            put(row, Verdict::of_letter(row.verdict).unwrap_or(Verdict::Invalid));
        }
    }
    Ok(())
}
