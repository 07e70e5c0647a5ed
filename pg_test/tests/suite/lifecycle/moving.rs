//! pg_dump and pg_restore, and pg_upgrade: the same objects as a fresh installation has, the same tables, the same rows.

use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use pg_test::{Cluster, Database, provision};

use super::facts::{catalogs, dumped_rows, rows, same, sequences};
use super::world;
use crate::fixture::acting;
use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![a_dump_of_everything_restores => 300, pg_upgrade_keeps_everything => 900]
}

fn succeed(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{command:?}\n{errors}");
}

async fn a_dump_of_everything_restores(db: Database) {
    world::fill(&db).await;
    let before = (catalogs(&db, "public"), dumped_rows(&db), sequences(&db));
    let lint = world::lint(&db.connect("postgres").await).await;
    let path = std::env::temp_dir().join(format!("{}.{}.dump", db.name, std::process::id()));
    let mut dump = db.client_program("pg_dump", "postgres");
    succeed(dump.env("PGOPTIONS", "-c bulkhead.bypass=backup").args(["--format", "custom", "--file"]).arg(&path));
    let there = db.cluster.empty_database("there").unwrap();
    let mut restore = there.client_program("pg_restore", "postgres");
    succeed(restore.args(["--exit-on-error", "--dbname", &there.name]).arg(&path));
    std::fs::remove_file(&path).unwrap();

    let fresh = db.cluster.database("fresh").unwrap();
    fresh.admin(world::GRANTED).unwrap();
    same(&catalogs(&there, "bulkhead"), &catalogs(&fresh, "bulkhead"), "the extension, restored and fresh");
    same(&catalogs(&there, "public"), &before.0, "the tables, restored and before");
    same(&dumped_rows(&there), &before.1, "the rows, restored and before");
    same(&sequences(&there), &before.2, "the sequences, restored and before");
    same(&world::lint(&there.connect("postgres").await).await, &lint, "lint(), restored and before");
    world::goes_on(&there).await;
    there.drop().unwrap();
    fresh.drop().unwrap();
}

/// From an older server where `UPGRADE_FROM` names its pg_config, as `cargo run --bin servers -- upgrade` does; else from one of the same version.
async fn pg_upgrade_keeps_everything(_: Nowhere) {
    let mut old = Cluster::builder().setting("bulkhead.drain_databases", "");
    let older = std::env::var("UPGRADE_FROM").ok().filter(|path| !path.is_empty());
    if let Some(pg_config) = &older {
        old = old.server(provision::another(Path::new(pg_config)).unwrap());
    }
    let old = old.start().unwrap();
    let db = old.database("world").unwrap();
    world::fill(&db).await;
    let before = (catalogs(&db, "public"), rows(&db), sequences(&db));
    let lint = world::lint(&db.connect("postgres").await).await;
    let health = complaints(&db).await;

    let new = old.upgraded_to(Cluster::builder().setting("bulkhead.drain_databases", "")).unwrap();
    let there = new.existing(&db.name);
    let version = "SELECT current_setting('server_version_num')::int / 10000";
    assert_eq!(there.admin(version).unwrap(), new.provision().postgres.major.to_string());
    assert_eq!(older.is_some(), new.provision().postgres.major != old.provision().postgres.major);
    // Before anything else is done to it.
    world::is_isolated(&there).await;
    let fresh = new.database("fresh").unwrap();
    fresh.admin(world::GRANTED).unwrap();
    same(&catalogs(&there, "bulkhead"), &catalogs(&fresh, "bulkhead"), "the extension, upgraded and fresh");
    same(&catalogs(&there, "public"), &before.0, "the tables, upgraded and before");
    same(&rows(&there), &before.1, "the rows, upgraded and before");
    same(&sequences(&there), &before.2, "the sequences, upgraded and before");
    same(&world::lint(&there.connect("postgres").await).await, &lint, "lint(), upgraded and before");
    assert_eq!(complaints(&there).await, health, "health(), upgraded and before");
    world::goes_on(&there).await;
    unprotected_it_is_as_it_was(&there).await;
}

/// The checks of health() that are not well. pg_cron's are the server's, which may have it or not.
async fn complaints(db: &Database) -> Vec<String> {
    let admin = db.connect("postgres").await;
    admin.column("SELECT check_name FROM bulkhead.health() WHERE NOT ok AND check_name <> 'cron_success'").await
}

/// What protect() recorded is restored: the index that it made goes, although nothing in its name says whose it is.
async fn unprotected_it_is_as_it_was(db: &Database) {
    let made = "SELECT count(*) FROM pg_indexes WHERE indexname ~ '^(orders|notes|jobs)_(tenant_id|account)_idx$'";
    assert_eq!(db.admin(made).unwrap(), "3");
    db.admin("SELECT bulkhead.unprotect_all()").unwrap();
    assert_eq!(db.admin(made).unwrap(), "0");
    let app = acting(db, "app", "").await;
    assert_eq!(app.column("SELECT id FROM orders ORDER BY id").await, ["1", "2", "3"]);
    let left = "SELECT relname FROM pg_class WHERE relrowsecurity AND relnamespace = 'public'::regnamespace";
    assert_eq!(db.admin(left).unwrap(), "labels", "row security was its own");
    db.admin("DROP EXTENSION bulkhead").unwrap();
    assert_eq!(app.column("SELECT id FROM jobs ORDER BY id").await, ["1", "2"]);
}
