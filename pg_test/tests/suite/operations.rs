//! What whoever is on call counts on: metrics, checks, and a page that names every one of them.

mod errors;
mod fixture;
mod generated;
mod leftovers;
mod metrics;
mod monitoring;
mod page;
mod settings;
mod touched;
mod workers;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    let features = [
        errors::tests(),
        leftovers::tests(),
        metrics::tests(),
        monitoring::tests(),
        page::tests(),
        settings::tests(),
        touched::tests(),
        workers::tests(),
    ];
    features.into_iter().flatten().collect()
}
