//! Transactions a second of some clients.
//!
//! Each client is a session of its own that waits for every answer before it sends the next statement, as an application
//! does. The sessions stay connected between slices, so a slice may be short and begins warm; that is what pgbench cannot do,
//! which takes about as much of the processor for a transaction as this client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;
use tokio_postgres::Statement;

use crate::Client;

/// One session and its endless supply of transactions.
pub trait Work: Send + Sync + 'static {
    /// One transaction, from the first statement to the last answer.
    fn transaction(&self) -> impl Future<Output = Result<()>> + Send;
}

/// Transactions that set a tenant and read one row by its key.
pub struct Worker {
    pub session: Client,
    /// The statement to run in each transaction, with one bigint parameter.
    pub statement: Statement,
    /// What sets the tenant, for each of the tenants in turn.
    pub set_tenant: Arc<[String]>,
    /// The next transaction's number.
    pub next: AtomicUsize,
    /// So many keys are there, from 0.
    pub keys: usize,
}

impl Work for Worker {
    /// `BEGIN; SET LOCAL …; SELECT … by key; COMMIT`. The key is one of the tenant's: keys are dealt to tenants in turn.
    async fn transaction(&self) -> Result<()> {
        // A prime step visits keys far from each other, and in time all of them.
        let number = self.next.fetch_add(7919, Ordering::Relaxed);
        let key = number % self.keys;
        self.session.batch_execute("BEGIN").await?;
        self.session.batch_execute(&self.set_tenant[key % self.set_tenant.len()]).await?;
        let rows = self.session.query(&self.statement, &[&i64::try_from(key)?]).await?;
        anyhow::ensure!(rows.len() == 1, "{} rows instead of one for key {key}", rows.len());
        self.session.batch_execute("COMMIT").await?;
        Ok(())
    }
}

async fn run_until(worker: &impl Work, deadline: Instant) -> Result<u32> {
    let mut count = 0;
    while Instant::now() < deadline {
        worker.transaction().await?;
        count += 1;
    }
    Ok(count)
}

/// The same, with what each transaction took, in milliseconds.
pub async fn timed_slice<W: Work>(workers: &[Arc<W>], length: Duration) -> Result<(f64, Vec<f64>)> {
    let start = Instant::now();
    let mut running = JoinSet::new();
    for worker in workers {
        let worker = Arc::clone(worker);
        running.spawn(async move {
            let mut times = Vec::new();
            while start.elapsed() < length {
                let before = Instant::now();
                worker.transaction().await?;
                times.push(before.elapsed().as_secs_f64() * 1_000.0);
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(finished) = running.join_next().await {
        times.extend(finished??);
    }
    Ok((times.len() as f64 / start.elapsed().as_secs_f64(), times))
}

/// Lets all workers run for this long and returns their transactions a second.
pub async fn slice<W: Work>(workers: &[Arc<W>], length: Duration) -> Result<f64> {
    let start = Instant::now();
    let mut running = JoinSet::new();
    for worker in workers {
        let worker = Arc::clone(worker);
        running.spawn(async move { run_until(worker.as_ref(), start + length).await });
    }
    let mut count = 0;
    while let Some(finished) = running.join_next().await {
        count += finished??;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}
