//! `rls`: tables that are protected in one call, and stay protected.

mod children;
mod concurrent;
mod dump;
mod fixture;
mod hardening;
mod leaks;
mod leaks_context;
mod leaks_plans;
mod leaks_roles;
mod modes;
mod naked;
mod names;
mod near_naked;
mod plan;
mod policies;
mod protect;
mod refusals;
mod registry;
mod share;
mod strangers;
mod unprotect;
mod unprotect_all;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    [
        children::tests(),
        concurrent::tests(),
        dump::tests(),
        hardening::tests(),
        leaks::tests(),
        leaks_context::tests(),
        leaks_plans::tests(),
        leaks_roles::tests(),
        modes::tests(),
        naked::tests(),
        names::tests(),
        near_naked::tests(),
        plan::tests(),
        policies::tests(),
        protect::tests(),
        refusals::tests(),
        registry::tests(),
        share::tests(),
        strangers::tests(),
        unprotect::tests(),
        unprotect_all::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
