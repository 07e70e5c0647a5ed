//! A token that failed leaves no tenant behind.
//!
//! The server keeps the old value when SET is refused, and brings older ones back when it rolls back. Neither may act for a
//! client whose token has just been refused. So each value carries a stamp, given when it was set; a failure makes every earlier
//! stamp dead, whatever brings its value back.

/// When a value was set. Grows with each value; 0 for the built-in default, which is no tenant anyway.
pub type Stamp = u64;

pub struct Revocations {
    clock: Stamp,
    failed: Stamp,
}

impl Revocations {
    pub const fn new() -> Revocations {
        Revocations { clock: 1, failed: 0 }
    }

    /// For a value that is being set now.
    pub fn stamp(&mut self) -> Stamp {
        self.clock += 1;
        self.clock
    }

    /// A token was refused: no value that was set so far counts.
    pub fn fail(&mut self) {
        self.failed = self.clock;
    }

    pub fn is_dead(&self, stamp: Stamp) -> bool {
        stamp <= self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session as the server drives it: the value, what RESET gives, savepoints, and the session's value at BEGIN.
    struct Session {
        revocations: Revocations,
        value: (char, Stamp),
        saved: Vec<(char, Stamp)>,
        default: char,
        default_stamp: Stamp,
        /// The last step that decides: what was set or reset, or a failure.
        last: Option<char>,
    }

    impl Session {
        fn new(default: char) -> Session {
            let mut revocations = Revocations::new();
            let default_stamp = revocations.stamp();
            Session {
                revocations,
                value: (default, default_stamp),
                saved: Vec::new(),
                default,
                default_stamp,
                last: Some(default),
            }
        }
        fn set(&mut self, tenant: char) {
            self.value = (tenant, self.revocations.stamp());
            self.last = Some(tenant);
        }
        fn seen(&self) -> Option<char> {
            (!self.revocations.is_dead(self.value.1)).then_some(self.value.0)
        }
        fn step(&mut self, step: u32) {
            match step {
                0 => self.set('a'),
                1 => self.set('b'),
                2 => {
                    self.revocations.fail();
                    self.last = None;
                }
                3 => self.saved.push(self.value),
                4 => self.value = self.saved.last().copied().unwrap_or(self.value),
                // The end of a function's SET clause, or of a transaction: a value comes back, by no statement.
                5 => self.value = self.saved.pop().unwrap_or(self.value),
                // The server assigns the default again, with its old stamp; a RESET by itself gives it a new one.
                6 => self.value = (self.default, self.default_stamp),
                _ => {
                    self.set(self.default);
                }
            }
        }
    }

    fn histories(mut check: impl FnMut(&mut Session, &[u32])) {
        let steps = 8u32;
        for code in 0..steps.pow(6) {
            let history: Vec<u32> = (0..6).map(|n| code / steps.pow(n) % steps).collect();
            check(&mut Session::new('r'), &history);
        }
    }

    #[test]
    fn nothing_set_before_a_failure_is_ever_seen_after_it() {
        histories(|session, history| {
            let mut since: Vec<char> = vec!['r'];
            for step in history {
                session.step(*step);
                match step {
                    0 => since.push('a'),
                    1 => since.push('b'),
                    2 => since.clear(),
                    7 => since.push('r'),
                    _ => {}
                }
                if let Some(tenant) = session.seen() {
                    assert!(since.contains(&tenant), "{history:?}: {tenant} after {since:?}");
                }
                // A failure shows at once, and what is set after it counts at once.
                match step {
                    2 => assert_eq!(session.seen(), None, "{history:?}"),
                    0 | 1 | 7 => assert_eq!(session.seen(), session.last, "{history:?}"),
                    _ => {}
                }
            }
        });
    }

    #[test]
    fn without_a_failure_nothing_is_dead() {
        histories(|session, history| {
            if !history.contains(&2) {
                for step in history {
                    session.step(*step);
                    assert!(session.seen().is_some(), "{history:?}");
                }
            }
        });
    }
}
