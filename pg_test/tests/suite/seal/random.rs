//! Random numbers that can be had again: the seed is printed with a failure and taken from `SEAL_SEED`.

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // SplitMix64's increment keeps a seed of zero from standing still.
        Self(seed.wrapping_add(0x9e37_79b9_7f4a_7c15))
    }

    /// From `SEAL_SEED`, else from the clock.
    pub fn seed() -> u64 {
        match std::env::var("SEAL_SEED") {
            Ok(text) => text.parse().expect("SEAL_SEED is a number"),
            Err(_) => std::time::UNIX_EPOCH.elapsed().map_or(1, |now| now.as_nanos() as u64 % 1_000_000_007),
        }
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
