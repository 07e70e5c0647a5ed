//! A caller's slot: waited for, and given back on whatever way the caller leaves, also by the end of its process.

use std::cell::Cell;
use std::ffi::c_int;
use std::time::{Duration, Instant};

use pgrx::prelude::*;

use super::super::cell::PerBackend;
use super::super::wal;
use super::manners;
use super::memory::{self, Slot};
use crate::inventory::group::slot::Leaving;

/// The slot that this backend has now, its database, and whether the request was made.
static MINE: PerBackend<Cell<Option<(Slot, u32, bool)>>> = PerBackend::new(Cell::new(None));
static REGISTERED: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));

/// A slot of this backend's. When it is dropped, by an error or a cancel, what was not taken yet is withdrawn, and what was is decided for nobody.
pub struct Waiter {
    slot: Slot,
    database: u32,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        give_up();
    }
}

impl Waiter {
    /// Takes a slot, and waits for one up to so many milliseconds.
    pub fn claim(database: u32, milliseconds: i64) -> Option<Waiter> {
        if !REGISTERED.replace(true) {
            // SAFETY: the callback is guarded and lives as long as the process.
            unsafe { pg_sys::before_shmem_exit(Some(at_exit), pg_sys::Datum::null()) };
        }
        let slot = memory::claim_within(database, milliseconds)?;
        MINE.set(Some((slot, database, false)));
        Some(Waiter { slot, database })
    }

    pub fn body(&mut self) -> &mut [u8] {
        self.slot.body()
    }

    /// Makes the request.
    pub fn publish(&self) {
        self.slot.sign();
        MINE.set(Some((self.slot, self.database, true)));
        self.slot.word().publish(self.database);
    }

    pub fn is_done(&self) -> bool {
        self.slot.word().is_done()
    }

    /// Looks for the answer for a moment, and gives way to whoever wants the processor. Where orders come one at a time, the answer is there sooner than
    /// this process would be asleep and awake again.
    pub fn watch(&self) {
        const LOOKS: u32 = 32;
        let until = Instant::now() + Duration::from_micros(300);
        while !self.is_done() && Instant::now() < until {
            (0..LOOKS).for_each(|_| std::hint::spin_loop());
            std::thread::yield_now();
        }
    }

    /// The same where orders come many at a time: nothing is to be gained by looking, and those that are woken together are not to be in each other's way.
    pub fn wait_in_turn(&self) {
        manners::wait_in_turn();
    }

    /// Sleeps until the answer is there, or so many milliseconds are over, at the longest `SLICE`. Raises what the client or a time-out has asked for.
    pub fn sleep(&self, milliseconds: i64) {
        /// What a signal says that comes between the look for it and the sleep is found that much later.
        const SLICE: i64 = 100;
        end_with_postmaster();
        pgrx::check_for_interrupts!();
        // SAFETY: where the server shows what this process waits for: a word of its own.
        let shown = unsafe { pg_sys::my_wait_event_info };
        // SAFETY: as above.
        unsafe { shown.write_volatile(pg_sys::PG_WAIT_EXTENSION) };
        self.slot.sleep(Duration::from_millis(milliseconds.clamp(0, SLICE) as u64));
        // SAFETY: as above.
        unsafe { shown.write_volatile(0) };
        end_with_postmaster();
        pgrx::check_for_interrupts!();
    }

    /// How far standbys are to have the log before the answer is told.
    pub fn flush_lsn(&self) -> wal::Lsn {
        self.slot.flush_lsn()
    }

    /// Takes the request back, unless the worker has taken it.
    pub fn withdraw(&self) -> bool {
        let is_withdrawn = self.slot.word().withdraw(self.database);
        if is_withdrawn {
            MINE.set(Some((self.slot, self.database, false)));
        }
        is_withdrawn
    }

    /// Waits no longer: what was asked is decided all the same. True when the answer came in the same moment.
    pub fn leave(self) -> Option<Waiter> {
        match self.slot.word().leave() {
            Leaving::Done => Some(self),
            Leaving::Left => {
                MINE.set(None);
                None
            }
        }
    }
}

/// Gives back whatever slot this backend has.
fn give_up() {
    let Some((slot, database, is_asked)) = MINE.take() else { return };
    let word = slot.word();
    if !is_asked || word.is_done() || word.withdraw(database) || word.leave() == Leaving::Done {
        slot.free();
    }
}

/// # Safety
/// Called by the server when the process ends.
#[pg_guard]
unsafe extern "C-unwind" fn at_exit(_code: i32, _argument: pg_sys::Datum) {
    memory::leave_crowd();
    give_up();
}

unsafe extern "C-unwind" {
    /// Set by the signal that the kernel sends when the postmaster is gone.
    static postmaster_possibly_dead: c_int;
    fn PostmasterIsAliveInternal() -> bool;
}

/// Ends this process where the postmaster is gone, as every wait of the server's does: as long as it is there, no other server can start.
fn end_with_postmaster() {
    // SAFETY: a flag that a signal handler sets; the callbacks at the end of a process give the slot back.
    unsafe {
        if (&raw const postmaster_possibly_dead).read_volatile() != 0 && !PostmasterIsAliveInternal() {
            pg_sys::proc_exit(1);
        }
    }
}

/// Waits until this process's latch is set, or so many milliseconds are over; -1: until it is set. Raises what the client or a time-out has asked for.
pub fn sleep(milliseconds: i64) {
    doze(milliseconds);
    pgrx::check_for_interrupts!();
}

/// The same, and raises nothing.
pub fn doze(milliseconds: i64) {
    let timeout = if milliseconds < 0 { 0 } else { pg_sys::WL_TIMEOUT };
    // SAFETY: the latch is this process's.
    unsafe {
        let events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH | timeout;
        pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, milliseconds as _, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
}
