//! Signed tokens: what sets a tenant where nothing else may, and what policies learn from it.

mod claims;
mod faults;
pub mod fixture;
mod issuer;
mod keys;
mod poison;
mod pool;
mod signed;
mod time;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    [claims::tests(), faults::tests(), keys::tests(), poison::tests(), pool::tests(), signed::tests(), time::tests()]
        .into_iter()
        .flatten()
        .collect()
}
