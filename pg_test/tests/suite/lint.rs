//! `lint()`: every rule finds what it is for, and nothing in a clean schema.

mod allow;
mod cases;
mod cases_objects;
mod cases_rights;
mod scale;
mod whole;

use libtest_mimic::Trial;
use pg_test::Database;

pub fn tests() -> Vec<Trial> {
    [allow::tests(), cases::tests(), scale::tests(), whole::tests()].into_iter().flatten().collect()
}

const CLEAN: &str = include_str!("lint/clean.sql");

/// The rules by name, from the extension's own source.
#[path = "../../../src/lint/catalogue.rs"]
#[allow(dead_code, unused_imports)]
pub mod catalogue;

#[path = "../../../src/lint/flaws.rs"]
#[allow(dead_code, unused_imports)]
pub mod flaws;

/// The schema of clean.sql.
pub fn clean(db: &Database) {
    db.admin(CLEAN).unwrap();
}
