//! Group commit, `decrement_now()`: never oversold, each order one verdict, whoever is killed when.

mod apart;
mod calling;
mod databases;
mod failing;
pub mod fixture;
mod killing;
mod process;
mod refusing;
mod waiting;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    let files = [
        apart::tests(),
        calling::tests(),
        databases::tests(),
        failing::tests(),
        killing::tests(),
        process::tests(),
        refusing::tests(),
        waiting::tests(),
    ];
    files.into_iter().flatten().collect()
}
