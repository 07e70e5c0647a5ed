//! The shared memory of group commits: slots, and a desk for each database. What it means is in src/inventory/group/mod.rs.
//!
//! Reserved where the library is in `shared_preload_libraries`, made anew when the postmaster restarts after a crash. Nothing in it outlives the server.

use std::cell::{Cell, UnsafeCell};
use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

use pgrx::prelude::*;

use super::super::cell::PerBackend;
use super::super::{library, security, settings};
use crate::inventory::group::body;
use crate::inventory::group::slot::Word;

const NAME: &CStr = c"bulkhead group commit";

/// Databases that have a worker, or are waited for, at once.
const DESKS: usize = 128;

/// Inventories whose queue has something new, remembered one by one; when there are more, all are looked at.
const RUNG: usize = 16;

const NAME_BYTES: usize = 64;

/// Nobody works at a desk, somebody was sent for, somebody does.
pub const NOBODY: u32 = 0;
pub const SENT_FOR: u32 = 1;
pub const THERE: u32 = 2;

/// What a database's worker is told. Plain words: each says one thing by itself, but for what the comments in src/inventory/group/mod.rs say of their order.
pub struct Desk {
    /// The database; 0 for a desk that is nobody's, or that of a database known by its name only.
    pub database: AtomicU32,
    /// Under the lock.
    name: UnsafeCell<[u8; NAME_BYTES]>,
    pub stage: AtomicU32,
    /// Of the worker, once it looks for work; 0 before and after.
    latch: AtomicUsize,
    /// Somebody waits for a worker.
    pub wanted: AtomicBool,
    /// The worker is to end.
    pub leave: AtomicBool,
    /// The worker came as far as looking for work.
    pub has_begun: AtomicBool,
    /// The worker has ended because there is nothing to work on.
    pub end_in_vain: AtomicBool,
    /// So many commands keep workers away from the database.
    pub held: AtomicU32,
    rung: [AtomicU32; RUNG],
    rung_more: AtomicBool,
}

/// What may be read of a slot whoever has it.
struct Tag {
    /// Of the request: its place in the order of arrival, and no other request's.
    ticket: AtomicU64,
    /// Of the caller.
    latch: AtomicUsize,
}

struct Header {
    slots: usize,
    tickets: AtomicU64,
    launcher: AtomicUsize,
    /// Callers that wait for a free slot.
    crowd: AtomicU32,
    freed: UnsafeCell<pg_sys::ConditionVariable>,
    desks: [Desk; DESKS],
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

fn header() -> Option<&'static Header> {
    // SAFETY: shared memory is there as long as the process; what others write in it is atomic, or under the lock.
    MEMORY.get().map(|memory| unsafe { &*memory.header })
}

unsafe extern "C-unwind" {
    /// Without the guard that pgrx puts around its binding: it raises nothing, and is called for every caller of a batch.
    #[link_name = "SetLatch"]
    fn set_latch(latch: *mut pg_sys::Latch);
}

/// Wakes the process that the latch belonged to. When that is gone, another is woken in vain.
fn wake(latch: usize) {
    if latch != 0 {
        // SAFETY: the latch of a process lies in shared memory, which is at the same address in all, and stays a latch when the process is gone.
        unsafe { set_latch(latch as *mut pg_sys::Latch) };
    }
}

