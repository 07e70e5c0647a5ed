//! How long something of ours waits for a lock: every lock_timeout that this library sets.

use super::settings;

// All in milliseconds.

/// Maintenance, for a lock that the application's statements stand behind meanwhile: a moment that nobody notices.
pub const MAINTENANCE: i64 = 50;
/// Maintenance, for a lock that only other DDL stands behind.
pub const DDL: i64 = 2_000;
/// The same, where an autovacuum may be in the way: it gives way only to who waits longer than deadlock_timeout, and needs a moment for that.
pub const BEYOND_DEADLOCK_TIMEOUT: i64 = 500;
/// Each try of a statement that partition_plan() writes; the application's statements stand behind it.
pub const PLAN: i64 = 100;
/// A trigger of one order of many: what that one waits for, all of its batch wait for.
pub const ORDER: i64 = 5;
/// A trigger's statements in the worker of group commits. Longer than a lock that is held for a moment.
pub const WORKER: i64 = 20;
/// An attempt of leak_test().
pub const ATTEMPT: i64 = 1_000;

/// What statements of this transaction wait for a lock at most; raises 55P03 then. Ends with the transaction.
pub fn set(milliseconds: i64) {
    settings::set_local(c"lock_timeout", &milliseconds.max(1).to_string());
}

/// They wait however long it takes. Ends with the transaction.
pub fn lift() {
    settings::set_local(c"lock_timeout", "0");
}

/// As a setting's value.
pub fn text(milliseconds: i64) -> String {
    format!("{milliseconds}ms")
}
