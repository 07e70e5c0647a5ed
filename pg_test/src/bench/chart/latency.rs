//! Times of single operations over a run, one panel a side, with a scale by powers of ten.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::{FAINT, FONT, GRID, INK, LIMIT, OURS, RIVAL, text};

/// A whole chart.
pub struct Latency {
    pub title: String,
    pub subtitle: String,
    /// Milliseconds that ours has to stay under, and what to write beside it.
    pub limit: (f64, String),
    pub panels: Vec<Panel>,
}

pub struct Panel {
    pub name: String,
    pub ours: bool,
    /// Seconds since the start, and milliseconds.
    pub points: Vec<(f64, f64)>,
    /// Seconds from and to, drawn in grey behind.
    pub bands: Vec<(f64, f64)>,
}

const WIDTH: u32 = 960;
const HEAD: u32 = 76;
const PANEL: u32 = 150;
const FOOT: u32 = 20;
/// Seconds of which the slowest is drawn.
const STEP: f64 = 0.05;

type Fault<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

impl Latency {
    pub fn write(&self, path: &Path) -> Result<()> {
        self.draw(path).map_err(|error| anyhow!("drawing {}: {error}", path.display()))
    }

    fn draw<'a>(&self, path: &'a Path) -> Result<(), Fault<'a>> {
        let count = u32::try_from(self.panels.len()).unwrap_or(0);
        let area = SVGBackend::new(path, (WIDTH, HEAD + count * PANEL + FOOT)).into_drawing_area();
        area.fill(&WHITE)?;
        area.draw(&Text::new(self.title.clone(), (20, 18), (FONT, 20).into_font().style(FontStyle::Bold).color(&INK)))?;
        area.draw(&Text::new(self.subtitle.clone(), (20, 46), text(13, FAINT)))?;

        let points = || self.panels.iter().flat_map(|panel| &panel.points);
        let right = points().map(|point| point.0).fold(1.0, f64::max);
        let high = points().map(|point| point.1).fold(self.limit.0, f64::max);
        // From a tenth of a millisecond to the next power of ten.
        let scale = || (0.1..10f64.powf(high.log10().ceil())).log_scale();
        let (_, below) = area.split_vertically(HEAD);
        for (panel, place) in self.panels.iter().zip(below.margin(0, FOOT, 12, 44).split_evenly((self.panels.len(), 1)))
        {
            let colour = if panel.ours { OURS } else { RIVAL };
            place.draw(&Text::new(panel.name.clone(), (64, 0), text(13, if panel.ours { OURS } else { INK })))?;
            let mut chart = ChartBuilder::on(&place)
                .margin_top(18)
                .x_label_area_size(22)
                .y_label_area_size(64)
                .build_cartesian_2d(0.0..right, scale())?;
            let band = |(from, to): &(f64, f64)| {
                Rectangle::new([(from.min(right), 0.1), (to.min(right), high * 10.0)], GRID.mix(0.6).filled())
            };
            chart.draw_series(panel.bands.iter().map(band))?;
            chart
                .configure_mesh()
                .disable_x_mesh()
                .bold_line_style(GRID)
                .light_line_style(TRANSPARENT)
                .axis_style(FAINT)
                .label_style(text(12, FAINT))
                .x_labels(12)
                .y_labels(6)
                .x_label_formatter(&|x| format!("{x:.0} s"))
                .y_label_formatter(&|y| format!("{y}"))
                .draw()?;
            chart.draw_series([PathElement::new(
                vec![(0.0, self.limit.0), (right, self.limit.0)],
                LIMIT.stroke_width(1),
            )])?;
            chart.draw_series([PathElement::new(slowest(&panel.points), colour.stroke_width(1))])?;
            if panel.ours {
                let above = (right * 0.005, self.limit.0 * 2.6);
                chart.draw_series([Text::new(self.limit.1.clone(), above, text(12, LIMIT))])?;
            }
        }
        area.present()
    }
}

/// The slowest of each step, in the order of time.
fn slowest(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut shown: Vec<(f64, f64)> = Vec::new();
    for (second, time) in points {
        let step = (second / STEP).floor() * STEP;
        match shown.last_mut() {
            Some(last) if last.0 == step => last.1 = last.1.max(*time),
            _ => shown.push((step, *time)),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_step_the_slowest_is_shown() {
        let points = [(0.0, 1.0), (0.01, 9.0), (0.04, 2.0), (0.06, 3.0), (0.11, 4.0)];
        assert_eq!(slowest(&points).iter().map(|point| point.1).collect::<Vec<_>>(), [9.0, 3.0, 4.0]);
    }
}
