//! The comparison that `cargo run --bin regression -- differential` makes of the server's own test files, on a short script of ours: script.sql.

use libtest_mimic::Trial;
use pg_test::Database;
use pg_test::differential::{self, Options, Report, Twins};

const SCRIPT: &str = include_str!("script.sql");

pub fn tests() -> Vec<Trial> {
    crate::tests![a_script_does_the_same_as_on_a_plain_database, the_comparison_of_a_script_notices_a_leak]
}

async fn compared(db: &Database, lifted: bool) -> Report {
    let number = db.name.rsplit('_').next().unwrap_or_default();
    let name = format!("twin_{number}");
    let mut twins = Twins::make(&db.cluster, &db.cluster, &name, false).await.expect("two databases");
    if lifted {
        twins.lift();
    }
    let options = Options { environment: [].into(), superuser: true, files: db.cluster.dir().to_path_buf() };
    differential::run(&mut twins, "script.sql", SCRIPT, &options).await.expect("a script that is run")
}

async fn a_script_does_the_same_as_on_a_plain_database(db: Database) {
    let report = compared(&db, false).await;
    let different: Vec<String> = report.different.iter().map(ToString::to_string).collect();
    assert!(different.is_empty(), "{report}\n{}", different.join("\n"));
    assert!(report.with_rows > 35 && report.tables_equal > 20, "{report}");
    assert_eq!(report.refused.values().sum::<u64>(), 1, "TRUNCATE: {report}");
    assert!(report.not_adopted.is_empty(), "{:?}", report.not_adopted);
}

/// Past the seal the sealed side sees the canaries.
async fn the_comparison_of_a_script_notices_a_leak(db: Database) {
    let report = compared(&db, true).await;
    let of = |kind: &str| report.different.iter().filter(|difference| difference.kind == kind).count();
    assert!(of("answer") > 20 && of("canaries") > 0, "{report}");
}
