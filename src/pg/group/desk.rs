//! The desks in shared memory, one for each database that has a worker or wants one. What they are for is in src/inventory/group/mod.rs.

use std::cell::{Cell, UnsafeCell};
use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};

use pgrx::prelude::*;

use super::super::cell::PerBackend;
use super::super::security;
use super::memory::{NAME, header, my_latch, wake};

/// Databases that have a worker, or are waited for, at once.
pub(super) const DESKS: usize = 128;

/// Inventories whose queue has something new, remembered one by one; when there are more, all are looked at.
const RUNG: usize = 16;

const NAME_BYTES: usize = 64;

/// Nobody works at a desk, somebody was sent for, somebody does.
const NOBODY: u32 = 0;
const SENT_FOR: u32 = 1;
const THERE: u32 = 2;

/// What a database's worker is told. Plain words: each says one thing by itself, but for what the comments in src/inventory/group/mod.rs say of their order.
pub struct Desk {
    /// The database; 0 for a desk that is nobody's, or that of a database known by its name only.
    pub database: AtomicU32,
    /// Under the lock.
    name: UnsafeCell<[u8; NAME_BYTES]>,
    stage: AtomicU32,
    /// The database that the desk's worker works in; 0 when none does. Set under the lock: no two desks have the same.
    serves: AtomicU32,
    /// Of the worker, once it looks for work; 0 before and after.
    latch: AtomicUsize,
    /// Somebody waits for a worker.
    pub wanted: AtomicBool,
    /// The worker is to end.
    pub leave: AtomicBool,
    /// A worker has begun here by looking at all queues.
    pub was_looked_at: AtomicBool,
    /// The worker has ended because it was told to.
    pub was_sent_away: AtomicBool,
    /// The worker came as far as looking for work.
    pub has_begun: AtomicBool,
    /// The desk is another database's since the launcher looked last: what it knows of the former is void.
    pub is_new: AtomicBool,
    /// The worker has ended because there is nothing to work on.
    pub end_in_vain: AtomicBool,
    /// The last worker found no extension in the database.
    pub has_nothing: AtomicBool,
    /// So many orders are decided together, lately: it rises at once and falls by an eighth with each round.
    lately: AtomicUsize,
    /// So many commands keep workers away from the database.
    pub held: AtomicU32,
    pub(super) rung: [AtomicU32; RUNG],
    pub(super) rung_more: AtomicBool,
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

/// Whether the desk is this process's database's.
pub fn is_mine(number: usize) -> bool {
    desk(number).is_some_and(|desk| desk.database.load(Ordering::SeqCst) == security::database())
}

/// The number of the same desk, if there is one.
pub fn my_desk_if_any() -> Option<usize> {
    let database = security::database();
    all_desks().find(|(_, desk)| desk.database.load(Ordering::SeqCst) == database).map(|(number, _)| number)
}

/// The desk of a database, which gets one if it has none. `database`: 0 when only the name is known. None when all are taken.
pub fn assign(database: u32, name: &str) -> Option<usize> {
    let locked = Locked::new();
    // By what never changes, first. A name may have been another database's, which keeps its desk.
    let is_its = |desk: &Desk| database != 0 && desk.database.load(Ordering::SeqCst) == database;
    let is_of_its_name =
        |desk: &Desk| desk.is_named(name) && (database == 0 || desk.database.load(Ordering::SeqCst) == 0);
    let known =
        all_desks().find(|(_, desk)| is_its(desk)).or_else(|| all_desks().find(|(_, desk)| is_of_its_name(desk)));
    let is_idle = |desk: &Desk| {
        desk.has_nobody()
            && desk.held.load(Ordering::SeqCst) == 0
            && !desk.wanted.load(Ordering::SeqCst)
            && !desk.is_rung()
    };
    let (number, desk) = known
        .or_else(|| all_desks().find(|(_, desk)| desk.is_nobodys() && desk.has_nobody()))
        .or_else(|| all_desks().find(|(_, desk)| is_idle(desk)))?;
    if known.is_none() {
        desk.empty_bells();
        desk.leave.store(false, Ordering::SeqCst);
        desk.wanted.store(false, Ordering::SeqCst);
        desk.has_nothing.store(false, Ordering::SeqCst);
    }
    // Renamed since, or known by its name only.
    let has_changed = desk.be_named(name) && known.is_some() && database != 0;
    if database != 0 || known.is_none() {
        let former = desk.database.swap(database, Ordering::SeqCst);
        if former != database {
            desk.is_new.store(true, Ordering::SeqCst);
            // A desk that was known by its name has the same worker as before.
            desk.was_looked_at.fetch_and(former == 0 && known.is_some(), Ordering::SeqCst);
        }
    }
    drop(locked);
    if has_changed {
        look_again();
    }
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

    /// No database's. A name that is being written is nobody's for that long.
    pub fn is_nobodys(&self) -> bool {
        self.database.load(Ordering::SeqCst) == 0 && self.name().is_empty()
    }

    /// Under the lock.
    fn be_nobodys(&self) {
        self.database.store(0, Ordering::SeqCst);
        self.wanted.store(false, Ordering::SeqCst);
        self.set_name("");
    }

    /// Under the lock: the name is this desk's and no other's. Whether it was not.
    fn be_named(&self, name: &str) -> bool {
        let others = || desks().iter().filter(|other| !std::ptr::eq(self, *other) && other.is_named(name));
        let is_new = !self.is_named(name) || others().next().is_some();
        others().for_each(|other| other.set_name(""));
        self.set_name(name);
        is_new
    }

    /// The desk's database has this name now.
    pub fn rename(&self, name: &str) {
        let locked = Locked::new();
        let has_changed = self.be_named(name);
        drop(locked);
        if has_changed {
            look_again();
        }
    }

    /// The desk's database is no more.
    pub fn close(&self) {
        let locked = Locked::new();
        self.empty_bells();
        self.be_nobodys();
        drop(locked);
        look_again();
    }

    /// The desk's database is known by its number only, until somebody comes who knows the name.
    pub fn forget_name(&self) {
        let locked = Locked::new();
        self.set_name("");
        drop(locked);
        look_again();
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

    /// Nobody is there, or on the way.
    pub fn has_nobody(&self) -> bool {
        self.stage.load(Ordering::SeqCst) == NOBODY
    }

    /// The worker looks for work.
    pub fn is_at_work(&self) -> bool {
        self.latch.load(Ordering::SeqCst) != 0
    }

    pub fn has_worker(&self) -> bool {
        self.stage.load(Ordering::SeqCst) == THERE
    }

    /// Somebody is on the way from now on. False when somebody is there, or on the way.
    pub fn send_for(&self) -> bool {
        self.stage.compare_exchange(NOBODY, SENT_FOR, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Whoever is on the way is not waited for any more. Nothing is done where somebody is there.
    pub fn call_off(&self) {
        let _ = self.stage.compare_exchange(SENT_FOR, NOBODY, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// This process is the desk's worker from now on. False when another is: a launcher that was restarted sends for somebody while one comes whom the former has sent for.
    pub fn come(&self) -> bool {
        self.stage.swap(THERE, Ordering::SeqCst) != THERE
    }

    /// The desk's worker ends.
    pub fn go(&self) {
        self.stand_up();
        self.serves.store(0, Ordering::SeqCst);
        self.stage.store(NOBODY, Ordering::SeqCst);
    }

    /// The worker knows its database now. False when that has a worker at another desk; one without is nobody's from now on. Who rang there is heard here: a worker begins
    /// with looking at everything.
    pub fn take_for_this_database(&self) -> bool {
        let database = security::database();
        let locked = Locked::new();
        let others = || desks().iter().filter(|other| !std::ptr::eq(self, *other));
        let serves = others().find(|other| other.serves.load(Ordering::SeqCst) == database);
        let mine = self.database.load(Ordering::SeqCst);
        let (may, has_changed) = match serves {
            // The name by which this process came here is another database's by now.
            _ if mine != 0 && mine != database => (false, false),
            // Known by its name only: the other has it from now on.
            Some(other) if mine == 0 => {
                // Unless that was taken away while this process was at the database's door.
                if !self.is_named("") {
                    other.be_named(&self.name());
                }
                self.be_nobodys();
                (false, true)
            }
            Some(_) => (false, false),
            None => {
                let is_its = |other: &&Desk| other.database.load(Ordering::SeqCst) == database;
                let is_free = |other: &Desk| other.has_nobody() && other.held.load(Ordering::SeqCst) == 0;
                let may = others().filter(is_its).all(is_free);
                let has_changed = may && others().any(|other| is_its(&other));
                if may {
                    others().filter(is_its).for_each(Desk::be_nobodys);
                    self.database.store(database, Ordering::SeqCst);
                    self.serves.store(database, Ordering::SeqCst);
                }
                (may, has_changed)
            }
        };
        drop(locked);
        if has_changed {
            look_again();
        }
        may
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

    pub fn note_round(&self, orders: usize) {
        let before = self.lately.load(Ordering::Relaxed);
        self.lately.store(orders.max(before - before.div_ceil(8)), Ordering::Relaxed);
    }

    /// Orders come one at a time.
    pub fn is_quiet(&self) -> bool {
        self.lately.load(Ordering::Relaxed) <= 1
    }
}

/// This process starts workers from now on, or does no more.
pub fn be_launcher(is: bool) {
    if let Some(header) = header() {
        header.launcher.store(if is { my_latch() } else { 0 }, Ordering::SeqCst);
    }
}

/// The desks of the databases that the setting names may be others now: the launcher is to look.
fn look_again() {
    if let Some(header) = header() {
        header.has_changed.store(true, Ordering::SeqCst);
    }
    wake_launcher();
}

/// Whether the launcher was told to.
pub fn is_to_look_again() -> bool {
    header().is_some_and(|header| header.has_changed.swap(false, Ordering::SeqCst))
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
