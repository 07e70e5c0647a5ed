//! Measures in turns and keeps the rounds.
//!
//! A machine that does other work is slower for a while, then faster. What is measured in turns meets the same weather, so
//! each round gives one ratio, and the median of the ratios is the result; medians of times from different minutes are not
//! comparable.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::stats::{Estimate, median};
use crate::progress;

/// The values of some arms, round by round. An arm is one of the things that are compared.
#[derive(Debug, Clone)]
pub struct Rounds<const N: usize> {
    done: Vec<[f64; N]>,
    sum: [f64; N],
    count: [u32; N],
}

impl<const N: usize> Default for Rounds<N> {
    fn default() -> Self {
        Self { done: Vec::new(), sum: [0.0; N], count: [0; N] }
    }
}

impl<const N: usize> Rounds<N> {
    /// A measured value of the current round. An arm that comes twice in a round counts with its mean: in the order ABBA
    /// a steady drift then cancels out.
    pub fn add(&mut self, arm: usize, value: f64) {
        self.sum[arm] += value;
        self.count[arm] += 1;
    }

    /// Every arm was measured in this round.
    pub fn end_round(&mut self) {
        self.done.push(std::array::from_fn(|arm| self.sum[arm] / f64::from(self.count[arm])));
        self.sum = [0.0; N];
        self.count = [0; N];
    }

    pub fn count(&self) -> usize {
        self.done.len()
    }

    pub fn values(&self, arm: usize) -> Vec<f64> {
        self.done.iter().map(|round| round[arm]).collect()
    }

    pub fn median(&self, arm: usize) -> f64 {
        median(&self.values(arm))
    }

    /// One arm by another, in each round.
    pub fn ratios(&self, arm: usize, by: usize) -> Vec<f64> {
        self.done.iter().map(|round| round[arm] / round[by]).collect()
    }

    pub fn ratio(&self, arm: usize, by: usize) -> Estimate {
        Estimate::of(&self.ratios(arm, by))
    }

    /// The same rounds with other arms, made of the old ones: for example each less the cost of what surrounds it.
    pub fn map<const M: usize>(&self, arms: impl Fn(&[f64; N]) -> [f64; M]) -> Rounds<M> {
        Rounds { done: self.done.iter().map(arms).collect(), ..Rounds::default() }
    }
}

/// `0 … n-1` and back again.
pub fn there_and_back(n: usize) -> impl Iterator<Item = usize> {
    (0..n).chain((0..n).rev())
}

/// The least of several values of each arm, measured there and back so often. For times that are short against a round:
/// other work only ever adds to a time, so the least is the one with the least of it.
pub async fn least<const N: usize>(
    repeats: usize,
    mut time: impl AsyncFnMut(usize) -> Result<f64>,
) -> Result<[f64; N]> {
    let mut least = [f64::INFINITY; N];
    for _ in 0..repeats {
        for arm in there_and_back(N) {
            least[arm] = least[arm].min(time(arm).await?);
        }
    }
    Ok(least)
}

/// Says every few seconds how far a long measurement is.
pub struct Ticker {
    title: String,
    rounds: usize,
    start: Instant,
    said: Instant,
}

impl Ticker {
    const EVERY: Duration = Duration::from_secs(10);

    pub fn new(title: impl Into<String>, rounds: usize) -> Ticker {
        let title = title.into();
        progress::say(format!("{title}: {rounds} rounds"));
        Ticker { title, rounds, start: Instant::now(), said: Instant::now() }
    }

    /// After each round, with the number of rounds that are done.
    pub fn tick(&mut self, done: usize) {
        if done == self.rounds {
            progress::say(format!("{} ({:.1} s)", self.title, self.start.elapsed().as_secs_f64()));
        } else if self.said.elapsed() >= Self::EVERY {
            self.said = Instant::now();
            progress::say(format!("{}: {done} of {} rounds", self.title, self.rounds));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_drift_cancels_out() {
        let mut rounds = Rounds::<2>::default();
        let mut clock = 10.0;
        for _ in 0..3 {
            for arm in there_and_back(2) {
                rounds.add(arm, clock);
                clock += 1.0;
            }
            rounds.end_round();
        }
        assert_eq!(rounds.ratios(0, 1), [1.0; 3]);
        assert_eq!(rounds.median(0), 15.5);
    }

    #[test]
    fn arms_are_made_of_arms() {
        let mut rounds = Rounds::<2>::default();
        rounds.add(0, 5.0);
        rounds.add(1, 2.0);
        rounds.end_round();
        assert_eq!(rounds.map(|[with, without]| [with - without]).values(0), [3.0]);
    }
}
