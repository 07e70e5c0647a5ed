//! The queue from end to end: many sessions queue, one drains, and some look when their verdict is there. First as fast as they can, which is faster than
//! anything is drained, so that all wait; then at a pace that leaves room.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pg_test::Database;
use pg_test::bench::demand::Demand;
use pg_test::bench::report::Figure;
use pg_test::bench::stats::percentile;
use pg_test::bench::throughput::slice;
use pg_test::bench::{Line, Options, Report, Rounds, Target, Ticker};

use crate::arms::{Buyer, Way};
use crate::fresh_number;

/// Sessions that wait for their verdicts.
const WATCHERS: usize = 5;

pub async fn measure(database: &Database, crowd: usize, options: &Options, report: &mut Report) -> Result<()> {
    let length = Duration::from_millis(options.pick(3_000, 200));
    let rounds = options.pick(4, 1);
    let mut rivals = Vec::new();
    for _ in 0..crowd {
        rivals.push(Arc::new(Buyer::new(database, Way::ForUpdate(Duration::ZERO), Demand::Hot, fresh_number()).await?));
    }
    slice(&rivals, length / 4).await?;
    let title = format!("{crowd} sessions queue, one drains");
    let mut ticker = Ticker::new(title.clone(), rounds);
    let mut measured = Rounds::<2>::default();
    let waits = Arc::new(Mutex::new(Vec::new()));
    while measured.count() < rounds {
        measured.add(0, end_to_end(database, crowd, Duration::ZERO, length, &waits).await?);
        measured.add(1, slice(&rivals, length).await?);
        measured.end_round();
        ticker.tick(measured.count());
    }
    report.lines.push(Line {
        what: title.clone(),
        ours: Figure(measured.median(0), "orders a second"),
        rival: Way::ForUpdate(Duration::ZERO).name(),
        rival_figure: Figure(measured.median(1), "orders a second"),
        results: measured.ratios(0, 1),
        unit: Line::TIMES,
        target: Some(Target::AtLeast(12.0)),
    });
    report.notes.push(format!("From queueing to the verdict, {title}, all as fast as they can: {}.", in_words(&waits)));
    let (paced, every) = (Arc::new(Mutex::new(Vec::new())), Duration::from_millis(200));
    let orders = end_to_end(database, crowd, every, length * 2, &paced).await?;
    report
        .notes
        .push(format!("From queueing to the verdict, {title}, at {orders:.0} orders a second: {}.", in_words(&paced)));
    Ok(())
}

fn in_words(waits: &Mutex<Vec<f64>>) -> String {
    let waits = waits.lock().map(|waits| waits.clone()).unwrap_or_default();
    format!("p50 {:.1} ms, p99 {:.1} ms", percentile(&waits, 50.0), percentile(&waits, 99.0))
}

/// Orders a second that were queued and decided; each session begins one no sooner than so long after the last.
async fn end_to_end(
    database: &Database,
    crowd: usize,
    every: Duration,
    length: Duration,
    waits: &Arc<Mutex<Vec<f64>>>,
) -> Result<f64> {
    // All are there before the first order: what waits for a session to begin is no wait for a verdict.
    let mut ready = Vec::new();
    for _ in 0..crowd {
        let session = database.try_connect("app").await?;
        let queue = session.prepare("SELECT bulkhead.enqueue_decrement('hot', $1, 'item 1', 1)").await?;
        let look = session.prepare("SELECT verdict FROM bulkhead.order_verdicts('hot', $1)").await?;
        ready.push((session, queue, look));
    }
    let drainer = database.try_connect("postgres").await?;
    let queueing = Arc::new(AtomicBool::new(true));
    let goes_on = Arc::clone(&queueing);
    let drain = tokio::spawn(async move {
        while goes_on.load(Ordering::Relaxed) {
            drainer.batch_execute("CALL bulkhead.drain_inventory('hot')").await?;
        }
        // What is left of it counts as well.
        drainer.batch_execute("CALL bulkhead.drain_inventory('hot')").await
    });
    let stop = Arc::new(AtomicBool::new(false));
    let mut sessions = tokio::task::JoinSet::new();
    let start = Instant::now();
    for (place, (session, queue, look)) in ready.into_iter().enumerate() {
        let turn = every * place as u32 / crowd as u32;
        let (stop, waits, number, watches) = (Arc::clone(&stop), Arc::clone(waits), fresh_number(), place < WATCHERS);
        sessions.spawn(async move {
            tokio::time::sleep(turn).await;
            let mut queued = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let (order, begun) = (format!("{number:016x}-queued-{queued:012x}"), Instant::now());
                session.query_one(&queue, &[&order]).await?;
                queued += 1;
                while watches && session.query(&look, &[&order]).await?.is_empty() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                if watches && let Ok(mut waits) = waits.lock() {
                    waits.push(begun.elapsed().as_secs_f64() * 1000.0);
                }
                if !every.is_zero() {
                    tokio::time::sleep_until((begun + every).into()).await;
                }
            }
            anyhow::Ok(queued)
        });
    }
    tokio::time::sleep(length).await;
    stop.store(true, Ordering::Relaxed);
    let mut queued = 0;
    while let Some(session) = sessions.join_next().await {
        queued += session??;
    }
    queueing.store(false, Ordering::Relaxed);
    drain.await.context("the drain")??;
    Ok(queued as f64 / start.elapsed().as_secs_f64())
}
