//! Inserts at a steady pace, a reader, and maintenance beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use pg_test::Database;
use tokio::task::JoinSet;

use crate::sides::Side;

/// Microseconds between two inserts: 400 a second.
const EVERY: u64 = 2_500;
const SESSIONS: usize = 16;
/// Between two turns of maintenance.
const PAUSE: Duration = Duration::from_millis(500);
const READ: Duration = Duration::from_secs(5);
const BETWEEN_READS: Duration = Duration::from_secs(1);

/// What happened in a run.
pub struct Seen {
    /// Seconds since the start when an insert was due, and milliseconds until it was answered.
    pub inserts: Vec<(f64, f64)>,
    /// When the reader was at work, in seconds.
    pub reads: Vec<(f64, f64)>,
    pub made: u32,
    pub dropped: u32,
}

/// Inserts into the table for so long, while a session reads it and the side maintains it.
pub async fn run(database: &Database, side: Side, table: &str, length: Duration) -> Result<Seen> {
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        let session = database.try_connect("app").await?;
        let sql =
            format!("INSERT INTO {table} (at, tenant_id, what) VALUES (clock_timestamp(), gen_random_uuid(), 'login')");
        let statement = session.prepare(&sql).await?;
        // Not counted: the first plan.
        session.execute(&statement, &[]).await?;
        sessions.push(Arc::new((session, statement)));
    }
    let before = partitions(database, table)?;
    let over = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let reader = tokio::spawn(read(database.clone(), table.to_string(), start, Arc::clone(&over)));
    let maintenance = tokio::spawn(maintain(database.clone(), side, table.to_string(), Arc::clone(&over)));

    let mut running = JoinSet::new();
    let mut due = start;
    for number in 0.. {
        if due >= start + length {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let session = Arc::clone(&sessions[number % SESSIONS]);
        running.spawn(async move {
            session.0.execute(&session.1, &[]).await?;
            anyhow::Ok(((due - start).as_secs_f64(), due.elapsed().as_secs_f64() * 1e3))
        });
        due += Duration::from_micros(EVERY);
    }
    over.store(true, Ordering::Relaxed);
    let mut inserts = Vec::new();
    while let Some(finished) = running.join_next().await {
        inserts.push(finished??);
    }
    inserts.sort_by(|one, other| one.0.total_cmp(&other.0));
    let reads = reader.await??;
    maintenance.await??;
    let after = partitions(database, table)?;
    let not_in = |these: &[String], those: &[String]| these.iter().filter(|name| !those.contains(name)).count();
    let (made, dropped) = (not_in(&after, &before), not_in(&before, &after));
    Ok(Seen { inserts, reads, made: u32::try_from(made)?, dropped: u32::try_from(dropped)? })
}

/// Transactions that look at the parent and stay open.
async fn read(database: Database, table: String, start: Instant, over: Arc<AtomicBool>) -> Result<Vec<(f64, f64)>> {
    let session = database.try_connect("app").await?;
    let mut reads = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let from = start.elapsed();
        session.batch_execute(&format!("BEGIN; SELECT count(*) FROM {table}")).await?;
        tokio::time::sleep(READ.saturating_sub(start.elapsed() - from)).await;
        session.batch_execute("COMMIT").await?;
        reads.push((from.as_secs_f64(), start.elapsed().as_secs_f64()));
        tokio::time::sleep(BETWEEN_READS).await;
    }
    Ok(reads)
}

async fn maintain(database: Database, side: Side, table: String, over: Arc<AtomicBool>) -> Result<()> {
    if side == Side::Nobody {
        return Ok(());
    }
    let session = database.try_connect("postgres").await?;
    for turn in 1..=crate::sides::PAST - 2 {
        tokio::time::sleep(PAUSE).await;
        if over.load(Ordering::Relaxed) {
            break;
        }
        side.turn(&session, &table, turn).await?;
    }
    Ok(())
}

fn partitions(database: &Database, table: &str) -> Result<Vec<String>> {
    let names =
        database.admin(&format!("SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = '{table}'::regclass"))?;
    Ok(names.lines().map(str::to_string).collect())
}
