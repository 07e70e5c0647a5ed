//! What whoever is on call counts on: metrics, checks, and a page that names every one of them.

mod errors;
mod examples;
mod fixture;
mod generated;
mod images;
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
        examples::tests(),
        images::tests(),
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
