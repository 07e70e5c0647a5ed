//! What calls leave behind in a session: no memory. What a dump and a restore keep, and what a standby serves.

use libtest_mimic::Trial;
use pg_test::{Client, Cluster, Database};

use super::fixture::{A, B, acting, decide, left, shops, stock, stored};
use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        memory_stays_flat_over_many_calls => 300,
        memory_stays_flat_within_a_statement => 240,
        a_dump_carries_verdicts_queue_and_what_was_set_aside => 300,
        a_standby_tells_verdicts => 240,
    ]
}

/// Memory of the session's process that is nobody else's, in kB.
async fn memory(client: &Client) -> i64 {
    let pid = client.one("SELECT pg_backend_pid()").await;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the session's process");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line about memory");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

async fn memory_stays_flat_over_many_calls(db: Database) {
    stock(&db).await;
    db.admin("UPDATE stock SET stock = 2000000000").unwrap();
    let (app, boss) = (db.connect("app").await, db.connect("postgres").await);
    let calls = |from: i64, to: i64| {
        format!(
            "DO $$ DECLARE v text; BEGIN
               FOR i IN {from} .. {to} LOOP
                 SELECT verdict INTO STRICT v FROM bulkhead.decrement_inventory('stock', 'o' || i, 'a', 1);
                 ASSERT v = 'accepted';
                 IF i % 10 = 0 THEN
                   PERFORM bulkhead.decrement_inventory('stock', ARRAY['p' || i, 'p' || i, 'o' || i], ARRAY['a', 'nowhere', 'a'], ARRAY[1, 2, 3]::bigint[]);
                   PERFORM bulkhead.order_verdicts('stock', 'o' || i), bulkhead.release_order('stock', 'o' || i);
                   BEGIN PERFORM bulkhead.decrement_inventory('stock', ARRAY['q'], '{{}}', '{{}}'); EXCEPTION WHEN invalid_parameter_value THEN NULL; END;
                   PERFORM bulkhead.enqueue_decrement('stock', 'w' || i, 'b', 1);
                 END IF;
                 IF i % 200 = 0 THEN COMMIT; END IF;
               END LOOP; END $$"
        )
    };
    const DRAIN: &str = "CALL bulkhead.drain_inventory('stock', 100)";
    app.run(&calls(1, 20_000)).await;
    boss.run(DRAIN).await;
    let before = (memory(&app).await, memory(&boss).await);
    for round in 1..6 {
        app.run(&calls(round * 20_000 + 1, (round + 1) * 20_000)).await;
        boss.run(DRAIN).await;
    }
    let grown = (memory(&app).await - before.0, memory(&boss).await - before.1);
    assert!(grown.0 < 2_000, "{} kB more after 100,000 calls", grown.0);
    assert!(grown.1 < 2_000, "{} kB more after 100 batches", grown.1);
    assert_eq!(
        db.admin("SELECT count(*) FROM bulkhead.order_verdict WHERE order_id LIKE 'o%' AND line = 1").unwrap(),
        "120000"
    );
    assert_eq!(db.admin("SELECT count(*) FROM bulkhead.order_verdict WHERE order_id LIKE 'w%'").unwrap(), "12000");
}

/// Each call's memory is given back before the next, also while the statement runs on.
async fn memory_stays_flat_within_a_statement(db: Database) {
    let owner = stock(&db).await;
    owner.run("INSERT INTO stock SELECT 'i' || i, 1000000 FROM generate_series(0, 299) i").await;
    db.admin("GRANT EXECUTE ON FUNCTION pg_get_backend_memory_contexts() TO app; GRANT SELECT ON pg_backend_memory_contexts TO app").unwrap();
    let app = db.connect("app").await;
    const USED: &str = "SELECT sum(total_bytes) FROM pg_backend_memory_contexts";
    let many = format!(
        "SELECT u FROM (SELECT i, CASE WHEN i % 3000 = 0 THEN ({USED} WHERE i > 0) END AS u, c.verdict
           FROM generate_series(1, 9000) i,
                LATERAL bulkhead.decrement_inventory('stock', ARRAY['n' || i, 'm' || i], ARRAY['i' || i % 300, 'i' || i % 299], ARRAY[1, 2]::bigint[]) c
          WHERE c.verdict = 'accepted' AND c.line = 1) q WHERE u IS NOT NULL ORDER BY i"
    );
    let used: Vec<i64> = app.column(&many).await.iter().map(|bytes| bytes.parse().unwrap()).collect();
    assert_eq!(used.len(), 3, "{used:?}");
    assert!(used[2] - used[0] < 1_000_000, "{used:?}");
}

