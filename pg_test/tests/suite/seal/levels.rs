//! What the seal is where the library is loaded otherwise, and that it costs no memory.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{ALL, OF_A, acting, orders, seen};
use crate::harness::{SessionPreload, WithoutPreload};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        without_preloading_there_is_no_seal_and_none_is_claimed,
        session_preloading_seals_sessions_and_claims_nothing,
        shared_preloading_claims_the_seal,
        memory_stays_flat => 300
    ]
}

const SEALED: &str = "SELECT sealed FROM bulkhead.protected_tables";

async fn without_preloading_there_is_no_seal_and_none_is_claimed(db: WithoutPreload) {
    orders(&db).await;
    for role in ["svc", "postgres"] {
        let client = acting(&db, role).await;
        assert_eq!(client.one(SEALED).await, "f");
        assert_eq!(seen(&client).await, ALL, "{role}");
    }
    for role in ["app", "owner"] {
        let client = db.connect(role).await;
        assert_eq!(seen(&client).await, [""; 0], "no tenant, no rows for {role}");
        assert_eq!(seen(&acting(&db, role).await).await, OF_A, "{role}");
    }
}

async fn session_preloading_seals_sessions_and_claims_nothing(db: SessionPreload) {
    orders(&db).await;
    for role in ["app", "owner", "svc"] {
        let client = acting(&db, role).await;
        assert_eq!(client.one(SEALED).await, "f", "{role}");
        assert_eq!(seen(&client).await, OF_A, "{role}");
        db.connect(role).await.refused("SELECT * FROM orders").await.state("42501");
    }
}

async fn shared_preloading_claims_the_seal(db: Database) {
    orders(&db).await;
    assert_eq!(db.connect("app").await.one(SEALED).await, "t");
}

/// A session that plans and runs many statements of every kind does not grow.
async fn memory_stays_flat(db: Database) {
    orders(&db).await;
    db.admin("CREATE FUNCTION inlined() RETURNS SETOF orders LANGUAGE sql STABLE AS 'SELECT * FROM public.orders'")
        .unwrap();
    let svc = acting(&db, "svc").await;
    let rounds =
        "SELECT count(*) FROM orders; SELECT count(*) FROM inlined(); UPDATE orders SET item = item WHERE id = 1;
                  PREPARE p AS SELECT * FROM orders; EXECUTE p; DEALLOCATE p;";
    let used =
        async || -> i64 { svc.one("SELECT sum(total_bytes) FROM pg_backend_memory_contexts").await.parse().unwrap() };
    let many = async |times: usize| {
        for _ in 0..times {
            svc.run(&rounds.repeat(50)).await;
        }
    };
    let grants = "GRANT EXECUTE ON FUNCTION pg_get_backend_memory_contexts() TO svc; GRANT SELECT ON pg_backend_memory_contexts TO svc";
    db.admin(grants).unwrap();
    // A million more: most with a plan that is kept, many planned each time.
    let in_a_loop = |times: usize| {
        format!(
            "DO $$ DECLARE n bigint; BEGIN
               FOR i IN 1 .. {times} LOOP
                 PERFORM FROM orders WHERE id = i % 5; SELECT count(*) INTO n FROM inlined(); UPDATE orders SET item = item WHERE id = -1;
                 IF i % 4 = 0 THEN EXECUTE 'SELECT item FROM orders WHERE id = ' || i % 5; END IF;
                 IF i % 1000 = 0 THEN COMMIT; END IF;
               END LOOP; END $$"
        )
    };
    many(4).await;
    svc.run(&in_a_loop(10_000)).await;
    let before = used().await;
    many(40).await;
    svc.run(&in_a_loop(300_000)).await;
    let after = used().await;
    assert!(after - before < 300_000, "{before} bytes before a million statements, {after} after");
}
