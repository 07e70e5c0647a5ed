//! Integration tests: one file for each feature, against a real server, as plain roles.
//!
//! `cargo test` runs all; `cargo test rls::` those of a feature; `cargo test -- --list` lists them.
//! The servers are started when the first test asks for one, and always stopped and deleted.

mod chaos;
mod clients;
mod context;
mod docs;
mod fixture;
mod frame;
mod group;
mod guarded;
mod harness;
mod hostile;
mod idempotency;
mod interleavings;
mod inventory;
mod leak_test;
mod lifecycle;
mod lint;
mod migrations;
mod observe;
mod operations;
mod package;
mod partition;
mod pooled;
mod rls;
mod scoring;
mod seal;
mod smoke;
mod standby;
mod tokens;
mod versions;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn all() -> Vec<Trial> {
    let features = [
        chaos::tests(),
        clients::tests(),
        context::tests(),
        docs::tests(),
        frame::tests(),
        group::tests(),
        guarded::tests(),
        hostile::tests(),
        idempotency::tests(),
        interleavings::tests(),
        inventory::tests(),
        leak_test::tests(),
        lifecycle::tests(),
        lint::tests(),
        migrations::tests(),
        observe::tests(),
        operations::tests(),
        package::tests(),
        partition::tests(),
        pooled::tests(),
        rls::tests(),
        scoring::tests(),
        tokens::tests(),
        seal::tests(),
        smoke::tests(),
        standby::tests(),
        versions::tests(),
    ];
    features.into_iter().flatten().collect()
}

fn main() -> ExitCode {
    if let Some(role) = guarded::role_of_this_process() {
        return guarded::play(&role);
    }
    harness::run(Arguments::from_args(), all())
}
