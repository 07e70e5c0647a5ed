//! The shared memory of group commits: slots, and a desk for each database. What it means is in src/inventory/group/mod.rs.
//!
//! Reserved where the library is in `shared_preload_libraries`, made anew when the postmaster restarts after a crash. Nothing in it outlives the server.

use std::cell::{Cell, UnsafeCell};
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::time::Duration;

use pgrx::prelude::*;

use super::super::cell::PerBackend;
use super::super::wal::Lsn;
use super::super::{library, settings};
use super::desk::DESKS;
pub use super::desk::{
    Desk, all_desks, assign, be_launcher, database_name, desk, is_mine, is_to_look_again, my_desk, my_desk_if_any,
    wake_launcher,
};
use super::{clock, futex};
use crate::inventory::group::body;
use crate::inventory::group::slot::Word;

pub(super) const NAME: &CStr = c"bulkhead group commit";

/// What may be read of a slot whoever has it.
struct Tag {
    /// Of the request: its place in the order of arrival, and no other request's.
    ticket: AtomicU64,
    /// Of the answer: how far standbys are to have the log before it may be told.
    flush_lsn: AtomicU64,
}

pub(super) struct Header {
    slots: usize,
    tickets: AtomicU64,
    pub(super) launcher: AtomicUsize,
    /// A database has another name, or another desk.
    pub(super) has_changed: AtomicBool,
    /// Callers that wait for a free slot.
    crowd: AtomicU32,
    freed: UnsafeCell<pg_sys::ConditionVariable>,
    pub(super) desks: [Desk; DESKS],
}

/// Where the parts begin.
#[derive(Clone, Copy)]
struct Memory {
    header: *const Header,
    words: *const Word,
    tags: *const Tag,
    bodies: *mut [u8; body::SIZE],
}

static MEMORY: PerBackend<Cell<Option<Memory>>> = PerBackend::new(Cell::new(None));
#[cfg(not(feature = "pg14"))]
static NEXT_REQUEST: PerBackend<Cell<pg_sys::shmem_request_hook_type>> = PerBackend::new(Cell::new(None));
static NEXT_STARTUP: PerBackend<Cell<pg_sys::shmem_startup_hook_type>> = PerBackend::new(Cell::new(None));

/// Asks for the memory; from `_PG_init`.
pub fn reserve() {
    if library::loaded() != library::Loaded::Shared {
        return;
    }
    // SAFETY: in the postmaster, before it makes its memory; each hook keeps its predecessor.
    unsafe {
        #[cfg(feature = "pg14")]
        request_ours();
        #[cfg(not(feature = "pg14"))]
        NEXT_REQUEST.set((&raw mut pg_sys::shmem_request_hook).replace(Some(request)));
        NEXT_STARTUP.set((&raw mut pg_sys::shmem_startup_hook).replace(Some(start)));
    }
}

/// As many as callers that there can be, unless the setting says less.
fn slots() -> usize {
    let asked = settings::decrement_slots();
    // SAFETY: reads variables of the server's, which have their values for good by now.
    let all = unsafe { pg_sys::MaxConnections + pg_sys::max_worker_processes };
    (if asked > 0 { asked } else { all }) as usize
}

const fn aligned(size: usize) -> usize {
    size.next_multiple_of(128)
}

/// Offsets of words, tags and bodies, and the size of all.
fn layout(slots: usize) -> [usize; 4] {
    let words = aligned(size_of::<Header>());
    let tags = words + aligned(slots * size_of::<Word>());
    let bodies = tags + aligned(slots * size_of::<Tag>());
    [words, tags, bodies, bodies + slots * body::SIZE]
}

fn request_ours() {
    let [.., size] = layout(slots());
    // SAFETY: called when the server asks for such requests.
    unsafe {
        pg_sys::RequestAddinShmemSpace(size);
        pg_sys::RequestNamedLWLockTranche(NAME.as_ptr(), 1);
    }
}

/// # Safety
/// Called by the server.
#[cfg(not(feature = "pg14"))]
#[pg_guard]
unsafe extern "C-unwind" fn request() {
    if let Some(next) = NEXT_REQUEST.get() {
        // SAFETY: passes on what it was given.
        unsafe { next() };
    }
    request_ours();
}

