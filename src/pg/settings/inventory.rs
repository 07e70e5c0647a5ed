//! The settings of inventories: how long verdicts are kept, and where workers run.

use std::ffi::{CStr, CString};

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

use super::super::library;

const DAY: i32 = 24 * 60 * 60;

static RETENTION: GucSetting<i32> = GucSetting::<i32>::new(7 * DAY);

/// `bulkhead.order_retention`, in microseconds.
pub fn order_retention() -> i64 {
    i64::from(RETENTION.get()) * 1_000_000
}

// Wherever a call asks for one: decrement_now() works, and what is queued is drained, without anybody having to say so. A database in which neither is called costs nothing.
static DRAIN_DATABASES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"*"));
static DECREMENT_SLOTS: GucSetting<i32> = GucSetting::<i32>::new(0);

/// The databases of `bulkhead.drain_databases`, by name; `*` among them stands for any.
pub fn drain_databases() -> Vec<String> {
    let list = DRAIN_DATABASES.get().map_or_else(String::new, |list| list.to_string_lossy().into_owned());
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Whether that is `*`, as it is by default. Asked for each call.
pub fn drains_everywhere() -> bool {
    // SAFETY: the server's own copy, NUL-terminated, which only a reload changes: not while this runs.
    let list = unsafe { (*DRAIN_DATABASES.as_ptr()).as_ref().map(|list| CStr::from_ptr(list)) };
    list == Some(c"*")
}

/// `bulkhead.decrement_slots`; 0 for as many as there can be callers.
pub fn decrement_slots() -> i32 {
    DECREMENT_SLOTS.get()
}

/// Once, from `define`.
pub fn define() {
    GucRegistry::define_string_guc(
        c"bulkhead.drain_databases",
        c"Databases in which a worker commits for decrement_now() and drains the queue.",
        c"Names, separated by commas: there a worker is started with the server. * stands for any database in which a call asks for one.",
        &DRAIN_DATABASES,
        GucContext::Sighup,
        GucFlags::default(),
    );
    // The server takes such a setting only from a library that it preloads itself; elsewhere there is no memory that it could be about.
    let shared = library::loaded() == library::Loaded::Shared;
    GucRegistry::define_int_guc(
        c"bulkhead.decrement_slots",
        c"Calls of decrement_now() that can wait at once; 8 kB of shared memory each.",
        c"0: as many as there can be sessions.",
        &DECREMENT_SLOTS,
        0,
        100_000,
        if shared { GucContext::Postmaster } else { GucContext::Sighup },
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"bulkhead.order_retention",
        c"How long the verdicts of orders are kept, and so how long a repeated order is known.",
        // A week: a client that repeats an order after a longer outage than a weekend is hard to imagine.
        c"The same for all sessions. A longer one counts for verdicts that are still there.",
        &RETENTION,
        1,
        10 * 365 * DAY,
        GucContext::Suset,
        GucFlags::UNIT_S,
    );
}
