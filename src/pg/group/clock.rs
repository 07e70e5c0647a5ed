//! The clock of waits and delays, which no setting of the machine's time moves.

use std::sync::LazyLock;
use std::time::Instant;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Microseconds since some moment of this process's; never less than before. For other processes it means nothing.
pub fn now() -> i64 {
    START.elapsed().as_micros() as i64
}

/// Milliseconds until a time of this clock, rounded up.
pub fn until(time: i64) -> i64 {
    (time - now() + 999) / 1000
}
