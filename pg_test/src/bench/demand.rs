//! Orders as customers send them: which items they are for, and their ids.

use std::sync::atomic::{AtomicU64, Ordering};

/// Items that are for sale: `item 1` and so on.
pub const ITEMS: u32 = 1_000;

/// Which items are asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Demand {
    /// The first.
    Hot,
    Uniform,
    /// The nth as often as 1/n.
    Zipf,
}

/// The orders of one session.
pub struct Orders {
    demand: Demand,
    /// A number that no other session has.
    session: u64,
    next: AtomicU64,
}

impl Orders {
    pub fn new(demand: Demand, session: u64) -> Orders {
        Orders { demand, session, next: AtomicU64::new(0) }
    }

    /// The next one's id and item. Ids are as clients make them: random, and never the same.
    pub fn order(&self) -> (String, String) {
        let mix = |seed: u64| {
            let mut value = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            value ^ (value >> 31)
        };
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let random = mix(self.session << 40 | count);
        (format!("{random:016x}-{:04x}-{count:012x}", self.session), self.item(mix(random)))
    }

    fn item(&self, random: u64) -> String {
        let share = random as f64 / u64::MAX as f64;
        let item = match self.demand {
            Demand::Hot => 1,
            Demand::Uniform => 1 + (share * f64::from(ITEMS)) as u32,
            Demand::Zipf => f64::from(ITEMS).powf(share) as u32,
        };
        format!("item {}", item.clamp(1, ITEMS))
    }
}
