//! Counters in shared memory, a row for each database: what its sessions were refused, and what its worker did. They begin at 0 with the server.
//!
//! Only what is rare, or stands for many callers at once, is counted: a refusal, a bypass, a batch. bulkhead.metrics shows them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, PgLwLock, pg_shmem_init};

use super::{library, security};

/// Databases that are counted; of more, nothing is.
const DATABASES: usize = 256;
const COUNTERS: usize = 7;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// No tenant where one is needed.
    NoTenant,
    /// Another tenant than the transaction's.
    OtherTenant,
    /// A token that does not verify, or no token where one is needed.
    Token,
    Bypass,
    /// Transactions of the worker that decided orders of decrement_now().
    Batches,
    /// Orders that were told in these.
    Orders,
    /// Queued orders that a worker decided or set aside.
    Drained,
}

/// A cache line.
#[derive(Default)]
#[repr(align(64))]
struct Row {
    /// 0 for a free row.
    database: AtomicU32,
    counts: [AtomicU64; COUNTERS],
}

struct Rows([Row; DATABASES]);

impl Default for Rows {
    fn default() -> Rows {
        Rows(std::array::from_fn(|_| Row::default()))
    }
}

// SAFETY: plain atomics.
unsafe impl PGRXSharedMemory for Rows {}

// SAFETY: a static of this name is defined once, and used only where `is_there()`.
static ROWS: PgLwLock<Rows> = unsafe { PgLwLock::new(c"bulkhead_counters") };

fn is_there() -> bool {
    library::loaded() == library::Loaded::Shared
}

/// Asks for the memory; from `_PG_init`, in the postmaster only.
#[allow(unexpected_cfgs)] // the macro asks for server versions that this crate does not have
pub fn reserve() {
    if is_there() {
        pg_shmem_init!(ROWS);
    }
}

impl Rows {
    fn of(&self, database: u32) -> Option<&Row> {
        self.0.iter().find(|row| row.database.load(Ordering::Relaxed) == database)
    }

    /// The same, or one that nobody has.
    fn of_or_free(&self, database: u32) -> Option<&Row> {
        self.of(database).or_else(|| {
            self.0.iter().find(|row| {
                let taken = row.database.compare_exchange(0, database, Ordering::AcqRel, Ordering::Relaxed);
                taken.is_ok() || taken == Err(database)
            })
        })
    }
}

/// Adds to a counter of this process's database.
pub fn add(counter: Counter, count: usize) {
    let database = security::database();
    // A process without a database counts for nobody. The lock is only for `forget`.
    if is_there()
        && database != 0
        && let Some(row) = ROWS.share().of_or_free(database)
    {
        row.counts[counter as usize].fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// What was counted for this process's database since the server started; None where nothing is counted.
pub fn read(counter: Counter) -> Option<u64> {
    is_there().then(|| {
        ROWS.share().of(security::database()).map_or(0, |row| row.counts[counter as usize].load(Ordering::Relaxed))
    })
}

/// The database is no more.
pub fn forget(database: u32) {
    if is_there() {
        let rows = ROWS.exclusive();
        if let Some(row) = rows.of(database) {
            row.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
            row.database.store(0, Ordering::Release);
        }
    }
}
