//! idempotency: work that a client may ask for twice is done once.
//!
//! A key is claimed; who is told `started` goes on, everybody else is told what there is. The table of keys is partitioned by the
//! time of the claim, so that a day's keys go with one DROP, and a key is unique during the window all the same: each call takes
//! the key's lock, and looks into every partition that the window reaches into. decide.rs says what a row means, key.rs what a key is,
//! src/pg/keys reads and writes rows. The SQL functions are in src/pg/keys/calls.rs, declared in sql/idempotency.sql.

mod asked;
mod claim;
pub mod decide;
mod holder;
pub mod key;
mod overdue;

pub use claim::claim;
pub use holder::{complete, extend, release};
pub use overdue::overdue;

use crate::pg::settings;

::pgrx::extension_sql_file!("../../sql/idempotency.sql", name = "idempotency", requires = ["partition"]);

/// How long keys are kept before their partition is dropped, in microseconds: never less than the window.
pub fn retention() -> i64 {
    settings::idempotency_retention().max(settings::idempotency_window())
}
