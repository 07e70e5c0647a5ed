//! `rls`: tables that are protected in one call, and stay protected.

mod fixture;
mod protect;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    [protect::tests()].into_iter().flatten().collect()
}
