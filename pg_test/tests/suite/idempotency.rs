//! `idempotency`: a key runs once, whoever asks, whenever, and whatever breaks.

mod claims;
mod concurrent;
mod crash;
mod days;
mod example;
mod fixture;
mod holders;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    [claims::tests(), concurrent::tests(), crash::tests(), days::tests(), example::tests(), holders::tests()]
        .into_iter()
        .flatten()
        .collect()
}
