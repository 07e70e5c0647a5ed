//! `context`: the tenant that a transaction acts for.

mod accessors;
mod attacks;
pub mod fixture;
mod locked;
mod pooler;
mod setting;
mod status;
mod switches;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    [
        accessors::tests(),
        attacks::tests(),
        locked::tests(),
        pooler::tests(),
        setting::tests(),
        status::tests(),
        switches::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
