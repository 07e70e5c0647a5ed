//! pg_dump and restore: managed tables go on being managed, holds hold.

use std::process::Command;

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{A, complaints, days, leaves, maintain, managed};

pub fn tests() -> Vec<Trial> {
    crate::tests![a_restored_database_is_maintained]
}

fn succeed(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{command:?}\n{errors}");
    output.stdout
}

async fn a_restored_database_is_maintained(db: Database) {
    let owner = managed(&db, 6).await;
    owner
        .run(
            "CREATE FUNCTION kept(partition regclass) RETURNS void LANGUAGE sql AS ''; SELECT bulkhead.hold_partition('events_5', 'case 2026-17');
             SELECT bulkhead.protect('events')",
        )
        .await;
    db.past_the_seal("owner")
        .await
        .run("SELECT bulkhead.manage_partitions('events', '1 day', '3 days', 2, on_expire => 'kept(regclass)'::regprocedure)")
        .await;
    maintain(&db).await;
    let picture = "SELECT parent, every, retain, premake, on_expire FROM bulkhead.managed_partition";
    let admin = db.connect("postgres").await;
    let before = (admin.rows(picture).await, leaves(&owner).await);
    let mut dump = db.client_program("pg_dump", "postgres");
    let script = succeed(dump.env("PGOPTIONS", "-c bulkhead.bypass=backup"));
    let restored = db.cluster.empty_database("restored").unwrap();
    let path = std::env::temp_dir().join(format!("{}.{}.sql", restored.name, std::process::id()));
    std::fs::write(&path, script).unwrap();
    succeed(
        restored
            .client_program("psql", "postgres")
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f"])
            .arg(&path),
    );
    std::fs::remove_file(&path).unwrap();
    let admin = restored.connect("postgres").await;
    let owner = restored.connect("owner").await;
    assert_eq!((admin.rows(picture).await, leaves(&owner).await), before);
    owner.refused("DROP TABLE events_5").await.state("55000");
    owner.run("SELECT bulkhead.release_hold('events_5')").await;
    let last = days(&owner, "events", 2, 2).await.remove(0);
    owner.run(&format!("DROP TABLE {last}")).await;
    maintain(&restored).await;
    assert_eq!(complaints(&restored).await, [""; 0]);
    let mut expected: Vec<String> = ["events_3", "events_2", "events_1"].map(str::to_owned).to_vec();
    expected.extend(days(&owner, "events", 0, 2).await);
    assert_eq!(leaves(&owner).await, expected);
    let app = restored.connect("app").await;
    app.refused(&format!("TABLE {last}")).await.state("42501");
    app.run(&format!("SET bulkhead.tenant_context = '{A}'; INSERT INTO events (id, at) VALUES (1, now())")).await;
    drop((admin, owner, app));
    restored.drop().unwrap();
}
