//! `partition`: partitions are made ahead and dropped when they are past retention, and nobody notices.

mod archiving;
mod attacks;
mod converting;
mod cron;
mod dressing;
mod expiring;
mod fixture;
mod health;
mod making;
mod names;
mod refusing;
mod restoring;
mod running;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    [
        archiving::tests(),
        attacks::tests(),
        converting::tests(),
        cron::tests(),
        dressing::tests(),
        expiring::tests(),
        health::tests(),
        making::tests(),
        names::tests(),
        refusing::tests(),
        restoring::tests(),
        running::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
