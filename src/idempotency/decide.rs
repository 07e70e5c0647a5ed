//! What a call means for a key's row. Pure Rust, so that every case can be tried without a server.

/// Where a key's work stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    Started,
    Finished,
    /// The work failed: the next claim may start at once.
    Released,
}

/// What is known of a key. Times in microseconds, all from the same beginning.
#[derive(Clone, Debug)]
pub struct Known<'a> {
    /// When it was claimed, taken over or extended last.
    pub claimed_at: i64,
    pub lease_until: i64,
    pub fence: i64,
    pub attempt: i32,
    pub stage: Stage,
    pub fingerprint: Option<&'a [u8]>,
    /// Written by another transaction that has not ended.
    pub uncommitted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// Go on, under this attempt and fence.
    Start { attempt: i32, fence: i64 },
    /// Finished: here is the stored answer.
    Replay,
    /// Another holds it.
    InProgress,
    /// The same key, another request.
    Mismatch,
}

/// A claim at `now`. A fence is a time, and greater than every earlier one of the key: it needs no sequence, and a holder can hand
/// it on to systems that refuse what is older than what they have seen.
pub fn claim(known: Option<&Known>, fingerprint: Option<&[u8]>, now: i64, window: i64) -> Claim {
    let Some(known) = known else { return Claim::Start { attempt: 1, fence: now } };
    let leased = known.uncommitted || (known.stage == Stage::Started && known.lease_until > now);
    let fence = now.max(known.fence.saturating_add(1));
    if !leased && known.claimed_at.saturating_add(window) <= now {
        return Claim::Start { attempt: 1, fence };
    }
    if let (Some(known), Some(given)) = (known.fingerprint, fingerprint)
        && known != given
    {
        return Claim::Mismatch;
    }
    if leased {
        return Claim::InProgress;
    }
    match known.stage {
        Stage::Finished => Claim::Replay,
        Stage::Started | Stage::Released => Claim::Start { attempt: known.attempt.saturating_add(1), fence },
    }
}

/// Why a holder may not finish, release or extend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    NotClaimed,
    TakenOver,
    /// Without a fence only the first attempt may.
    NeedsFence,
    Finished,
    Released,
}

/// Whether the one with this fence holds the key. A lease that ran out, but was not taken over, still holds.
pub fn holds(known: Option<&Known>, fence: Option<i64>) -> Result<(), Refusal> {
    let known = known.ok_or(Refusal::NotClaimed)?;
    match fence {
        Some(fence) if fence != known.fence => return Err(Refusal::TakenOver),
        None if known.attempt != 1 => return Err(Refusal::NeedsFence),
        _ => {}
    }
    match known.stage {
        Stage::Started => Ok(()),
        Stage::Finished => Err(Refusal::Finished),
        Stage::Released => Err(Refusal::Released),
    }
}

#[cfg(test)]
mod tests {
    use super::{Claim, Known, Refusal, Stage, claim, holds};

    const WINDOW: i64 = 1000;

    fn known(stage: Stage) -> Known<'static> {
        Known {
            claimed_at: 100,
            lease_until: 160,
            fence: 100,
            attempt: 1,
            stage,
            fingerprint: Some(b"f"),
            uncommitted: false,
        }
    }

    fn at(now: i64, known: &Known) -> Claim {
        claim(Some(known), Some(b"f"), now, WINDOW)
    }

    #[test]
    fn a_new_key_starts() {
        assert_eq!(claim(None, None, 7, WINDOW), Claim::Start { attempt: 1, fence: 7 });
    }

    #[test]
    fn a_lease_holds_until_its_end() {
        let row = known(Stage::Started);
        assert_eq!(at(159, &row), Claim::InProgress);
        assert_eq!(at(160, &row), Claim::Start { attempt: 2, fence: 160 });
    }

    #[test]
    fn what_is_finished_is_replayed_until_the_window_ends() {
        let row = known(Stage::Finished);
        assert_eq!(at(101, &row), Claim::Replay);
        assert_eq!(at(1099, &row), Claim::Replay);
        assert_eq!(at(1100, &row), Claim::Start { attempt: 1, fence: 1100 });
    }

    #[test]
    fn what_is_released_starts_at_once() {
        assert_eq!(at(101, &known(Stage::Released)), Claim::Start { attempt: 2, fence: 101 });
    }

    #[test]
    fn the_fingerprint_comes_before_the_state() {
        for stage in [Stage::Started, Stage::Finished, Stage::Released] {
            assert_eq!(claim(Some(&known(stage)), Some(b"g"), 120, WINDOW), Claim::Mismatch, "{stage:?}");
            assert_ne!(claim(Some(&known(stage)), None, 120, WINDOW), Claim::Mismatch, "none given, {stage:?}");
        }
        let open = Known { uncommitted: true, ..known(Stage::Started) };
        assert_eq!(claim(Some(&open), Some(b"g"), 120, WINDOW), Claim::Mismatch);
        let none = Known { fingerprint: None, ..known(Stage::Finished) };
        assert_eq!(at(120, &none), Claim::Replay);
        // A key older than the window is a new one.
        assert_eq!(
            claim(Some(&known(Stage::Finished)), Some(b"g"), 1100, WINDOW),
            Claim::Start { attempt: 1, fence: 1100 }
        );
    }

    #[test]
    fn what_is_not_committed_is_in_progress_whatever_it_says() {
        for stage in [Stage::Started, Stage::Finished, Stage::Released] {
            assert_eq!(at(5000, &Known { uncommitted: true, ..known(stage) }), Claim::InProgress, "{stage:?}");
        }
    }

    #[test]
    fn a_lease_that_lives_outlasts_the_window() {
        let row = Known { lease_until: 3000, ..known(Stage::Started) };
        assert_eq!(at(2999, &row), Claim::InProgress);
        assert_eq!(at(3000, &row), Claim::Start { attempt: 1, fence: 3000 });
    }

    #[test]
    fn fences_only_grow_also_when_the_clock_goes_back() {
        assert_eq!(at(50, &known(Stage::Released)), Claim::Start { attempt: 2, fence: 101 });
    }

    #[test]
    fn only_the_holder_finishes() {
        let row = known(Stage::Started);
        assert_eq!(holds(Some(&row), Some(100)), Ok(()));
        assert_eq!(holds(Some(&row), None), Ok(()));
        assert_eq!(holds(Some(&row), Some(99)), Err(Refusal::TakenOver));
        let second = Known { attempt: 2, ..row };
        assert_eq!(holds(Some(&second), None), Err(Refusal::NeedsFence));
        assert_eq!(holds(Some(&second), Some(100)), Ok(()));
        assert_eq!(holds(None, Some(100)), Err(Refusal::NotClaimed));
        assert_eq!(holds(Some(&known(Stage::Finished)), None), Err(Refusal::Finished));
        assert_eq!(holds(Some(&known(Stage::Released)), Some(100)), Err(Refusal::Released));
    }
}
