//! A standby that streams: it serves what reads, follows what the primary protects, and goes on when it is promoted.

use libtest_mimic::Trial;
use pg_test::Cluster;

use super::facts::{catalogs, rows, same};
use super::world;
use crate::fixture::{acting, caught_up};
use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![a_standby_serves_follows_and_is_promoted => 300]
}

async fn a_standby_serves_follows_and_is_promoted(_: Nowhere) {
    let primary = Cluster::builder().setting("bulkhead.drain_databases", "").start().unwrap();
    let db = primary.database("world").unwrap();
    world::fill(&db).await;
    let standby = primary.standby().unwrap();
    let copy = standby.existing(&db.name);
    caught_up(&db, &copy).await;
    assert_eq!(copy.admin("SELECT pg_is_in_recovery()").unwrap(), "t");
    world::is_isolated(&copy).await;
    let lint = world::lint(&db.connect("postgres").await).await;
    same(&world::lint(&copy.connect("postgres").await).await, &lint, "lint() on the standby");
    same(&rows(&copy), &rows(&db), "the rows on the standby");

    // A session that has looked already hears of what the primary registers, and of what it takes back.
    let app = copy.connect("app").await;
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE late (id int, tenant_id text); INSERT INTO late VALUES (1, 'a'), (2, 'b')").await;
    caught_up(&db, &copy).await;
    assert_eq!(app.column("SELECT id FROM late ORDER BY id").await, ["1", "2"]);
    owner.run("SELECT bulkhead.protect('late')").await;
    caught_up(&db, &copy).await;
    app.refused("TABLE late").await.state("42501");
    app.run("SET bulkhead.tenant_context = 'b'").await;
    assert_eq!(app.column("SELECT id FROM late").await, ["2"]);
    let boss = copy.connect("postgres").await;
    boss.refused("TABLE late").await.state("42501");
    db.admin("SELECT bulkhead.unprotect('late')").unwrap();
    caught_up(&db, &copy).await;
    assert_eq!(app.column("SELECT id FROM late ORDER BY id").await, ["1", "2"]);
    db.admin("DROP TABLE late").unwrap();
    caught_up(&db, &copy).await;

    let before = (catalogs(&db, "public"), catalogs(&db, "bulkhead"), rows(&db));
    drop(owner);
    primary.kill().unwrap();
    boss.run("SELECT pg_promote()").await;
    assert_eq!(copy.admin("SELECT pg_is_in_recovery()").unwrap(), "f");
    same(&catalogs(&copy, "public"), &before.0, "the tables, promoted and before");
    same(&catalogs(&copy, "bulkhead"), &before.1, "the extension, promoted and before");
    same(&rows(&copy), &before.2, "the rows, promoted and before");
    world::goes_on(&copy).await;
    drop(acting(&copy, "app", world::A).await);
}
