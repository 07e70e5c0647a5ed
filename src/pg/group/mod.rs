//! Group commit's bridge to the server: shared memory, latches, processes, and the SQL functions. What they are for is in src/inventory/group.

pub mod away;
mod bells;
mod calls;
mod clock;
mod desk;
mod futex;
mod held;
mod manners;
pub mod memory;
pub mod processes;
pub mod ringing;
mod wait;

pub use clock::{now, until};
pub use held::{locked_table, wanted_of_mine};
pub use wait::{Waiter, sleep};
