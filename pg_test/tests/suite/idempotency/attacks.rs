//! The table of keys under the hands of its owner, and under a clock that was put back.

use std::time::Duration;

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{app, claim, complete, rows_of, start};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        other_columns_are_refused,
        columns_in_another_order_are_refused,
        a_partition_that_goes_while_a_claim_waits_takes_no_claim,
        an_index_that_is_built_anew_hides_no_claim,
        an_extension_does_not_go_back_with_the_clock,
    ]
}

async fn other_columns_are_refused(db: Database) {
    let app = app(&db).await;
    assert_eq!(claim(&app, "k1").await, "started");
    for (change, undo) in [
        ("ALTER COLUMN attempt TYPE bigint", Some("ALTER COLUMN attempt TYPE integer")),
        ("RENAME COLUMN lease_until TO until", Some("RENAME COLUMN until TO lease_until")),
        ("ADD COLUMN more integer", None),
    ] {
        db.admin(&format!("ALTER TABLE bulkhead.idempotency_key {change}")).unwrap();
        for call in ["idempotency_claim('k2')", "idempotency_complete('k1', 200, '{}')", "idempotency_release('k1')"] {
            app.refused(&format!("SELECT * FROM bulkhead.{call}"))
                .await
                .state("55000")
                .message_contains("has other columns than it needs");
        }
        if let Some(undo) = undo {
            db.admin(&format!("ALTER TABLE bulkhead.idempotency_key {undo}")).unwrap();
            assert_eq!(claim(&app, "k1").await, "in_progress");
        }
    }
}

async fn columns_in_another_order_are_refused(db: Database) {
    let app = app(&db).await;
    db.admin(
        "CREATE TABLE bulkhead.turned (claimed_at timestamptz NOT NULL, digest uuid NOT NULL PRIMARY KEY, lease_until timestamptz NOT NULL, fence bigint NOT NULL,
           attempt integer NOT NULL, stage \"char\" NOT NULL, status integer, tenant text NOT NULL, key text NOT NULL, fingerprint text, response jsonb,
           finished_at timestamptz);
         DO $$ BEGIN EXECUTE format('ALTER TABLE bulkhead.idempotency_key ATTACH PARTITION bulkhead.turned FOR VALUES FROM (%L) TO (%L)',
           now() - interval '1 day', now() + interval '2 days'); END $$",
    )
    .unwrap();
    app.refused("SELECT * FROM bulkhead.idempotency_claim('k')")
        .await
        .state("55000")
        .message("partition bulkhead.turned of bulkhead.idempotency_key has other columns than it needs");
}

/// The partition for now.
fn present(db: &Database) -> String {
    db.admin("SELECT tableoid::regclass FROM bulkhead.idempotency_key LIMIT 1").unwrap()
}

async fn a_partition_that_goes_while_a_claim_waits_takes_no_claim(db: Database) {
    let first = app(&db).await;
    assert_eq!(claim(&first, "before").await, "started");
    let leaf = present(&db);
    let admin = db.past_the_seal("postgres").await;
    admin.run(&format!("BEGIN; ALTER TABLE bulkhead.idempotency_key DETACH PARTITION {leaf}")).await;
    let waiting = tokio::spawn(async move { claim(&first, "k").await });
    let waits = format!("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = '{leaf}'::regclass");
    while admin.one(&waits).await == "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    admin.run("COMMIT").await;
    assert_eq!(waiting.await.unwrap(), "started");
    assert_eq!(admin.one(&format!("SELECT count(*) FROM {leaf} WHERE key = 'k'")).await, "0");
    assert_eq!(rows_of(&db, "k"), "1");
    assert_eq!(claim(&app(&db).await, "k").await, "in_progress");
}

async fn an_index_that_is_built_anew_hides_no_claim(db: Database) {
    let app = app(&db).await;
    start(&app, "k").await;
    complete(&app, "k").await;
    let leaf = present(&db);
    for how in ["TABLE CONCURRENTLY", "TABLE"] {
        db.admin(&format!("REINDEX {how} {leaf}")).unwrap();
        assert_eq!(claim(&app, "k").await, "replay", "{how}");
    }
    for what in ["CLUSTER {} USING {}_pkey", "VACUUM (FULL, FREEZE) {}"] {
        db.admin(&what.replace("{}_pkey", &format!("{}_pkey", leaf.rsplit('.').next().unwrap())).replace("{}", &leaf))
            .unwrap();
        assert_eq!(claim(&app, "k").await, "replay", "{what}");
    }
}

async fn an_extension_does_not_go_back_with_the_clock(db: Database) {
    let app = app(&db).await;
    let fence = start(&app, "k").await;
    // As if it had been claimed by a clock a day ahead, which is right again now.
    db.admin("UPDATE bulkhead.idempotency_key SET claimed_at = claimed_at + interval '1 day' WHERE key = 'k'").unwrap();
    let claimed = "SELECT tableoid, claimed_at FROM bulkhead.idempotency_key WHERE key = 'k'";
    let before = db.admin(claimed).unwrap();
    app.run(&format!("SELECT bulkhead.idempotency_extend('k', '1 hour', {fence})")).await;
    assert_eq!(db.admin(claimed).unwrap(), before);
    assert_eq!(claim(&app, "k").await, "in_progress");
    complete(&app, "k").await;
    assert_eq!(claim(&app, "k").await, "replay");
}
