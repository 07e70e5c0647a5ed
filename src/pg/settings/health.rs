//! Thresholds of health(): what a check compares with.

use std::ffi::CStr;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

type Threshold = GucSetting<i32>;

// A working day of warning before inserts fail; half the partitions ahead where those span less.
static RUNWAY: Threshold = Threshold::new(86_400);
// Clients retry for minutes; what is still open then needs a person.
static OLDEST_CLAIM: Threshold = Threshold::new(3_600);
static PENDING_DETACH: Threshold = Threshold::new(0);
static ORPHANS: Threshold = Threshold::new(0);
// Six runs of the default schedule.
static CRON_SUCCESS: Threshold = Threshold::new(3_600);
// Longer than any request and most reports; beyond it vacuum falls behind on every table.
static OLDEST_SNAPSHOT: Threshold = Threshold::new(3_600);
// Some days have a long reader at every run.
static RETENTION_LAG: Threshold = Threshold::new(86_400);
// Who queues an order waits for its verdict.
static QUEUE_LAG: Threshold = Threshold::new(60);
// Many runs of any schedule that is meant for leads.
static SCORING_LAG: Threshold = Threshold::new(600);
// Whoever protects a table counts on the seal; who runs without it on purpose says so here.
static UNSEALED: Threshold = Threshold::new(0);

pub fn runway() -> i64 {
    i64::from(RUNWAY.get())
}

pub fn oldest_claim() -> i64 {
    i64::from(OLDEST_CLAIM.get())
}

pub fn pending_detach() -> i64 {
    i64::from(PENDING_DETACH.get())
}

pub fn orphans() -> i64 {
    i64::from(ORPHANS.get())
}

pub fn cron_success() -> i64 {
    i64::from(CRON_SUCCESS.get())
}

pub fn oldest_snapshot() -> i64 {
    i64::from(OLDEST_SNAPSHOT.get())
}

pub fn retention_lag() -> i64 {
    i64::from(RETENTION_LAG.get())
}

pub fn queue_lag() -> i64 {
    i64::from(QUEUE_LAG.get())
}

pub fn scoring_lag() -> i64 {
    i64::from(SCORING_LAG.get())
}

pub fn unsealed() -> i64 {
    i64::from(UNSEALED.get())
}

pub(super) fn define() {
    let define = |name: &'static CStr, about: &'static CStr, setting: &'static Threshold, flags: GucFlags| {
        GucRegistry::define_int_guc(
            name,
            about,
            c"A threshold of bulkhead.health().",
            setting,
            0,
            i32::MAX,
            GucContext::Suset,
            flags,
        );
    };
    let (time, count) = (GucFlags::UNIT_S, GucFlags::default());
    define(c"bulkhead.health_runway", c"Time until the last partition ends, at the least.", &RUNWAY, time);
    define(
        c"bulkhead.health_oldest_claim",
        c"Time since the lease of an unfinished idempotency key ran out, at the most.",
        &OLDEST_CLAIM,
        time,
    );
    define(c"bulkhead.health_pending_detach", c"Partitions half detached, at the most.", &PENDING_DETACH, count);
    define(c"bulkhead.health_orphans", c"Tables that look like lost partitions, at the most.", &ORPHANS, count);
    define(c"bulkhead.health_cron_success", c"Time since maintain() last succeeded, at the most.", &CRON_SUCCESS, time);
    define(c"bulkhead.health_oldest_snapshot", c"Age of the oldest transaction, at the most.", &OLDEST_SNAPSHOT, time);
    define(
        c"bulkhead.health_retention_lag",
        c"Time that an expired partition is overdue, at the most.",
        &RETENTION_LAG,
        time,
    );
    define(
        c"bulkhead.health_unsealed",
        c"Protected tables that the seal does not filter for every role, at the most.",
        &UNSEALED,
        count,
    );
    define(c"bulkhead.health_queue_lag", c"Time that a queued order waits, at the most.", &QUEUE_LAG, time);
    define(
        c"bulkhead.health_scoring_lag",
        c"Time without a batch of score_pending() while rows wait, at the most.",
        &SCORING_LAG,
        time,
    );
}
