//! What each tenant may have of a round where several wait. Pure Rust.
//!
//! A hundred sessions that are answered together leave the others no processor for milliseconds. So a round decides a few orders of each tenant, or as many as can be served while the disk is waited for.

use std::collections::HashMap;

/// Tenants have their shares for so many microseconds after several came together.
const SEVERAL: i64 = 20_000;

/// Orders of each tenant, at least; at most; and one for each so many microseconds of a flush.
const LEAST: usize = 4;
const MOST: usize = 64;
const SERVED: i64 = 100;

/// Somebody who waits.
#[derive(Clone, Copy)]
pub struct Waiting<'a> {
    pub tenant: &'a [u8],
    /// It was tried before, and left for a lock of another's: that makes nobody else wait, so it neither begins shares nor takes what is for those that come.
    pub was_left: bool,
}

#[derive(Default)]
pub struct Shares {
    until: i64,
    /// Microseconds that a flush of the log takes, lately.
    flush: i64,
}

impl Shares {
    /// A flush has taken so many microseconds. A single long one says little of the others.
    pub fn note_flush(&mut self, took: i64) {
        self.flush += (took.min(4 * self.flush + 1_000) - self.flush) / 8;
    }

    /// Which of those that wait, the oldest first, are decided in this round; `now` in microseconds. None: everybody.
    pub fn choose(&mut self, now: i64, waiting: &[Waiting]) -> Option<Vec<bool>> {
        let mut fresh = waiting.iter().filter(|one| !one.was_left);
        if fresh.next().is_some_and(|first| fresh.any(|one| one.tenant != first.tenant)) {
            self.until = now + SEVERAL;
        }
        let share = ((self.flush / SERVED) as usize).clamp(LEAST, MOST);
        if waiting.len() <= share || self.until <= now {
            return None;
        }
        let mut counts: HashMap<(&[u8], bool), usize> = HashMap::new();
        let is_chosen = |Waiting { tenant, was_left }| {
            let count = counts.entry((tenant, was_left)).or_default();
            *count += 1;
            *count <= share
        };
        Some(waiting.iter().copied().map(is_chosen).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(tenant: &str, was_left: bool, count: usize) -> Vec<Waiting<'_>> {
        vec![Waiting { tenant: tenant.as_bytes(), was_left }; count]
    }

    /// How many of each group, in their order, are decided.
    fn chosen(shares: &mut Shares, now: i64, groups: &[Vec<Waiting>]) -> Vec<usize> {
        let chosen = shares.choose(now, &groups.concat());
        let mut chosen = chosen.unwrap_or_else(|| vec![true; groups.concat().len()]).into_iter();
        groups.iter().map(|group| chosen.by_ref().take(group.len()).filter(|is| *is).count()).collect()
    }

    #[test]
    fn a_tenant_alone_has_everything() {
        assert_eq!(chosen(&mut Shares::default(), 1, &[waiting("a", false, 500)]), [500]);
    }

    #[test]
    fn several_have_a_few_each_and_for_a_moment_longer() {
        let mut shares = Shares::default();
        let both = [waiting("a", false, 500), waiting("b", false, 3)];
        assert_eq!(chosen(&mut shares, 1_000, &both), [4, 3]);
        assert_eq!(chosen(&mut shares, 1_000 + SEVERAL - 1, &both[..1]), [4]);
        assert_eq!(chosen(&mut shares, 1_000 + 2 * SEVERAL, &both[..1]), [500]);
    }

    #[test]
    fn a_few_of_several_are_decided_together() {
        let all = [waiting("a", false, 2), waiting("b", false, 2)];
        assert!(Shares::default().choose(1, &all.concat()).is_none());
    }

    #[test]
    fn who_waits_for_a_lock_begins_no_shares() {
        let all = [waiting("a", true, 300), waiting("b", false, 100)];
        assert_eq!(chosen(&mut Shares::default(), 1, &all), [300, 100]);
    }

    #[test]
    fn who_waits_for_a_lock_takes_no_shares() {
        let all = [waiting("a", true, 300), waiting("b", false, 100), waiting("a", false, 2)];
        assert_eq!(chosen(&mut Shares::default(), 1, &all), [4, 4, 2]);
    }

    #[test]
    fn a_slow_disk_makes_shares_larger_and_one_slow_flush_does_not() {
        let both = [waiting("a", false, 500), waiting("b", false, 500)];
        let mut shares = Shares::default();
        shares.note_flush(1_000_000);
        assert_eq!(chosen(&mut shares, 1, &both), [4, 4]);
        (0..100).for_each(|_| shares.note_flush(1_000));
        assert_eq!(chosen(&mut shares, 1, &both), [9, 9]);
        (0..100).for_each(|_| shares.note_flush(100_000));
        assert_eq!(chosen(&mut shares, 1, &both), [64, 64]);
    }
}
