//! A board in shared memory on which every backend notes naked statements; it may be lost, and is with the server's restart.
//!
//! A fixed number of places. A statement that is not on it yet takes a free one, or that of the one not seen for the longest.
//! One lightweight lock, taken only by a statement that is naked and by whoever looks.

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
    pub count: i64,
    /// Microseconds, as the server counts them.
    pub last_seen: i64,
}

struct Board {
    /// 0 for a free place; searched before anything else is looked at.
    keys: [u64; PLACES],
    places: [Naked; PLACES],
}

const FREE: Naked = Naked {
    database: 0,
    relation: 0,
    role: 0,
    query_id: 0,
    application: Text { len: 0, bytes: [0; NAME_BYTES] },
    query: Text { len: 0, bytes: [0; QUERY_BYTES] },
    count: 0,
    last_seen: 0,
};

impl Default for Board {
    fn default() -> Board {
        Board { keys: [0; PLACES], places: [FREE; PLACES] }
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

/// Counts a statement; `key` is a hash of what makes it the same as another.
pub fn count(key: u64, now: i64, make: impl FnOnce() -> Naked) {
    let key = key.max(1);
    let mut made = None;
    let mut make = Some(make);
    loop {
        let mut board = BOARD.exclusive();
        if let Some(at) = board.keys.iter().position(|other| *other == key) {
            board.places[at].count += 1;
            board.places[at].last_seen = now;
            return;
        }
        if let Some(naked) = made {
            let at = board.keys.iter().position(|other| *other == 0).unwrap_or_else(|| oldest(&board));
            board.keys[at] = key;
            board.places[at] = naked;
            return;
        }
        // What may fail is done without the lock.
        drop(board);
        made = make.take().map(|make| make());
    }
}

fn oldest(board: &Board) -> usize {
    board.places.iter().enumerate().min_by_key(|(_, place)| place.last_seen).map_or(0, |(at, _)| at)
}

/// What is on the board for a database.
pub fn read(database: u32) -> Vec<Naked> {
    let board = BOARD.share();
    let taken =
        board.keys.iter().zip(board.places.iter()).filter(|(key, place)| **key != 0 && place.database == database);
    taken.map(|(_, place)| *place).collect()
}

/// Takes a relation's statements off.
pub fn forget(database: u32, relation: u32) {
    let mut board = BOARD.exclusive();
    for at in 0..PLACES {
        if board.places[at].database == database && board.places[at].relation == relation {
            board.keys[at] = 0;
            board.places[at] = FREE;
        }
    }
}
