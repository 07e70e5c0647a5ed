//! The setting of inventories: how long verdicts are kept.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

const DAY: i32 = 24 * 60 * 60;

static RETENTION: GucSetting<i32> = GucSetting::<i32>::new(7 * DAY);

/// `bulkhead.order_retention`, in microseconds.
pub fn order_retention() -> i64 {
    i64::from(RETENTION.get()) * 1_000_000
}

/// Once, from `define`.
pub fn define() {
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
