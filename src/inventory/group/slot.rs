//! The word of a slot in shared memory: whose turn it is with the slot's request and answer. Pure Rust.
//!
//! A caller hands its request over to the worker of its database through a slot, and gets the answer back through the same one:
//!
//! | state | who may touch request and answer | what comes next |
//! |---|---|---|
//! | free | nobody | `claim`: filling |
//! | filling | the caller | `publish`: waiting; `free` |
//! | waiting | nobody | `take`: taken; `withdraw`: the caller's again; `leave`: nobody waits for it any more |
//! | taken | the worker | `finish`: done, or free where nobody waits; `give_back`: waiting; `leave` |
//! | done | the caller | `free` |
//!
//! A caller that is cancelled, or waits no longer, leaves: what it asked is decided all the same, and the worker frees the slot. A worker that ends in the middle
//! leaves its slots taken; the next one gives them back and decides them again, which is harmless because an order's verdict is stored
//! with it. Each step that hands the slot on releases what was written before it, and each that takes it acquires that.

use super::atomic::{AtomicU64, Ordering};

const FREE: u64 = 0;
const FILLING: u64 = 1;
const WAITING: u64 = 2;
const TAKEN: u64 = 3;
const DONE: u64 = 4;
const STAGE: u64 = 7;
/// Nobody waits for the answer.
const LEFT: u64 = 8;

/// The stage, and above it the database whose worker is asked: a worker that looks for work reads nothing but words.
#[repr(transparent)]
pub struct Word(AtomicU64);

/// What a caller finds that waits no longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leaving {
    /// The answer is there after all, and the slot still the caller's.
    Done,
    /// The worker frees the slot.
    Left,
}

impl Word {
    pub fn new() -> Word {
        Word(AtomicU64::new(FREE))
    }

    fn of(database: u32, stage: u64) -> u64 {
        u64::from(database) << 32 | stage
    }

    /// From one to the other, if it is still the one.
    fn step(&self, from: u64, to: u64) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Takes a free slot for a request. False when it is another's.
    pub fn claim(&self, database: u32) -> bool {
        self.0.load(Ordering::Relaxed) == FREE && self.step(FREE, Word::of(database, FILLING))
    }

    /// The request is written.
    pub fn publish(&self, database: u32) {
        self.0.store(Word::of(database, WAITING), Ordering::Release);
    }

    /// The half of the word that has the stage, as it is now, for who sleeps until it changes; None where the answer is there.
    pub fn undone(&self) -> Option<u32> {
        let word = self.0.load(Ordering::Acquire);
        (word & STAGE != DONE).then_some(word as u32)
    }

    pub fn is_done(&self) -> bool {
        self.0.load(Ordering::Acquire) & STAGE == DONE
    }

    /// The caller's slot again, and the request never made, unless a worker has taken it.
    pub fn withdraw(&self, database: u32) -> bool {
        self.step(Word::of(database, WAITING), Word::of(database, FILLING))
    }

    /// The caller waits no longer.
    pub fn leave(&self) -> Leaving {
        let left = |word: u64| (word & STAGE != DONE).then_some(word | LEFT);
        match self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, left) {
            Ok(_) => Leaving::Left,
            Err(_) => Leaving::Done,
        }
    }

    /// The caller has read the answer, or written no request.
    pub fn free(&self) {
        self.0.store(FREE, Ordering::Release);
    }

    /// Takes a request of the database for the worker, whether or not somebody still waits for it.
    pub fn take(&self, database: u32) -> bool {
        let (waiting, taken) = (Word::of(database, WAITING), Word::of(database, TAKEN));
        match self.0.load(Ordering::Relaxed) {
            word if word == waiting => self.step(waiting, taken) || self.step(waiting | LEFT, taken | LEFT),
            word if word == waiting | LEFT => self.step(waiting | LEFT, taken | LEFT),
            _ => false,
        }
    }

    /// The answer is written. Whether somebody waits for it.
    pub fn finish(&self, database: u32) -> bool {
        let taken = Word::of(database, TAKEN);
        if self.step(taken, Word::of(database, DONE)) {
            return true;
        }
        // As `give_back`: a word that is not this worker's any more is left alone.
        self.step(taken | LEFT, FREE);
        false
    }

    pub fn is_free(&self) -> bool {
        self.0.load(Ordering::Relaxed) == FREE
    }

    /// A request of the database waits to be taken.
    pub fn waits(&self, database: u32) -> bool {
        self.0.load(Ordering::Relaxed) & !LEFT == Word::of(database, WAITING)
    }

    /// A worker of the database that has ended had taken it.
    pub fn is_taken(&self, database: u32) -> bool {
        self.0.load(Ordering::Relaxed) & !LEFT == Word::of(database, TAKEN)
    }

    /// Nobody waits for the answer any more.
    pub fn is_left(&self) -> bool {
        self.0.load(Ordering::Relaxed) & LEFT != 0
    }

    /// Frees what is left of a database that is no more. Whether there was something.
    pub fn abandon(&self, database: u32) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        word != FREE && word >> 32 == u64::from(database) && self.step(word, FREE)
    }

    /// A taken request waits again. Only the database's one worker does this.
    pub fn give_back(&self, database: u32) {
        let (waiting, taken) = (Word::of(database, WAITING), Word::of(database, TAKEN));
        if !self.step(taken, waiting) {
            self.step(taken | LEFT, waiting | LEFT);
        }
    }
}
