//! Who queues an order rings for the worker, once the order is there to be found: at the commit.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::sync::atomic::Ordering;

use pgrx::prelude::*;

use super::super::cell::PerBackend;
use super::memory;
use crate::inventory::group;

/// The inventories that orders were queued for in this transaction, and the number of the desk to ring at.
static QUEUED: PerBackend<RefCell<Vec<u32>>> = PerBackend::new(RefCell::new(Vec::new()));
/// All of them, or the extension itself.
static ANYTHING: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));
static DESK: PerBackend<Cell<Option<usize>>> = PerBackend::new(Cell::new(None));
static REGISTERED: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));

/// An order was queued. What has to be looked up is looked up now: nothing may fail at the commit.
pub fn queued(relation: pg_sys::Oid) {
    if !memory::is_there() || !group::is_wanted_here() {
        return;
    }
    let Some(number) = memory::my_desk() else { return };
    ring_at_end(number);
    let mut queued = QUEUED.borrow_mut();
    if !queued.contains(&relation.to_u32()) {
        queued.push(relation.to_u32());
    }
}

/// A transaction that was prepared may have queued anything; and where the extension is dropped, the worker has to go. Only a worker that is there hears of it.
pub fn anything() {
    if let Some(number) = memory::my_desk_if_any() {
        ANYTHING.set(true);
        ring_at_end(number);
    }
}

/// A transaction that was prepared has been committed. The server may have been restarted since, and nobody been here.
pub fn prepared() {
    anything();
    if group::is_installed() {
        look_once();
    }
}

/// This session has to do with an inventory.
pub fn used() {
    static BEFORE: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));
    if !BEFORE.replace(true) {
        look_once();
    }
}

/// What was queued before the server was restarted has a worker look at it as soon as somebody has to do with inventories in this database: nobody rings for it any more.
fn look_once() {
    if !memory::is_there() || !group::is_wanted_here() {
        return;
    }
    if let Some(desk) = memory::my_desk().and_then(memory::desk)
        && !desk.was_looked_at.load(Ordering::SeqCst)
    {
        desk.note_all();
        desk.ring();
    }
}

fn ring_at_end(number: usize) {
    if !REGISTERED.replace(true) {
        // SAFETY: the callback is guarded and lives as long as the process.
        unsafe { pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut()) };
    }
    DESK.set(Some(number));
}

fn ring_at(number: usize) {
    let Some(desk) = memory::desk(number) else { return };
    QUEUED.borrow().iter().for_each(|relation| desk.note_queued(*relation));
    if ANYTHING.get() {
        desk.note_all();
    }
    desk.ring();
}

/// # Safety
/// Called by the server. Must not raise.
#[pg_guard]
unsafe extern "C-unwind" fn at_end(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    use pg_sys::XactEvent::*;
    let Some(desk) = DESK.get() else { return };
    match event {
        XACT_EVENT_COMMIT => {
            ring_at(desk);
            // The desk may have become another's since the order was queued. Whoever works for this database at another one by now may have looked at everything before the commit.
            if !memory::is_mine(desk)
                && let Some(other) = memory::my_desk_if_any()
            {
                ring_at(other);
            }
        }
        XACT_EVENT_ABORT | XACT_EVENT_PREPARE => {}
        _ => return,
    }
    DESK.set(None);
    ANYTHING.set(false);
    QUEUED.borrow_mut().clear();
}
