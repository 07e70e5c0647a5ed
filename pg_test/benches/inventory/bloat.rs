//! How large the queue becomes under sustained load, and beside an old snapshot; and a queue by hand, in one table, with DELETE and VACUUM without a pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use pg_test::bench::Options;
use pg_test::bench::report::grouped;
use pg_test::progress;
use pg_test::{Client, Database};
use tokio_postgres::Statement;

/// Orders in one transaction of a session that queues.
const AT_ONCE: u32 = 1_000;

/// So many may wait while more are queued.
const MOST_WAITING: i64 = 50_000;

/// A queue and what works on it.
struct Queue {
    name: &'static str,
    /// Queues `AT_ONCE` orders whose ids begin with $1.
    add: &'static str,
    /// What goes on beside it, without a pause.
    work: &'static [&'static str],
    /// Bytes of its tables and their indexes.
    size: &'static str,
    /// What is left of the item; each order that is drained takes one.
    left: &'static str,
}

const OURS: Queue = Queue {
    name: "ours",
    add: "SELECT count(bulkhead.enqueue_decrement('hot', $1 || '-' || n, 'item 1', 1)) FROM generate_series(1, 1000) n",
    work: &["CALL bulkhead.drain_inventory('hot', 5000, 4)"],
    size: "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relnamespace = 'bulkhead'::regnamespace AND relname ~ '^inventory_queue_\\d$'",
    left: "SELECT quantity FROM hot WHERE id = 'item 1'",
};

const BY_HAND: Queue = Queue {
    name: "one table, DELETE and VACUUM",
    add: "INSERT INTO waiting (order_id, item, quantity) SELECT $1 || '-' || n, 'item 1', 1 FROM generate_series(1, 1000) n",
    work: &[
        "WITH gone AS (DELETE FROM waiting WHERE id IN (SELECT id FROM waiting ORDER BY id LIMIT 5000 FOR UPDATE SKIP LOCKED) RETURNING quantity)
            UPDATE by_hand SET quantity = quantity - (SELECT coalesce(sum(gone.quantity), 0) FROM gone) WHERE id = 'item 1'",
        "VACUUM waiting",
    ],
    size: "SELECT pg_total_relation_size('waiting')",
    left: "SELECT quantity FROM by_hand WHERE id = 'item 1'",
};

/// Sentences about the sizes.
pub async fn measure(database: &Database, options: &Options) -> Result<Vec<String>> {
    database.admin(
        "SET ROLE owner;
         CREATE TABLE waiting (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, order_id text NOT NULL, item text NOT NULL, quantity bigint NOT NULL,
           queued_at timestamptz NOT NULL DEFAULT now());
         GRANT ALL ON waiting TO app",
    )?;
    let mut notes = Vec::new();
    let many = options.pick(5_000_000, 20_000);
    for (queue, orders, snapshot) in
        [(&OURS, many, false), (&OURS, many / 5, true), (&BY_HAND, many / 5, false), (&BY_HAND, many / 5, true)]
    {
        let (most, last) = fill_and_drain(database, queue, orders, snapshot).await?;
        let beside = if snapshot { ", beside an old snapshot" } else { "" };
        let megabytes = |bytes: i64| grouped(bytes as f64 / 1e6);
        let note = format!(
            "Queue of {} orders{beside}: {}: {} MB at most, {} MB when all are drained.",
            grouped(f64::from(orders)),
            queue.name,
            megabytes(most),
            megabytes(last)
        );
        progress::say(format!("inventory: {note}"));
        notes.push(note);
    }
    Ok(notes)
}

/// The most bytes that the queue had, and those that it has once all is drained.
async fn fill_and_drain(database: &Database, queue: &'static Queue, orders: u32, snapshot: bool) -> Result<(i64, i64)> {
    let watcher = database.try_connect("postgres").await?;
    let reader = database.try_connect("owner").await?;
    if snapshot {
        reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM hot").await?;
    }
    let over = Arc::new(AtomicBool::new(false));
    let mut others = tokio::task::JoinSet::new();
    for sql in queue.work {
        let (session, over) = (database.try_connect("postgres").await?, Arc::clone(&over));
        others.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                session.batch_execute(sql).await?;
            }
            anyhow::Ok(())
        });
    }
    let adder = database.try_connect("app").await?;
    let add = adder.prepare(queue.add).await?;
    let size = watcher.prepare(queue.size).await?;
    let left = watcher.prepare(queue.left).await?;
    let stock: i64 = watcher.query_one(&left, &[]).await?.get(0);
    let (mut most, mut queued) = (0_i64, 0_i64);
    while queued < i64::from(orders) {
        let id = format!("{:x}", crate::fresh_number());
        adder.execute(&add, &[&id]).await?;
        queued += i64::from(AT_ONCE);
        most = most.max(watcher.query_one(&size, &[]).await?.get(0));
        // No faster than it is drained: how many wait is not what is asked.
        wait(&watcher, &left, stock - queued + MOST_WAITING).await?;
    }
    wait(&watcher, &left, stock - queued).await?;
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = others.join_next().await {
        ended??;
    }
    let last = watcher.query_one(&size, &[]).await?.get(0);
    reader.batch_execute("ROLLBACK").await?;
    Ok((most, last))
}

/// Until no more than so many units are left.
async fn wait(watcher: &Client, left: &Statement, units: i64) -> Result<()> {
    while watcher.query_one(left, &[]).await?.get::<_, i64>(0) > units {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