fn my_latch() -> usize {
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

    /// Gives the request its ticket, and says who waits for the answer.
    pub fn sign(self) -> u64 {
        let ticket = header().map_or(0, |header| header.tickets.fetch_add(1, Ordering::Relaxed));
        self.tag().ticket.store(ticket, Ordering::Relaxed);
        self.tag().latch.store(my_latch(), Ordering::Relaxed);
        ticket
    }

    pub fn latch(self) -> usize {
        self.tag().latch.load(Ordering::Relaxed)
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

/// Tells the caller that its answer is there.
pub fn wake_caller(latch: usize) {
    wake(latch);
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

/// Counts those who wait for a slot.
struct InCrowd(&'static Header);

impl Drop for InCrowd {
    fn drop(&mut self) {
        self.0.crowd.fetch_sub(1, Ordering::SeqCst);
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
    let deadline = super::super::transaction::now() + milliseconds * 1000;
    header.crowd.fetch_add(1, Ordering::SeqCst);
    let crowd = InCrowd(header);
    // SAFETY: made by `start`; an error ends the wait.
    unsafe { pg_sys::ConditionVariablePrepareToSleep(header.freed.get()) };
    let slot = loop {
        let slot = claim(database);
        let left = (deadline - super::super::transaction::now()) / 1000;
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

/// The lock of who has which desk.
struct Locked(*mut pg_sys::LWLock);

impl Locked {
    fn new() -> Locked {
        // SAFETY: a tranche of one lock was requested under this name. An error releases it.
        unsafe {
            let lock = &raw mut (*pg_sys::GetNamedLWLockTranche(NAME.as_ptr())).lock;
            pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
            Locked(lock)
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: taken by `new`.
            unsafe { pg_sys::LWLockRelease(self.0) };
        }
    }
}

fn desks() -> &'static [Desk] {
    header().map_or(&[], |header| &header.desks)
}

/// Desks, by their numbers.
pub fn desk(number: usize) -> Option<&'static Desk> {
    desks().get(number)
}

pub fn all_desks() -> impl Iterator<Item = (usize, &'static Desk)> {
    desks().iter().enumerate()
}

/// The number of the desk of this process's database, which gets one if it has none. None when all are taken.
pub fn my_desk() -> Option<usize> {
    static LAST: PerBackend<Cell<usize>> = PerBackend::new(Cell::new(0));
    let database = security::database();
    let is_mine = |desk: &Desk| desk.database.load(Ordering::SeqCst) == database;
    let number = match desk(LAST.get()).filter(|desk| is_mine(desk)) {
        Some(_) => LAST.get(),
        None => assign(database, &database_name(database))?,
    };
    LAST.set(number);
    Some(number)
}

/// The number of the same desk, if there is one.
pub fn my_desk_if_any() -> Option<usize> {
    let database = security::database();
    all_desks().find(|(_, desk)| desk.database.load(Ordering::SeqCst) == database).map(|(number, _)| number)
}

/// The desk of a database, which gets one if it has none. `database`: 0 when only the name is known. None when all are taken.
pub fn assign(database: u32, name: &str) -> Option<usize> {
    let _locked = Locked::new();
    let is_its = |desk: &Desk| {
        // Names are compared under the lock, and a desk without one is nobody's.
        database != 0 && desk.database.load(Ordering::Relaxed) == database || desk.is_named(name)
    };
    let known = all_desks().find(|(_, desk)| is_its(desk));
    let is_idle = |desk: &Desk| {
        desk.stage.load(Ordering::SeqCst) == NOBODY
            && desk.held.load(Ordering::SeqCst) == 0
            && !desk.wanted.load(Ordering::SeqCst)
    };
    let (number, desk) = known
        .or_else(|| all_desks().find(|(_, desk)| desk.is_named("")))
        .or_else(|| all_desks().find(|(_, desk)| is_idle(desk)))?;
    if known.is_none() {
        desk.empty_bells();
        desk.leave.store(false, Ordering::SeqCst);
    }
    // Renamed since, or known by its name only.
    if database != 0 || known.is_none() {
        desk.database.store(database, Ordering::SeqCst);
    }
    desk.set_name(name);
    Some(number)
}

// SAFETY: atomics, and a name under the lock.
unsafe impl Sync for Desk {}

impl Desk {
    fn is_named(&self, name: &str) -> bool {
        self.name() == name
    }

    /// Of this desk's database, as far as it is known; whoever asks has a reason to believe that it does not change meanwhile.
    pub fn name(&self) -> String {
        // SAFETY: written under the lock only; a copy is made, and one that was torn names no database.
        let bytes = unsafe { *self.name.get() };
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    /// Under the lock.
    fn set_name(&self, name: &str) {
        let mut bytes = [0; NAME_BYTES];
        let end = name.len().min(NAME_BYTES - 1);
        bytes[..end].copy_from_slice(&name.as_bytes()[..end]);
        // SAFETY: under the lock.
        unsafe { *self.name.get() = bytes };
    }

    /// Wakes the worker, or asks for one. What the worker is to find was written before.
    pub fn ring(&self) {
        // Whoever ends looks once more after it has taken its latch away; so either it finds what was written, or no latch is found here.
        fence(Ordering::SeqCst);
        match self.latch.load(Ordering::SeqCst) {
            0 => {
                self.wanted.store(true, Ordering::SeqCst);
                wake_launcher();
            }
            latch => wake(latch),
        }
    }

    /// The worker knows its database now. False when that has a worker at another desk; one without is nobody's from now on. Who rang there is heard here: a worker begins
    /// with looking at everything.
    pub fn take_for_this_database(&self) -> bool {
        let database = security::database();
        let _locked = Locked::new();
        for other in desks().iter().filter(|other| !std::ptr::eq(self, *other)) {
            if other.database.load(Ordering::SeqCst) != database {
                continue;
            }
            if other.stage.load(Ordering::SeqCst) != NOBODY || other.held.load(Ordering::SeqCst) != 0 {
                return false;
            }
            other.database.store(0, Ordering::SeqCst);
            other.wanted.store(false, Ordering::SeqCst);
            other.set_name("");
        }
        self.database.store(database, Ordering::SeqCst);
        true
    }

    /// This process works here from now on, or does no more.
    pub fn sit_down(&self) {
        self.has_begun.store(true, Ordering::SeqCst);
        self.latch.store(my_latch(), Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    pub fn stand_up(&self) {
        self.latch.store(0, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    pub fn wake(&self) {
        wake(self.latch.load(Ordering::SeqCst));
    }

    /// The queue of the inventory has something new.
    pub fn note_queued(&self, relation: u32) {
        let noted = self.rung.iter().any(|place| {
            place.load(Ordering::SeqCst) == relation
                || place.compare_exchange(0, relation, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        });
        if !noted {
            self.rung_more.store(true, Ordering::SeqCst);
        }
    }

    /// All inventories' queues are to be looked at.
    pub fn note_all(&self) {
        self.rung_more.store(true, Ordering::SeqCst);
    }

    /// The inventories whose queues have something new; None for all.
    pub fn take_queued(&self) -> Option<Vec<u32>> {
        let taken: Vec<u32> =
            self.rung.iter().map(|place| place.swap(0, Ordering::SeqCst)).filter(|relation| *relation != 0).collect();
        (!self.rung_more.swap(false, Ordering::SeqCst)).then_some(taken)
    }

    pub fn is_rung(&self) -> bool {
        self.rung_more.load(Ordering::SeqCst) || self.rung.iter().any(|place| place.load(Ordering::SeqCst) != 0)
    }

    fn empty_bells(&self) {
        self.take_queued();
    }
}

/// This process starts workers from now on, or does no more.
pub fn be_launcher(is: bool) {
    if let Some(header) = header() {
        header.launcher.store(if is { my_latch() } else { 0 }, Ordering::SeqCst);
    }
}

pub fn wake_launcher() {
    if let Some(header) = header() {
        wake(header.launcher.load(Ordering::SeqCst));
    }
}

/// The name of a database, NULL-terminated, as a Rust text.
pub fn database_name(database: u32) -> String {
    // SAFETY: a look-up in a catalog; the name is palloc'd, or NULL.
    unsafe {
        let name: *mut c_char = pg_sys::get_database_name(database.into());
        if name.is_null() { String::new() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
    }
}
