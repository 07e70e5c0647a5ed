//! `partition`: partitions are made ahead and dropped when they are past retention, and nobody notices.

mod archiving;
mod dressing;
mod expiring;
mod fixture;
mod making;
mod names;
mod refusing;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    [archiving::tests(), dressing::tests(), expiring::tests(), making::tests(), names::tests(), refusing::tests()]
        .into_iter()
        .flatten()
        .collect()
}
