//! How long a lock is tried for: without waiting and ever more slowly, then a few short waits, then not any more in this run. Pure Rust.

#[derive(Clone, Copy, Debug, Default)]
pub struct LockBackoff {
    tries: u32,
    /// When the first attempt began, in microseconds; 0 before it.
    since: i64,
    /// From the first attempt to having the locks.
    pub waited: i64,
    /// Others of the same table were not to be had either: a few attempts only.
    few_attempts: bool,
    now: i64,
}

/// Attempts without waiting: with the pauses between them, about six seconds, longer than most queries.
const WITHOUT_WAITING: u32 = 14;
/// After these, attempts that wait.
const WAITING: u32 = 4;

impl LockBackoff {
    pub fn new(few_attempts: bool) -> LockBackoff {
        LockBackoff { few_attempts, ..LockBackoff::default() }
    }

    /// An attempt begins.
    pub fn begin(&mut self, now: i64) {
        self.now = now;
        if self.since == 0 {
            self.since = now;
        }
    }

    /// The locks are there.
    pub fn got(&mut self) {
        self.waited = self.now - self.since;
    }

    fn without_waiting(&self) -> u32 {
        if self.few_attempts { 2 } else { WITHOUT_WAITING }
    }

    /// This attempt may wait for a lock.
    pub fn waits(&self) -> bool {
        self.tries >= self.without_waiting()
    }

    /// The attempt failed: seconds until the next, or None when it was the last. `chance`: any number.
    pub fn failed(&mut self, now: i64, chance: u64) -> Option<f64> {
        self.waited = now - self.since;
        self.tries += 1;
        if self.tries >= self.without_waiting() + if self.few_attempts { 1 } else { WAITING } {
            return None;
        }
        let pause = (0.025 * 1.5_f64.powi(self.tries.min(20) as i32)).min(1.0);
        // From half of it to one and a half.
        Some(pause * (0.5 + (chance % 1024) as f64 / 1024.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_only_after_many_attempts_and_gives_up() {
        let mut backoff = LockBackoff::new(false);
        let (mut now, mut attempts, mut waiting) = (1_000_000, 0_u32, 0_u32);
        loop {
            backoff.begin(now);
            attempts += 1;
            waiting += u32::from(backoff.waits());
            match backoff.failed(now, u64::from(attempts) * 977) {
                Some(pause) => {
                    assert!((0.01..=1.5).contains(&pause), "{pause}");
                    now += (pause * 1e6) as i64;
                }
                None => break,
            }
        }
        assert_eq!((attempts, waiting), (18, 4));
        assert!((5_000_000..15_000_000).contains(&backoff.waited), "{}", backoff.waited);
    }

    #[test]
    fn in_a_hurry_it_tries_three_times() {
        let mut backoff = LockBackoff::new(true);
        backoff.begin(5);
        assert!(!backoff.waits());
        assert!(backoff.failed(5, 0).is_some() && backoff.failed(5, 0).is_some());
        assert!(backoff.waits());
        assert!(backoff.failed(5, 0).is_none());
    }

    #[test]
    fn the_wait_is_from_the_first_attempt() {
        let mut backoff = LockBackoff::new(false);
        backoff.begin(100);
        backoff.failed(120, 0);
        backoff.begin(400);
        backoff.got();
        assert_eq!(backoff.waited, 300);
    }
}
