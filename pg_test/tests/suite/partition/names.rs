//! Names that are long, taken, or meant to break out.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{complaints, days, leaves_of, maintain};

pub fn tests() -> Vec<Trial> {
    crate::tests![hostile_names, names_of_63_bytes, a_taken_name_gets_a_suffix]
}

async fn hostile_names(db: Database) {
    let owner = db.connect("owner").await;
    db.admin("CREATE SCHEMA \"we\"\"ird; DROP\" AUTHORIZATION owner").unwrap();
    let table = "\"we\"\"ird; DROP\".\"Ev'en\"\"ts %I\\\"";
    owner
        .run(&format!(
            "CREATE TABLE {table} (\"a\"\"t' %s\" timestamptz NOT NULL, \"T\" text) PARTITION BY RANGE (\"a\"\"t' %s\");
             CREATE UNIQUE INDEX \"i\"\"x ON y\" ON {table} (\"a\"\"t' %s\", \"T\");
             ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
             CREATE POLICY \"p\"\"; --\" ON {table} USING (\"T\" = 'x''y');
             SELECT bulkhead.manage_partitions('{0}', '1 day', '3 days', 1)",
            table.replace('\'', "''")
        ))
        .await;
    for _ in 0..2 {
        maintain(&db).await;
        assert_eq!(complaints(&db).await, [""; 0]);
    }
    let parent = table.replace('\'', "''");
    let made = leaves_of(&owner, &parent).await;
    assert_eq!(made, days(&owner, "Ev''en\"ts %I\\", 0, 1).await);
    let policies = owner.column("SELECT polname || pg_get_expr(polqual, polrelid) FROM pg_policy").await;
    assert_eq!(policies, ["p\"; --(\"T\" = 'x''y'::text)"; 3]);
    let held = owner.one(&format!("SELECT format('%I.%I', 'we\"ird; DROP', '{}')", made[0].replace('\'', "''"))).await;
    owner.run(&format!("SELECT bulkhead.hold_partition('{}', 'why''not')", held.replace('\'', "''"))).await;
    owner.run(&format!("SELECT bulkhead.release_hold('{}')", held.replace('\'', "''"))).await;
}

async fn names_of_63_bytes(db: Database) {
    let owner = db.connect("owner").await;
    let [first, second] = ["a", "b"].map(|last| format!("{}{last}", "Events".repeat(11)[..62].to_owned()));
    for table in [&first, &second] {
        owner
            .run(&format!(
                "CREATE TABLE \"{table}\" (at timestamptz) PARTITION BY RANGE (at); SELECT bulkhead.manage_partitions('\"{table}\"', '1 hour', '1 day', 2)"
            ))
            .await;
    }
    maintain(&db).await;
    assert_eq!(complaints(&db).await, [""; 0]);
    for table in [&first, &second] {
        let made = leaves_of(&owner, &format!("\"{table}\"")).await;
        assert_eq!(made.len(), 3);
        assert!(made.iter().all(|name| name.len() <= 63 && name.starts_with("EventsEvents")), "{made:?}");
    }
}

async fn a_taken_name_gets_a_suffix(db: Database) {
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE events (at timestamptz) PARTITION BY RANGE (at); SELECT bulkhead.manage_partitions('events', '1 day', '3 days', 1)").await;
    let names = days(&owner, "events", 0, 1).await;
    // A view, and a type, which shares its name with a table of it.
    owner
        .run(&format!(
            "CREATE VIEW {} AS SELECT 1; CREATE TYPE {} AS ENUM ('a'); CREATE TABLE {}_2 ()",
            names[0], names[1], names[1]
        ))
        .await;
    maintain(&db).await;
    assert_eq!(leaves_of(&owner, "events").await, [format!("{}_2", names[0]), format!("{}_3", names[1])]);
}
