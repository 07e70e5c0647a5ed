//! `scoring`: rules as JSON, right whoever changes them, bounded whatever they are, and seen by their tenant alone.

mod fixture;
mod versions;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    let files = [versions::tests()];
    files.into_iter().flatten().collect()
}
