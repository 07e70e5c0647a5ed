//! `ALTER EXTENSION bulkhead UPDATE` from each released version: the objects of a fresh installation, and the rows that were there.
//!
//! sql/released keeps what CREATE EXTENSION ran in each version. The library is always today's: under the older version's name it refuses to work, so that
//! a database is filled while the older objects go by today's name. Where today's library cannot fill older objects, this test will say so, and needs
//! a dump of that version's.

use std::path::PathBuf;

use libtest_mimic::Trial;
use pg_test::Database;

use super::facts::{catalogs, differences, rows, same, sequences};
use super::world;
use crate::fixture::put_script;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        what_create_extension_runs_is_kept,
        every_released_version_becomes_this_one => 300,
        what_an_update_loses_is_seen => 240,
    ]
}

/// Of the library and of the objects of a fresh installation.
const THIS: &str = env!("CARGO_PKG_VERSION");

fn kept() -> PathBuf {
    pg_test::root().join("sql/released")
}

/// Without the lines that say where in the sources a part comes from.
fn statements(script: &str) -> String {
    let is_place = |line: &&str| line.strip_prefix("-- src/").is_some_and(|place| place.contains(".rs:"));
    script.lines().filter(|line| !is_place(line)).map(|line| format!("{line}\n")).collect()
}

async fn what_create_extension_runs_is_kept(db: Database) {
    let name = format!("bulkhead--{THIS}.sql");
    let files = &db.cluster.provision().extension.files;
    let (_, made) = files.iter().find(|(path, _)| path.ends_with(&name)).unwrap();
    let made = statements(std::str::from_utf8(made).unwrap());
    let kept = std::fs::read_to_string(kept().join(&name)).unwrap_or_default();
    if made == kept {
        return;
    }
    let changes = std::fs::read_to_string(pg_test::root().join("CHANGELOG.md")).unwrap();
    assert!(
        changes.lines().any(|line| line == format!("## {THIS} (unreleased)")),
        "{THIS} is released: what CREATE EXTENSION makes in it never changes. Raise the version in Cargo.toml and write sql/bulkhead--{THIS}--NEW.sql"
    );
    if pg_test::flag("BLESS") {
        std::fs::write(self::kept().join(&name), made).unwrap();
        return;
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (gone, new) = differences(&lines(&made), &lines(&kept));
    panic!(
        "sql/released/{name} is not what CREATE EXTENSION runs (BLESS=1 writes it)\n  gone: {gone:#?}\n  new: {new:#?}"
    );
}

/// Versions whose script is kept.
fn released() -> Vec<String> {
    let names = std::fs::read_dir(kept()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let version = |name: String| Some(name.strip_prefix("bulkhead--")?.strip_suffix(".sql")?.to_owned());
    let mut versions: Vec<String> = names.map(|name| version(name).expect("bulkhead--VERSION.sql")).collect();
    versions.sort();
    versions
}

async fn every_released_version_becomes_this_one(db: Database) {
    let fresh = db.cluster.database("fresh").unwrap();
    fresh.admin(world::GRANTED).unwrap();
    let objects = catalogs(&fresh, "bulkhead");
    fresh.drop().unwrap();
    assert!(released().iter().any(|version| version == THIS), "{:?}", released());
    for version in released() {
        // A name of its own, also for today's: its script is the kept one.
        let was = format!("was{version}");
        let script = std::fs::read_to_string(kept().join(format!("bulkhead--{version}.sql"))).unwrap();
        put_script(&db, &format!("bulkhead--{was}.sql"), &script);
        put_script(&db, &format!("bulkhead--{was}--{version}.sql"), "");
        let old = db.cluster.database("old").unwrap();
        old.admin(&format!(
            "DROP EXTENSION bulkhead; DROP SCHEMA IF EXISTS bulkhead; CREATE EXTENSION bulkhead VERSION '{was}'"
        ))
        .unwrap();
        goes_by(&old, THIS);
        world::fill(&old).await;
        let before = (catalogs(&old, "public"), rows(&old), sequences(&old));
        goes_by(&old, &was);
        old.connect("owner").await.refused("SELECT * FROM orders").await.state("55000");

        old.admin("ALTER EXTENSION bulkhead UPDATE").unwrap();
        world::is_isolated(&old).await;
        same(&catalogs(&old, "bulkhead"), &objects, &format!("the objects of {version}, updated, and fresh"));
        same(&catalogs(&old, "public"), &before.0, &format!("the tables under {version}, now and before"));
        same(&rows(&old), &before.1, &format!("the rows under {version}, now and before"));
        same(&sequences(&old), &before.2, &format!("the sequences under {version}, now and before"));
        world::goes_on(&old).await;
        old.drop().unwrap();
    }
}

/// The name of the version alone: what the library compares itself with.
fn goes_by(db: &Database, version: &str) {
    db.admin(&format!("UPDATE pg_extension SET extversion = '{version}' WHERE extname = 'bulkhead'")).unwrap();
}

/// What an update may do wrong, and the beginning of the fact that is gone for it.
const LOST: [(&str, &str); 12] = [
    ("COMMENT ON FUNCTION bulkhead.tenant_id() IS NULL", "comment on function bulkhead.tenant_id(): "),
    ("COMMENT ON COLUMN bulkhead.protection.home IS NULL", "comment on column home of table bulkhead.protection: "),
    ("REVOKE EXECUTE ON FUNCTION bulkhead.tenant_id_text() FROM PUBLIC", "function f tenant_id_text() "),
    ("GRANT SELECT ON bulkhead.protection TO app", "relation r protection "),
    ("ALTER FUNCTION bulkhead.tenant_id_bigint() NOT LEAKPROOF", "function f tenant_id_bigint() "),
    ("ALTER TABLE bulkhead.protection ALTER protected_at DROP DEFAULT", "column 8 protection.protected_at "),
    ("ALTER TABLE bulkhead.rule_set ALTER COLUMN rules SET STORAGE EXTERNAL", "column 6 rule_set.rules "),
    ("DROP INDEX bulkhead.inventory_current", "index CREATE UNIQUE INDEX inventory_current "),
    ("ALTER EVENT TRIGGER bulkhead_follow_ddl DISABLE", "event trigger bulkhead_follow_ddl "),
    ("SELECT pg_extension_config_dump('bulkhead.observation', 'WHERE false')", "dumped bulkhead.observation"),
    ("ALTER EXTENSION bulkhead DROP FUNCTION bulkhead.user_id()", "member function bulkhead.user_id()"),
    ("DELETE FROM bulkhead.lint_exceptions", "bulkhead.lint_exceptions: "),
];

async fn what_an_update_loses_is_seen(db: Database) {
    world::fill(&db).await;
    let facts = |db: &Database| [catalogs(db, "bulkhead"), rows(db)].concat();
    let before = facts(&db);
    let damages: String = LOST.iter().map(|(damage, _)| format!("{damage};\n")).collect();
    put_script(&db, &format!("bulkhead--{THIS}--worse.sql"), &damages);
    put_script(&db, &format!("bulkhead--worse--{THIS}.sql"), "");
    let both = format!("ALTER EXTENSION bulkhead UPDATE TO 'worse'; ALTER EXTENSION bulkhead UPDATE TO '{THIS}'");
    db.admin(&both).unwrap();
    let (gone, _) = differences(&facts(&db), &before);
    for (damage, lost) in LOST {
        assert!(gone.iter().any(|fact| fact.starts_with(lost)), "{damage}: {gone:#?}");
    }
}
