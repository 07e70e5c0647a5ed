//! `observe`: statements that protect() would refuse are counted, and nothing else changes.

mod board;
mod counting;
mod fixture;
mod lifetime;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    [board::tests(), counting::tests(), lifetime::tests()].into_iter().flatten().collect()
}
