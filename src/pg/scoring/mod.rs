//! The bridge of scoring: documents and numbers as the server has them, the active rule sets, and the functions that are called for each row.

mod calls;
mod datum;
mod lookup;
mod moment;

pub use datum::jsonb_argument;
pub use lookup::active;
pub use moment::{Moment, rolled_back};
