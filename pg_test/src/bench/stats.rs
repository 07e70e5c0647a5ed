//! Median, and the interval it may lie in. Nothing is assumed of how the values are spread.

/// A median and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Estimate {
    /// Of at least one value; NaN of none.
    ///
    /// The interval ends at two of the values themselves: the median of what was sampled lies outside of them only if
    /// far more than half of the sample fell on one side, which is as likely as so many heads of a coin. Fewer than
    /// six values cannot be that unlikely; theirs is from the least to the greatest.
    pub fn of(values: &[f64]) -> Estimate {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else {
            return Estimate { median: f64::NAN, low: f64::NAN, high: f64::NAN };
        };
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        let Some(skipped) = outside(sorted.len()) else {
            return Estimate { median, low: *first, high: *last };
        };
        Estimate { median, low: sorted[skipped], high: sorted[sorted.len() - 1 - skipped] }
    }
}

/// The median alone.
pub fn median(values: &[f64]) -> f64 {
    Estimate::of(values).median
}

/// The value that so many percent do not exceed; NaN of none.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// How many of `n` sorted values may be left out at each end, so that the rest holds the median with 95 %: the most for which
/// so few or fewer heads in `n` tosses have a probability of at most 2.5 %.
fn outside(n: usize) -> Option<usize> {
    let n = i32::try_from(n).ok()?;
    // From logarithms, because 2^n overflows for the samples of a long run.
    let mut log_probability = -f64::from(n) * std::f64::consts::LN_2;
    let mut so_far = 0.0;
    let mut skipped = None;
    for heads in 0..n {
        so_far += log_probability.exp();
        if so_far > 0.025 {
            break;
        }
        skipped = usize::try_from(heads).ok();
        log_probability += (f64::from(n - heads) / f64::from(heads + 1)).ln();
    }
    skipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!([0.0, 50.0, 99.0, 100.0].map(|percent| percentile(&values, percent)), [1.0, 100.0, 198.0, 200.0]);
        assert!(percentile(&[], 50.0).is_nan());
    }

    /// The tables of the sign test.
    #[test]
    fn the_interval_leaves_out_what_the_tables_say() {
        let tables =
            [(5, None), (6, Some(0)), (8, Some(0)), (9, Some(1)), (15, Some(3)), (20, Some(5)), (100, Some(39))];
        for (n, skipped) in tables {
            assert_eq!(outside(n), skipped, "{n}");
        }
        assert!(outside(5000).is_some());
    }

    #[test]
    fn an_outlier_does_not_move_the_interval() {
        let mut values: Vec<f64> = (1..=15).map(f64::from).collect();
        values[14] = 1e9;
        assert_eq!(Estimate::of(&values), Estimate { median: 8.0, low: 4.0, high: 12.0 });
    }
}
