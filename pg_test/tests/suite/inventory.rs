//! `inventory`: never oversold, each order one verdict, whoever asks, whenever, and whatever breaks.

mod changing;
mod concurrent;
mod crash;
mod deciding;
mod draining;
pub mod fixture;
mod giving_back;
mod lasting;
mod midnight;
mod poison;
mod queue;
mod registering;
mod rights;
mod tenants;
mod waiting;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    let files = [
        changing::tests(),
        concurrent::tests(),
        crash::tests(),
        deciding::tests(),
        draining::tests(),
        giving_back::tests(),
        lasting::tests(),
        midnight::tests(),
        poison::tests(),
        queue::tests(),
        registering::tests(),
        rights::tests(),
        tenants::tests(),
        waiting::tests(),
    ];
    files.into_iter().flatten().collect()
}
