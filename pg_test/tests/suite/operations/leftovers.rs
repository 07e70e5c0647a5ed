//! What DROP EXTENSION leaves behind, and what unprotect_all() takes back first.

use std::collections::BTreeSet;

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::world;
use super::generated;
use crate::harness::WithWorkers;

pub fn tests() -> Vec<Trial> {
    crate::tests![what_is_left_is_what_the_page_says => 240, without_unprotect_all_it_is_refused, no_column_stops_pg_upgrade]
}

/// Everything of the database that is not the server's own, an object a line. NOT NULL is told with its column; from 18 on it is a constraint, too.
const OBJECTS: &str = r"
    WITH ours AS (SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')
    SELECT format('%s %s.%s, row security %s %s', c.relkind, n.nspname, c.relname, c.relrowsecurity, c.relforcerowsecurity)
      FROM pg_class c JOIN ours n ON n.oid = c.relnamespace
     UNION ALL
    SELECT format('column %s.%s of %s, not null %s, default %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                  coalesce(pg_get_expr(d.adbin, d.adrelid), 'none'))
      FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN ours n ON n.oid = c.relnamespace
      LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p')
     UNION ALL SELECT format('policy %s of %s', polname, polrelid::regclass) FROM pg_policy
     UNION ALL SELECT format('trigger %s of %s', tgname, tgrelid::regclass) FROM pg_trigger WHERE NOT tgisinternal
     UNION ALL SELECT format('event trigger %s', evtname) FROM pg_event_trigger
     UNION ALL SELECT format('constraint %s of %s', conname, conrelid::regclass) FROM pg_constraint c JOIN ours n ON n.oid = c.connamespace
                WHERE contype <> 'n'
     UNION ALL SELECT format('function %s', p.oid::regprocedure) FROM pg_proc p JOIN ours n ON n.oid = p.pronamespace
     UNION ALL SELECT format('type %s', t.oid::regtype) FROM pg_type t JOIN ours n ON n.oid = t.typnamespace
     UNION ALL SELECT format('schema %s', nspname) FROM ours
     UNION ALL SELECT format('extension %s', extname) FROM pg_extension
     UNION ALL SELECT format('setting %s', unnest(setconfig)) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
                WHERE d.datname = current_database()";

fn objects(db: &Database) -> BTreeSet<String> {
    // Partitions of a day by the day's place only.
    let today = db.admin("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMM')").unwrap().trim().to_owned();
    let text = db.admin(OBJECTS).unwrap();
    let next =
        db.admin("SELECT to_char(now() AT TIME ZONE 'UTC' + interval '4 days', 'YYYYMM')").unwrap().trim().to_owned();
    let shown = text.replace(&today, "<month>").replace(&next, "<month>");
    let digits = |word: &str| word.chars().take_while(char::is_ascii_digit).count();
    let shown = shown.lines().map(|line| match line.split_once("<month>") {
        Some((before, after)) => format!("{before}…{}", &after[digits(after)..]),
        None => line.to_owned(),
    });
    shown.collect()
}

async fn what_is_left_is_what_the_page_says(db: WithWorkers) {
    let bare = db.cluster.empty_database("bare").unwrap();
    let tables = "SELECT bulkhead.protect('orders')";
    let owner = world(&db).await;
    owner.run("SELECT * FROM bulkhead.decrement_now('stock', 'o-1', 'a', 1); SELECT bulkhead.enqueue_decrement('stock', 'o-2', 'a', 1)").await;
    owner.run(&format!("SELECT bulkhead.lint(); {tables}")).await;
    db.admin(&format!("ALTER DATABASE {} SET bulkhead.context_mode = 'open'", db.name)).unwrap();
    drop(owner);
    // The same tables in a database that never had the extension.
    bare.admin(
        "GRANT ALL ON SCHEMA public TO owner;
         SET ROLE owner;
         CREATE TABLE orders (id int, tenant_id uuid, item text);
         CREATE TABLE watched (id int, tenant_id uuid);
         CREATE TABLE events (at timestamptz NOT NULL, body text) PARTITION BY RANGE (at);
         CREATE TABLE stock (sku text PRIMARY KEY, pieces int NOT NULL CHECK (pieces >= 0));
         CREATE TABLE leads (id int PRIMARY KEY, document jsonb, score numeric, status text NOT NULL DEFAULT 'pending_score');
         CREATE INDEX ON leads (id) WHERE status = 'pending_score'",
    )
    .unwrap();
    let before = objects(&bare);
    db.admin("BEGIN; SELECT bulkhead.begin_bypass('remove'); SELECT bulkhead.unprotect_all(); COMMIT; DROP EXTENSION bulkhead").unwrap();
    let after = objects(&db);
    let lost: Vec<_> = before.difference(&after).collect();
    assert!(lost.is_empty(), "DROP EXTENSION took what was there before it: {lost:#?}");
    let left = after.difference(&before);
    // A table that is left says it all: its columns and types go with it.
    let parts = |object: &&String| !["column ", "type "].iter().any(|kind| object.starts_with(kind));
    let left: Vec<_> = left.filter(parts).map(|object| format!("- `{object}`")).collect();
    generated::is("operations.md", "left", &left.join("\n"));
    bare.drop().unwrap();
}

async fn without_unprotect_all_it_is_refused(db: Database) {
    world(&db).await;
    let client = db.connect("postgres").await;
    client.refused("DROP EXTENSION bulkhead").await.state("2BP01").message_contains("cannot drop extension bulkhead");
    // What CASCADE does is worse than nothing: the border goes, and the table stays.
    client.run("DROP EXTENSION bulkhead CASCADE").await;
    assert_eq!(client.one("SELECT count(*) FROM pg_policy WHERE polrelid = 'orders'::regclass").await, "0");
    assert_eq!(client.one("SELECT relrowsecurity FROM pg_class WHERE oid = 'orders'::regclass").await, "t");
}

/// pg_upgrade refuses a cluster with a table that has a column of these types: what they stand for has another oid afterwards.
async fn no_column_stops_pg_upgrade(db: Database) {
    world(&db).await;
    let client = db.connect("postgres").await;
    let columns = client.column(
        "SELECT format('%s.%s', a.attrelid::regclass, a.attname) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
          WHERE c.relnamespace = 'bulkhead'::regnamespace AND c.relkind IN ('r', 'p', 'm', 'i') AND NOT a.attisdropped
            AND a.atttypid::regtype::text IN ('regcollation', 'regconfig', 'regdictionary', 'regnamespace', 'regoper', 'regoperator', 'regproc', 'regprocedure')",
    );
    assert_eq!(columns.await, [""; 0]);
}
