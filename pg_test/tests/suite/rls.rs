//! `rls`: tables that are protected in one call, and stay protected.

mod fixture;
mod names;
mod plan;
mod policies;
mod protect;
mod refusals;
mod unprotect;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    [names::tests(), plan::tests(), policies::tests(), protect::tests(), refusals::tests(), unprotect::tests()]
        .into_iter()
        .flatten()
        .collect()
}
