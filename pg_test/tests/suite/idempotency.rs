//! `idempotency`: a key runs once, whoever asks, whenever, and whatever breaks.

mod attacks;
mod claims;
mod concurrent;
mod crash;
mod days;
mod example;
mod fixture;
mod holders;
mod lasting;
mod midnight;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    let files = [
        attacks::tests(),
        claims::tests(),
        concurrent::tests(),
        crash::tests(),
        days::tests(),
        example::tests(),
        holders::tests(),
        lasting::tests(),
        midnight::tests(),
    ];
    files.into_iter().flatten().collect()
}
