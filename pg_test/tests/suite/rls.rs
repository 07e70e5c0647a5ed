//! `rls`: tables that are protected in one call, and stay protected.

mod fixture;
mod protect;
mod refusals;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    [protect::tests(), refusals::tests()].into_iter().flatten().collect()
}
