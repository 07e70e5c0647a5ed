//! For each rule: a clean schema has no such finding; spoiled, it has; and the remedy, where there is one, mends it.

use std::collections::BTreeSet;

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::{cases_objects, cases_rights, catalogue, clean};
use crate::harness::{WithoutPreload, trial_named};

#[derive(Clone, Copy)]
pub struct Case {
    pub rule: &'static str,
    /// Run by a superuser; `{db}` stands for the name of the database, here as in `object`.
    pub spoil: &'static str,
    pub level: &'static str,
    pub object: &'static str,
    /// The finding comes with SQL that mends it.
    pub remedy: bool,
    /// Takes back what outlives the database.
    pub undo: &'static str,
    /// It is a fault only where nothing is sealed.
    pub unsealed: bool,
}

impl Case {
    pub const fn new(rule: &'static str, level: &'static str, object: &'static str, spoil: &'static str) -> Case {
        Case { rule, spoil, level, object, remedy: false, undo: "", unsealed: false }
    }

    pub const fn mended(self) -> Case {
        Case { remedy: true, ..self }
    }

    pub const fn unsealed(self) -> Case {
        Case { unsealed: true, ..self }
    }

    pub const fn undone(self, undo: &'static str) -> Case {
        Case { undo, ..self }
    }
}

fn all() -> Vec<Case> {
    [cases_objects::TABLES, cases_objects::OBJECTS, cases_rights::CASES].concat()
}

/// Tested elsewhere, because they are not about what is in a schema.
const ELSEWHERE: [&str; 7] =
    ["not-preloaded", "library-version", "server-flaw", "session-tenant", "unused-exception", "seal-off", "pooler"];

pub fn tests() -> Vec<Trial> {
    let mut trials = crate::tests![every_rule_has_its_case];
    for (number, case) in all().into_iter().enumerate() {
        let name = format!("lint::cases::{}_{number}", case.rule.replace('-', "_"));
        trials.push(if case.unsealed {
            trial_named(name, move |db: WithoutPreload| async move { found_and_mended((*db).clone(), case).await })
        } else {
            trial_named(name, move |db: Database| found_and_mended(db, case))
        });
    }
    trials
}

async fn every_rule_has_its_case(_: crate::harness::Nowhere) {
    let tested: BTreeSet<&str> = all().iter().map(|case| case.rule).chain(ELSEWHERE).collect();
    let rules: BTreeSet<&str> = catalogue::names().collect();
    assert_eq!(tested, rules);
}

/// Level and remedy of the finding.
async fn finding(client: &Client, rule: &str, object: &str) -> Vec<Vec<String>> {
    let object = object.replace('\'', "''");
    client
        .rows(&format!("SELECT level, remedy FROM bulkhead.lint() WHERE rule = '{rule}' AND object = '{object}'"))
        .await
}

async fn found_and_mended(db: Database, case: Case) {
    let here = |text: &str| text.replace("{db}", &db.name);
    let object = here(case.object);
    clean(&db);
    let nobody: [[&str; 2]; 0] = [];
    assert_eq!(finding(&db.connect("app").await, case.rule, &object).await, nobody, "before");
    db.admin(&here(case.spoil)).unwrap();
    // A new session, for what a session begins with.
    let found = finding(&db.connect("app").await, case.rule, &object).await;
    let remedy = found.first().map(|row| row[1].clone()).unwrap_or_default();
    assert_eq!(found.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), [case.level], "{object}: {found:?}");
    assert_eq!(remedy != "NULL", case.remedy, "{remedy}");
    if case.remedy {
        db.admin(&remedy).unwrap();
        assert_eq!(finding(&db.connect("app").await, case.rule, &object).await, nobody, "after {remedy}");
    }
    db.admin(&here(case.undo)).unwrap();
}
