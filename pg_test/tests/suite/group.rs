//! Group commit, `decrement_now()`: never oversold, each order one verdict, whoever is killed when.

mod calling;
mod fixture;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    let files = [calling::tests()];
    files.into_iter().flatten().collect()
}
