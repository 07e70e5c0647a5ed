//! The table of verdicts, read and written in place: a batch looks hundreds of orders up in every partition, and adds as many rows.
//!
//! What makes that right without a lock for each order: a look-up is by a dirty snapshot and sees what others have written and not yet committed, and
//! each row that is added is checked against the partition's primary key as it goes in, without waiting: of two batches that decide the same
//! order at once, the one that comes second to the index learns of the other (rows.rs). Rows go to the partition of the present moment, chosen before the look-up,
//! and a batch that has seen midnight pass meanwhile is raised as 40001 (src/inventory/verdict_store.rs). None of it depends on the transaction's snapshot.

mod leaves;
mod rows;

pub use super::partitions::{Leaf, Leaves};
pub use leaves::{are_current, leaves};
pub use rows::{NewRow, Probe, Row, Table};
