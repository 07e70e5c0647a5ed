//! `scoring`: rules as JSON, right whoever changes them, bounded whatever they are, and seen by their tenant alone.

mod attached;
mod bounds;
mod columns;
mod documents;
mod fixture;
mod lasting;
mod pending;
mod stubborn;
mod versions;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    let files = [
        attached::tests(),
        bounds::tests(),
        columns::tests(),
        documents::tests(),
        lasting::tests(),
        pending::tests(),
        stubborn::tests(),
        versions::tests(),
    ];
    files.into_iter().flatten().collect()
}
