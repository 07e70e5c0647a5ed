//! Keys as clients make them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// What kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A random UUID.
    Random,
    /// A UUIDv7 of this moment.
    Dated,
}

/// A key that nobody has used.
pub fn fresh(kind: Kind) -> String {
    let (high, low) = (random(), random());
    match kind {
        Kind::Random => shown(high, low, '4'),
        Kind::Dated => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            shown((now.as_micros() as u64 / 1000) << 16 | high & 0xffff, low, '7')
        }
    }
}

fn shown(high: u64, low: u64, version: char) -> String {
    let (high, low) = (format!("{high:016x}"), format!("{low:016x}"));
    format!("{}-{}-{version}{}-a{}-{}", &high[..8], &high[8..12], &high[13..], &low[1..4], &low[4..])
}

/// Numbers that do not repeat and look like chance: splitmix64 over a counter.
fn random() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let start = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64);
    NEXT.compare_exchange(0, start(), Ordering::Relaxed, Ordering::Relaxed).ok();
    let mut z = NEXT.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
