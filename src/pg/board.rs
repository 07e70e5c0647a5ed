//! A board in shared memory on which every backend notes naked statements; it may be lost, and is with the server's restart.
//!
//! A fixed number of places. A statement that is not on it yet takes a free one, or that of the one not seen for the longest.
//! One lightweight lock, taken by whoever looks for a place, exclusive when places change. A statement that this backend has counted before is
//! counted without it: where its place is given away in the same moment, the newcomer may be counted once too often.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, PgLwLock, pg_shmem_init};

use super::library;

pub const PLACES: usize = 1024;
pub const QUERY_BYTES: usize = 512;
pub const NAME_BYTES: usize = 64;

/// A text cut to what its place holds.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    len: u16,
    bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    pub fn new(text: &str) -> Text<N> {
        let end = (0..=text.len().min(N)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let mut bytes = [0; N];
        bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
        Text { len: end as u16, bytes }
    }

    pub fn get(&self) -> String {
        String::from_utf8_lossy(&self.bytes[..self.len as usize]).into_owned()
    }
}

#[derive(Clone, Copy)]
pub struct Naked {
    pub database: u32,
    pub relation: u32,
    pub role: u32,
    pub query_id: i64,
    pub application: Text<NAME_BYTES>,
    pub query: Text<QUERY_BYTES>,
}

/// A statement, and how often it was seen; `last_seen` in microseconds, as the server counts them.
pub struct Seen {
    pub naked: Naked,
    pub count: i64,
    pub last_seen: i64,
}

/// What is read and written each time: never across two cache lines.
#[derive(Default)]
#[repr(align(32))]
struct Tally {
    /// 0 for a free place.
    key: AtomicU64,
    count: AtomicI64,
    last_seen: AtomicI64,
}

impl Tally {
    fn has(&self, key: u64) -> bool {
        self.key.load(Ordering::Relaxed) == key
    }

    fn give_to(&self, key: u64) {
        self.key.store(0, Ordering::Relaxed);
        self.count.store(0, Ordering::Relaxed);
        self.last_seen.store(0, Ordering::Relaxed);
        self.key.store(key, Ordering::Relaxed);
    }

    fn see(&self, now: i64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.last_seen.fetch_max(now, Ordering::Relaxed);
    }
}

struct Board {
    tallies: [Tally; PLACES],
    places: [Naked; PLACES],
    /// Statements that gave their place to another, since the server started.
    evicted: AtomicI64,
}

const FREE: Naked = Naked {
    database: 0,
    relation: 0,
    role: 0,
    query_id: 0,
    application: Text { len: 0, bytes: [0; NAME_BYTES] },
    query: Text { len: 0, bytes: [0; QUERY_BYTES] },
};

impl Default for Board {
    fn default() -> Board {
        Board { tallies: std::array::from_fn(|_| Tally::default()), places: [FREE; PLACES], evicted: AtomicI64::new(0) }
    }
}

// SAFETY: plain values without pointers.
unsafe impl PGRXSharedMemory for Board {}

// SAFETY: a static of this name is defined once, and used only where `library::loaded()` says that the postmaster made it.
static BOARD: PgLwLock<Board> = unsafe { PgLwLock::new(c"bulkhead_naked_statements") };

/// Asks for the memory; from `_PG_init`, in the postmaster only.
#[allow(unexpected_cfgs)] // the macro asks for server versions that this crate does not have
pub fn reserve() {
    if is_there() {
        pg_shmem_init!(BOARD);
    }
}

pub fn is_there() -> bool {
    library::loaded() == library::Loaded::Shared
}

impl Board {
    /// Begins where the key would like to be.
    fn find(&self, key: u64, wanted: u64) -> Option<usize> {
        let first = (wanted % PLACES as u64) as usize;
        (first..PLACES).chain(0..first).find(|at| self.tallies[*at].has(key))
    }

    /// The place for one more: a free one, or that of the one not seen for the longest.
    fn place(&self, key: u64) -> usize {
        self.find(0, key).unwrap_or_else(|| {
            self.evicted.fetch_add(1, Ordering::Relaxed);
            let seen = self.tallies.iter().enumerate();
            seen.min_by_key(|(_, tally)| tally.last_seen.load(Ordering::Relaxed)).map_or(0, |(at, _)| at)
        })
    }
}

/// Where a statement was counted; it may have been given to another since.
#[derive(Clone, Copy)]
pub struct EntryRef(*const Tally);

/// Counts a statement that was in this place when it was counted last; false if it is not there any more.
pub fn count_again(key: u64, place: EntryRef, now: i64) -> bool {
    // SAFETY: shared memory is there as long as the process, and of a place only atomics are touched without the lock.
    let tally = unsafe { &*place.0 };
    let is_there = tally.has(key);
    if is_there {
        tally.see(now);
    }
    is_there
}

/// Counts a statement and returns its place; `key` (not 0) is a hash of what makes it the same as another.
pub fn count(key: u64, now: i64, make: impl FnOnce() -> Naked) -> EntryRef {
    let see = |board: &Board, at: usize| {
        board.tallies[at].see(now);
        EntryRef(&raw const board.tallies[at])
    };
    let seen = {
        let board = BOARD.share();
        board.find(key, key).map(|at| see(&board, at))
    };
    if let Some(place) = seen {
        return place;
    }
    // What may fail is done without the lock.
    let naked = make();
    let mut board = BOARD.exclusive();
    let at = board.find(key, key).unwrap_or_else(|| {
        let at = board.place(key);
        board.tallies[at].give_to(key);
        board.places[at] = naked;
        at
    });
    see(&board, at)
}

/// What is on the board for a database.
pub fn read(database: u32) -> Vec<Seen> {
    let board = BOARD.share();
    let taken = (0..PLACES).filter(|at| !board.tallies[*at].has(0) && board.places[*at].database == database);
    let seen = taken.map(|at| Seen {
        naked: board.places[at],
        count: board.tallies[at].count.load(Ordering::Relaxed),
        last_seen: board.tallies[at].last_seen.load(Ordering::Relaxed),
    });
    seen.collect()
}

/// Places taken by all databases, and how many statements gave theirs to another since the server started.
pub fn fill() -> (usize, i64) {
    let board = BOARD.share();
    (board.tallies.iter().filter(|tally| !tally.has(0)).count(), board.evicted.load(Ordering::Relaxed))
}

/// Takes a relation's statements off.
pub fn forget(database: u32, relation: u32) {
    let mut board = BOARD.exclusive();
    for at in 0..PLACES {
        if board.places[at].database == database && board.places[at].relation == relation {
            board.tallies[at].give_to(0);
            board.places[at] = FREE;
        }
    }
}