/// # Safety
/// Called by the server, in the postmaster, also after a crash.
#[pg_guard]
unsafe extern "C-unwind" fn start() {
    // SAFETY: the memory is as large as `layout` says, aligned to cache lines, and nobody else's until it is made; zeros are valid for everything in it that is not written here.
    unsafe {
        if let Some(next) = NEXT_STARTUP.get() {
            next();
        }
        let slots = slots();
        let [words, tags, bodies, size] = layout(slots);
        let mut found = false;
        let base = pg_sys::ShmemInitStruct(NAME.as_ptr(), size, &mut found).cast::<u8>();
        if !found {
            std::ptr::write_bytes(base, 0, bodies);
            let header = base.cast::<Header>();
            (*header).slots = slots;
            pg_sys::ConditionVariableInit((*header).freed.get());
            for number in 0..slots {
                base.add(words).cast::<Word>().add(number).write(Word::new());
            }
        }
        MEMORY.set(Some(Memory {
            header: base.cast(),
            words: base.add(words).cast(),
            tags: base.add(tags).cast(),
            bodies: base.add(bodies).cast(),
        }));
    }
}

/// Whether the library was preloaded by the postmaster.
pub fn is_there() -> bool {
    MEMORY.get().is_some()
}

/// Whether a launcher is there.
pub fn has_launcher() -> bool {
    header().is_some_and(|header| header.launcher.load(Ordering::SeqCst) != 0)
}

pub(super) fn header() -> Option<&'static Header> {
    // SAFETY: shared memory is there as long as the process; what others write in it is atomic, or under the lock.
    MEMORY.get().map(|memory| unsafe { &*memory.header })
}

unsafe extern "C-unwind" {
    /// Without the guard that pgrx puts around its binding: it raises nothing, and is called for every order.
    #[link_name = "SetLatch"]
    fn set_latch(latch: *mut pg_sys::Latch);
}

/// Wakes the process that the latch belonged to. When that is gone, another is woken in vain.
pub fn wake(latch: usize) {
    if latch != 0 {
        // SAFETY: the latch of a process lies in shared memory, which is at the same address in all, and stays a latch when the process is gone.
        unsafe { set_latch(latch as *mut pg_sys::Latch) };
    }
}

pub(super) fn my_latch() -> usize {
    // SAFETY: reads a variable of the server's.
    unsafe { pg_sys::MyLatch as usize }
}

/// A slot, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(pub usize);

/// All slots.
pub fn all_slots() -> impl Iterator<Item = Slot> {
    (0..header().map_or(0, |header| header.slots)).map(Slot)
}

impl Slot {
    fn memory(self) -> Memory {
        // A slot comes from `all_slots`, which has none where there is no memory.
        MEMORY.get().unwrap_or_else(|| unreachable!("a slot without memory"))
    }

