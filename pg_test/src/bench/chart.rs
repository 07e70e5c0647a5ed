//! The SVG: bars with every round as a dot, lines over time, and times of single operations.
//!
//! Text is placed by hand: the drawing library cannot know the widths of a viewer's font.

mod bars;
mod latency;
mod lines;

pub use bars::{Bar, Bars, Group};
pub use latency::{Latency, Panel};
pub use lines::{Axis, Curve, Lines};

use plotters::prelude::RGBColor;
use plotters::style::{IntoFont, TextStyle};

const FONT: &str = "Helvetica, Arial, sans-serif";
const INK: RGBColor = RGBColor(33, 37, 41);
const FAINT: RGBColor = RGBColor(108, 117, 125);
const GRID: RGBColor = RGBColor(226, 230, 234);
const OURS: RGBColor = RGBColor(21, 101, 192);
const RIVAL: RGBColor = RGBColor(117, 117, 117);
const LIMIT: RGBColor = RGBColor(198, 40, 40);

fn text(size: u32, colour: RGBColor) -> TextStyle<'static> {
    (FONT, size).into_font().color(&colour)
}

/// Round numbers from `low` to `high`, at most about `count` of them.
fn ticks(low: f64, high: f64, count: u32) -> Vec<f64> {
    let rough = (high - low) / f64::from(count);
    if rough.is_nan() || rough <= 0.0 {
        return vec![low];
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= rough).unwrap_or(rough);
    let first = (low / step).ceil();
    (0..).map(|n| (first + f64::from(n)) * step).take_while(|tick| *tick <= high + step * 1e-9).collect()
}

/// With as many digits as tell it from its neighbour.
fn tick_label(tick: f64, all: &[f64]) -> String {
    let step = all.windows(2).next().map_or(1.0, |pair| pair[1] - pair[0]);
    let digits = if step >= 1.0 {
        0
    } else if step >= 0.0999 {
        1
    } else {
        2
    };
    format!("{tick:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 6.2, 8), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let fine = ticks(0.93, 1.08, 5);
        assert_eq!(fine.iter().map(|tick| tick_label(*tick, &fine)).collect::<Vec<_>>(), ["0.95", "1.00", "1.05"]);
        assert_eq!(ticks(1.0, 1.0, 5), [1.0]);
    }
}
