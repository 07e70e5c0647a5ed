//! Group commit: many callers, one transaction, and the verdict told once it is durable. (The page is written at the end.)

pub mod body;
mod call;
mod launch;
mod round;
pub mod slot;
mod work;

pub use call::{Outcome, ask};
pub use launch::launch;
pub use work::work;

/// What the slot's word is made of; the model of its unit tests puts its own in this place.
mod atomic {
    pub use std::sync::atomic::{AtomicU64, Ordering};
}

use crate::pg::group::memory;
use crate::pg::{security, settings};

/// Whether `bulkhead.drain_databases` wants a worker in this database.
pub fn is_wanted_here() -> bool {
    let wanted = settings::drain_databases();
    wanted.iter().any(|name| name == "*")
        || !wanted.is_empty() && wanted.contains(&memory::database_name(security::database()))
}

/// Wakes this database's worker, or asks for one.
fn ring() -> bool {
    let database = security::database();
    let desk = memory::desk_of(database).or_else(|| {
        let number = memory::assign(database, &memory::database_name(database))?;
        memory::desk(number)
    });
    if let Some(desk) = desk {
        desk.ring();
    }
    desk.is_some()
}
