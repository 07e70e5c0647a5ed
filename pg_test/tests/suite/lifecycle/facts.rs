//! What a database holds, as lines that can be compared with those of another.

use pg_test::Database;

/// Not compared: the first grows with each look past the seal, the second by the clock.
const NOT_COMPARED: [&str; 2] = ["bypass_log", "maintenance_log"];

/// Everything that the catalogs say of a schema's objects; see catalogs.sql.
pub fn catalogs(db: &Database, schema: &str) -> Vec<String> {
    // Those of the extension's own tables are made as time goes by.
    let with_partitions = if schema == "bulkhead" { "false" } else { "true" };
    let query = include_str!("catalogs.sql").replace("{schema}", schema).replace("{partitions}", with_partitions);
    // A fact of several lines, such as a body, is one.
    let text = db.admin(&format!("\\pset recordsep '\\001'\n{query}")).unwrap();
    let facts: Vec<String> = text.split('\u{1}').map(|fact| fact.trim().to_owned()).collect();
    assert!(facts.len() > 20, "{schema}: {facts:#?}");
    facts
}

/// All rows of all tables, past the seal.
pub fn rows(db: &Database) -> Vec<String> {
    of_each(db, 'r', "t::text")
}

/// The same without what a dump leaves to the installation, and of what is registered without the columns that change with the place:
/// the database, the numbers of columns.
pub fn dumped_rows(db: &Database) -> Vec<String> {
    const OF_THE_PLACE: [&str; 4] = ["protection", "inventory", "managed_partition", "scoring_run"];
    let is_of_the_place =
        |row: &String| OF_THE_PLACE.iter().any(|table| row.starts_with(&format!("bulkhead.{table}: ")));
    let mut dumped: Vec<String> = rows(db).into_iter().filter(|row| !is_of_the_place(row)).collect();
    let registered = "SELECT 'protected: ' || (to_jsonb(t) - '{home,tenant_attnum}'::text[])::text FROM bulkhead.protection t
                       UNION ALL SELECT 'protected, as shown: ' || t::text FROM bulkhead.protected_tables t
                       UNION ALL SELECT 'managed: ' || to_jsonb(t)::text FROM bulkhead.managed_partition t WHERE retain IS NOT NULL
                       UNION ALL SELECT 'inventory: ' || (to_jsonb(t) - '{home,item_attnum,quantity_attnum,tenant_attnum}'::text[])::text
                                   FROM bulkhead.inventory t";
    dumped.extend(db.admin(registered).unwrap().lines().map(str::to_owned));
    dumped
}

/// Where the sequences are. A standby's may be ahead: the log has them in steps.
pub fn sequences(db: &Database) -> Vec<String> {
    of_each(db, 'S', "last_value")
}

fn of_each(db: &Database, kind: char, what: &str) -> Vec<String> {
    let each = db
        .admin(&format!(
            "SELECT format('SELECT %L || {what} FROM ONLY %s t;', c.oid::regclass || ': ', c.oid::regclass)
               FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
              WHERE nspname IN ('public', 'bulkhead') AND relkind = '{kind}'"
        ))
        .unwrap();
    let wanted = |line: &&str| !NOT_COMPARED.iter().any(|table| line.contains(&format!("FROM ONLY bulkhead.{table}")));
    let script: String = each.lines().filter(wanted).map(|line| format!("{line}\n")).collect();
    let mut rows: Vec<String> = db.admin(&script).unwrap().lines().map(str::to_owned).collect();
    rows.sort();
    assert!(!rows.is_empty());
    rows
}

/// The lines that are gone, and the new ones; one that is there more often than before is new.
pub fn differences(now: &[String], before: &[String]) -> (Vec<String>, Vec<String>) {
    let beyond = |of: &[String], other: &[String]| {
        let mut left = other.to_vec();
        let mut more = Vec::new();
        for fact in of {
            match left.iter().position(|known| known == fact) {
                Some(at) => drop(left.swap_remove(at)),
                None => more.push(fact.clone()),
            }
        }
        more
    };
    (beyond(before, now), beyond(now, before))
}

/// Panics with the lines that differ unless both have the same.
#[track_caller]
pub fn same(now: &[String], before: &[String], what: &str) {
    let (gone, new) = differences(now, before);
    assert!(
        gone.is_empty() && new.is_empty(),
        "{what}: {} lines, now {}\n  gone: {gone:#?}\n  new: {new:#?}",
        before.len(),
        now.len()
    );
}