async fn a_dump_carries_verdicts_queue_and_what_was_set_aside(db: Database) {
    let owner = shops(&db).await;
    owner.run("ALTER TABLE shops ADD CONSTRAINT closed CHECK (id <> 'y' OR quantity = 7)").await;
    let (a, b) = (acting(&db, "app", A).await, acting(&db, "app", B).await);
    assert_eq!(decide(&a, "shops", &[("1", "x", "4"), ("2", "x", "8")]).await, ["accepted 6", "insufficient 6"]);
    assert_eq!(decide(&a, "shops", &[("back", "x", "2")]).await, ["accepted 4"]);
    a.run("SELECT bulkhead.release_order('shops', 'back')").await;
    assert_eq!(decide(&b, "shops", &[("1", "x", "1")]).await, ["accepted 2"]);
    b.run("SELECT bulkhead.enqueue_decrement('shops', 'poison', 'y', 1)").await;
    db.admin("CALL bulkhead.drain_inventory('shops')").unwrap();
    a.run("SELECT bulkhead.enqueue_decrement('shops', 'waits', 'x', 1)").await;
    b.run("SELECT bulkhead.enqueue_decrement('shops', 'waits', 'x', 2)").await;
    owner.run("ALTER TABLE shops DROP CONSTRAINT closed").await;

    let refused = db.client_program("pg_dump", "postgres").output().unwrap();
    assert!(!refused.status.success(), "a dump of all tenants needs a bypass");
    let dump = db.client_program("pg_dump", "postgres").env("PGOPTIONS", "-c bulkhead.bypass=backup").output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let there = db.cluster.empty_database("there").unwrap();
    // The table has another number there, and its columns may have.
    there.admin("CREATE TABLE in_the_way (n int); DROP TABLE in_the_way").unwrap();
    let restored = there.psql("postgres", &String::from_utf8(dump.stdout).unwrap()).unwrap();
    let errors = String::from_utf8_lossy(&restored.stderr).into_owned();
    assert!(restored.status.success() && !errors.contains("ERROR"), "{errors}");

    let (a, b) = (acting(&there, "app", A).await, acting(&there, "app", B).await);
    assert_eq!(stored(&a, "shops", "2").await, ["x insufficient 6"]);
    assert_eq!(stored(&b, "shops", "1").await, ["x accepted 2"]);
    // A verdict is replayed, and what was given back is not given back again.
    assert_eq!(decide(&a, "shops", &[("1", "x", "4"), ("1", "x", "5")]).await, ["conflict NULL", "conflict NULL"]);
    assert_eq!(decide(&a, "shops", &[("1", "x", "4")]).await, ["accepted 6"]);
    assert_eq!(a.one("SELECT bulkhead.release_order('shops', 'back')").await, "0");
    assert_eq!(a.one("SELECT quantity FROM shops").await, "6");
    // What waited is decided, what was set aside is there, and numbers go on.
    assert_eq!(
        b.rows("SELECT number, order_id, sqlstate FROM bulkhead.poisoned_orders('shops')").await,
        [["1", "poison", "23514"]]
    );
    assert_eq!(there.admin("SELECT bulkhead.requeue_poisoned('shops')").unwrap(), "1");
    there.admin("CALL bulkhead.drain_inventory('shops')").unwrap();
    assert_eq!(stored(&a, "shops", "waits").await, ["x accepted 5"]);
    assert_eq!(stored(&b, "shops", "waits").await, ["x accepted 0"]);
    assert_eq!(stored(&b, "shops", "poison").await, ["y accepted 6"]);
    assert_eq!(a.one("SELECT bulkhead.enqueue_decrement('shops', 'new', 'x', 1)").await, "5");
    drop((a, b));
    there.drop().unwrap();
}

async fn a_standby_tells_verdicts(_: Nowhere) {
    let cluster = Cluster::builder().setting("bulkhead.drain_databases", "").start().unwrap();
    let db = cluster.database("standby").unwrap();
    let owner = stock(&db).await;
    shops(&db).await;
    owner.run("ALTER TABLE stock ADD CONSTRAINT closed CHECK (sku <> 'b' OR stock = 5)").await;
    let app = db.connect("app").await;
    decide(&app, "stock", &[("1", "a", "4"), ("2", "nowhere", "1")]).await;
    decide(&acting(&db, "app", A).await, "shops", &[("1", "x", "1")]).await;
    app.run("SELECT bulkhead.enqueue_decrement('stock', 'poison', 'b', 1)").await;
    db.admin("CALL bulkhead.drain_inventory('stock')").unwrap();
    app.run("SELECT bulkhead.enqueue_decrement('stock', 'waits', 'a', 1)").await;
    drop((owner, app));
    cluster.stop().unwrap();
    std::fs::write(cluster.data_dir().join("standby.signal"), "").unwrap();
    cluster.start().unwrap();
    let (app, boss) = (db.connect("app").await, db.connect("postgres").await);
    assert_eq!(app.one("SELECT pg_is_in_recovery()").await, "t");
    assert_eq!(stored(&app, "stock", "1").await, ["a accepted 6"]);
    assert_eq!(stored(&app, "stock", "2").await, ["nowhere unknown_item NULL"]);
    assert!(stored(&app, "stock", "waits").await.is_empty());
    assert_eq!(stored(&acting(&db, "app", A).await, "shops", "1").await, ["x accepted 9"]);
    assert!(stored(&acting(&db, "app", B).await, "shops", "1").await.is_empty());
    app.refused("SELECT * FROM bulkhead.order_verdicts('shops', '1')").await.state("42501");
    assert_eq!(app.column("SELECT order_id FROM bulkhead.poisoned_orders('stock')").await, ["poison"]);
    assert_eq!(boss.column("SELECT order_id FROM bulkhead.all_poisoned_orders()").await, ["poison"]);
    assert_eq!(boss.one("SELECT value FROM bulkhead.health() WHERE check_name = 'queue_lag'").await, "1 queued");
    for call in [
        "decrement_inventory('stock', '3', 'a', 1)",
        "enqueue_decrement('stock', '3', 'a', 1)",
        "release_order('stock', '1')",
        "requeue_poisoned('stock')",
        "forget_poisoned('stock')",
    ] {
        boss.refused(&format!("SELECT bulkhead.{call}")).await.state("25006");
    }
    boss.refused("CALL bulkhead.drain_inventory('stock')").await.state("25006");
    // Promoted, it goes on where the other ended.
    boss.run("SELECT pg_promote()").await;
    db.connect("postgres").await.run("CALL bulkhead.drain_inventory('stock')").await;
    let app = db.connect("app").await;
    assert_eq!(stored(&app, "stock", "waits").await, ["a accepted 5"]);
    assert_eq!(left(&app).await, ["a 5", "b 5", "c 0"]);
}
