//! `leak_test()`: says of every planted leak that it leaks, of a clean schema that it holds, and leaves nothing behind.

mod planted;
mod whole;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    [planted::tests(), whole::tests()].into_iter().flatten().collect()
}