    pub fn word(self) -> &'static Word {
        // SAFETY: as `header`; the number is that of a slot.
        unsafe { &*self.memory().words.add(self.0) }
    }

    fn tag(self) -> &'static Tag {
        // SAFETY: as above.
        unsafe { &*self.memory().tags.add(self.0) }
    }

    /// Request or answer. Only for whom the slot's word says that it is theirs, and one of these at a time.
    pub fn body(self) -> &'static mut [u8] {
        // SAFETY: as above; whose it is at the moment is what the word says.
        unsafe { (*self.memory().bodies.add(self.0)).as_mut_slice() }
    }

    /// The same, to be read only.
    pub fn request(self) -> &'static [u8] {
        self.body()
    }

    pub fn ticket(self) -> u64 {
        self.tag().ticket.load(Ordering::Relaxed)
    }

    /// Gives the request its ticket.
    pub fn sign(self) -> u64 {
        let ticket = header().map_or(0, |header| header.tickets.fetch_add(1, Ordering::Relaxed));
        self.tag().ticket.store(ticket, Ordering::Relaxed);
        ticket
    }

    /// Says how far standbys are to have the log before the answer may be told. Only for whose the slot is.
    pub fn set_flush_lsn(self, flush_lsn: Lsn) {
        self.tag().flush_lsn.store(flush_lsn, Ordering::Relaxed);
    }

    pub fn flush_lsn(self) -> Lsn {
        self.tag().flush_lsn.load(Ordering::Relaxed)
    }

    /// The half of its word that has the stage, for the kernel.
    fn stage(self) -> *const u32 {
        self.memory().words.wrapping_add(self.0).cast::<u32>().wrapping_add(usize::from(cfg!(target_endian = "big")))
    }

    /// Sleeps until the answer is there, a signal comes, or the time is over; or for no reason shorter.
    pub fn sleep(self, longest: Duration) {
        if let Some(seen) = self.word().undone() {
            futex::wait(self.stage(), seen, longest);
        }
    }

    /// Wakes the caller who sleeps here. When that has gone, another looks in vain.
    pub fn wake(self) {
        futex::wake(self.stage());
    }

    /// Gives the slot back, and says so to somebody who waits for one.
    pub fn free(self) {
        self.word().free();
        freed();
    }
}

/// A slot has become free.
pub fn freed() {
    fence(Ordering::SeqCst);
    if let Some(header) = header()
        && header.crowd.load(Ordering::Relaxed) > 0
    {
        // SAFETY: made by `start`.
        unsafe { pg_sys::ConditionVariableSignal(header.freed.get()) };
    }
}

/// Frees the slots of a database that is no more: nobody is left who could.
pub fn abandon(database: u32) {
    for slot in all_slots() {
        if slot.word().abandon(database) {
            freed();
        }
    }
}

/// Takes a free slot for a request in the database: the search begins where no other process's is likely to.
pub fn claim(database: u32) -> Option<Slot> {
    let slots = header()?.slots;
    // SAFETY: reads a variable of the server's.
    let first = unsafe { pg_sys::MyProcPid } as usize % slots;
    (first..slots).chain(0..first).map(Slot).find(|slot| slot.word().claim(database))
}

/// Whether half of the slots hold requests that nobody waits for any more.
pub fn is_littered() -> bool {
    let slots = all_slots().count();
    all_slots().filter(|slot| slot.word().is_left()).count() * 2 >= slots.max(2)
}

/// Whether this process is counted as one that waits for a slot.
static IN_CROWD: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));

/// Counts those who wait for a slot. An error drops this; the end of a process drops nothing.
struct InCrowd;

impl InCrowd {
    fn join(header: &Header) -> InCrowd {
        header.crowd.fetch_add(1, Ordering::SeqCst);
        IN_CROWD.set(true);
        InCrowd
    }
}

impl Drop for InCrowd {
    fn drop(&mut self) {
        leave_crowd();
    }
}

/// This process waits for no slot any more.
pub fn leave_crowd() {
    if let Some(header) = header()
        && IN_CROWD.replace(false)
    {
        header.crowd.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The same, and waits up to so many milliseconds. None when all were taken all the time.
pub fn claim_within(database: u32, milliseconds: i64) -> Option<Slot> {
    /// A signal may be lost on somebody who gave up at the same time.
    const SLICE: i64 = 100;
    if let Some(slot) = claim(database) {
        return Some(slot);
    }
    let header = header()?;
    let deadline = clock::now() + milliseconds * 1000;
    let crowd = InCrowd::join(header);
    // SAFETY: made by `start`; an error ends the wait.
    unsafe { pg_sys::ConditionVariablePrepareToSleep(header.freed.get()) };
    let slot = loop {
        let slot = claim(database);
        let left = (deadline - clock::now()) / 1000;
        if slot.is_some() || left <= 0 {
            break slot;
        }
        // SAFETY: as above.
        unsafe {
            pg_sys::ConditionVariableTimedSleep(header.freed.get(), left.min(SLICE) as _, pg_sys::PG_WAIT_EXTENSION)
        };
    };
    // SAFETY: as above.
    unsafe { pg_sys::ConditionVariableCancelSleep() };
    drop(crowd);
    slot
}
