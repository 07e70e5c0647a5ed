//! The board in shared memory: bounded, and shown to those whom it concerns.

use libtest_mimic::Trial;
use pg_test::{Cluster, Database};

use super::fixture::{NO_ROWS, counted, orders};
use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        five_thousand_statements_keep_it_bounded => 300,
        a_restart_empties_it => 300,
        owners_and_statistics_readers_see_it,
        a_long_statement_is_cut,
        the_tables_are_not_for_everybody,
    ]
}

/// On a server of its own, since the board belongs to the server.
async fn five_thousand_statements_keep_it_bounded(_: Nowhere) {
    let cluster = Cluster::builder().start().unwrap();
    let db = cluster.database("board").unwrap();
    let owner = orders(&db).await;
    let app = db.connect("app").await;
    for number in 0..5000 {
        app.run(&format!("SELECT id AS c{number} FROM orders")).await;
        if number % 500 == 0 {
            app.run("SELECT id AS often FROM orders").await;
        }
    }
    assert_eq!(owner.one("SELECT count(*) FROM bulkhead.naked_statements").await, "1024");
    // Those that were seen last have a place, and the one that comes again and again has kept its own.
    let kept = "SELECT count(*), min(substring(query FROM 'c([0-9]+)')::int) FROM bulkhead.naked_statements
                 WHERE query ~ ' c[0-9]'";
    assert_eq!(owner.rows(kept).await, [["1023", "3977"]]);
    let often = "SELECT count FROM bulkhead.naked_statements WHERE query LIKE '%often%'";
    assert_eq!(owner.column(often).await, ["10"]);
    let status = "SELECT value, detail FROM bulkhead.status() WHERE item = 'naked_statements'";
    let told = ["1024 of 1024 places", "full: 3977 statements gave their place to others since the server started"];
    assert_eq!(owner.rows(status).await, [told]);
}

async fn a_restart_empties_it(_: Nowhere) {
    let cluster = Cluster::builder().start().unwrap();
    let db = cluster.database("board").unwrap();
    drop(orders(&db).await);
    db.connect("app").await.run("TABLE orders").await;
    cluster.restart().unwrap();
    let owner = db.connect("owner").await;
    assert_eq!(counted(&owner).await, NO_ROWS);
    db.connect("app").await.run("TABLE orders").await;
    assert_eq!(counted(&owner).await, [["TABLE orders", "1"]], "still observed");
    cluster.kill().unwrap();
    cluster.start().unwrap();
    let owner = db.connect("owner").await;
    db.connect("app").await.run("SELECT FROM orders").await;
    assert_eq!(counted(&owner).await, [["SELECT FROM orders", "1"]], "after a crash as well");
}

async fn owners_and_statistics_readers_see_it(db: Database) {
    let owner = orders(&db).await;
    let (monitor, member) = (format!("{}_monitor", db.name), format!("{}_member", db.name));
    db.admin(&format!(
        "CREATE ROLE {monitor} LOGIN IN ROLE pg_read_all_stats; CREATE ROLE {member} LOGIN IN ROLE owner;"
    ))
    .unwrap();
    let app = db.connect("app").await;
    app.run("TABLE orders").await;
    let expected = [["TABLE orders", "1"]];
    assert_eq!(counted(&owner).await, expected);
    assert_eq!(counted(&db.connect("postgres").await).await, expected);
    assert_eq!(counted(&db.connect(&monitor).await).await, expected);
    assert_eq!(counted(&db.connect(&member).await).await, expected);
    assert_eq!(counted(&app).await, NO_ROWS);
    assert_eq!(counted(&db.connect("svc").await).await, NO_ROWS);
    assert_eq!(app.rows("SELECT count FROM bulkhead.read_naked_statements()").await, NO_ROWS);
    let other = db.cluster.database("other").unwrap();
    assert_eq!(counted(&other.connect("postgres").await).await, NO_ROWS, "another database's");
    other.drop().unwrap();
    db.admin(&format!("DROP ROLE {monitor}, {member}")).unwrap();
}

async fn a_long_statement_is_cut(db: Database) {
    let owner = orders(&db).await;
    let app = db.connect("app").await;
    let long = "\u{e9}".repeat(30);
    app.run(&format!("SELECT {} FROM orders", vec![format!("id AS \"{long}\""); 100].join(", "))).await;
    let shown =
        owner.rows("SELECT octet_length(query), query LIKE 'SELECT id AS%' FROM bulkhead.naked_statements").await;
    let [row] = shown.as_slice() else { panic!("{shown:?}") };
    assert!((500..=512).contains(&row[0].parse::<i32>().unwrap()), "{row:?}");
    assert_eq!(row[1], "t");
}

async fn the_tables_are_not_for_everybody(db: Database) {
    let owner = orders(&db).await;
    for role in ["app", "owner", "svc"] {
        let client = db.connect(role).await;
        for statement in ["TABLE bulkhead.observation", "DELETE FROM bulkhead.observation"] {
            client.refused(statement).await.state("42501");
        }
    }
    drop(owner);
}
