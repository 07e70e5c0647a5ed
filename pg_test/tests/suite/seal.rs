//! `seal`: protected tables stay filtered for every role, in every shape of statement.

mod bypass;
mod bypass_kept;
mod differential;
mod fixture;
mod generator;
mod keeps_working;
mod levels;
mod moves;
mod operators;
mod outside;
mod plans;
mod random;
mod recorded;
mod script;
mod shapes;
mod single_user;
mod world;
mod writes;

/// Two tenants.
const A: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
const B: &str = "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    [
        bypass::tests(),
        bypass_kept::tests(),
        differential::tests(),
        keeps_working::tests(),
        levels::tests(),
        moves::tests(),
        operators::tests(),
        outside::tests(),
        plans::tests(),
        recorded::tests(),
        script::tests(),
        shapes::tests(),
        single_user::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
