//! Curves over a count, with a limit that they must stay under.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::{FAINT, FONT, GRID, INK, LIMIT, text};
use crate::bench::report::grouped;

/// A whole chart.
pub struct Lines {
    pub title: String,
    pub subtitle: String,
    pub across: String,
    pub up: String,
    /// Where the limit lies, and what to write beside it.
    pub limit: (f64, String),
    pub curves: Vec<Curve>,
}

pub struct Curve {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

const SIZE: (u32, u32) = (960, 460);
const COLOURS: [RGBColor; 4] =
    [RGBColor(21, 101, 192), RGBColor(0, 137, 123), RGBColor(158, 158, 158), RGBColor(109, 76, 65)];
const LINE: i32 = 20;

type Fault<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

impl Lines {
    pub fn write(&self, path: &Path) -> Result<()> {
        self.draw(path).map_err(|error| anyhow!("drawing {}: {error}", path.display()))
    }

    fn draw<'a>(&self, path: &'a Path) -> Result<(), Fault<'a>> {
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        area.draw(&Text::new(self.title.clone(), (20, 18), (FONT, 20).into_font().style(FontStyle::Bold).color(&INK)))?;
        area.draw(&Text::new(self.subtitle.clone(), (20, 46), text(13, FAINT)))?;

        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let right = points().map(|point| point.0).fold(1.0, f64::max);
        let low = points().map(|point| point.1).fold(0.0, f64::min);
        let high = points().map(|point| point.1).fold(self.limit.0, f64::max);
        let room = (high - low) * 0.1;

        let plot = area.margin(76, 12, 12, 44);
        let mut chart = ChartBuilder::on(&plot)
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..right, (low - room)..(high + room))?;
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(WHITE)
            .axis_style(FAINT)
            .label_style(text(12, FAINT))
            .axis_desc_style(text(13, FAINT))
            .x_desc(&self.across)
            .y_desc(&self.up)
            .x_labels(6)
            .y_labels(7)
            .x_label_formatter(&|x| grouped(*x))
            .y_label_formatter(&|y| format!("{y:.1}"))
            .draw()?;
        let limit = vec![(0.0, self.limit.0), (right, self.limit.0)];
        chart.draw_series([PathElement::new(limit, LIMIT.stroke_width(2))])?;
        let place = (right * 0.01, self.limit.0 + room * 0.7);
        chart.draw_series([Text::new(self.limit.1.clone(), place, text(13, LIMIT))])?;
        for (curve, colour) in self.curves.iter().zip(COLOURS.iter().cycle()) {
            chart.draw_series([PathElement::new(curve.points.clone(), colour.stroke_width(3))])?;
        }
        // The names lie where a curve that keeps to the limit never comes: in the upper half, below the limit.
        let (left, mut y) = chart.backend_coord(&(right * 0.02, low + (self.limit.0 - low) * 0.85));
        for (curve, colour) in self.curves.iter().zip(COLOURS.iter().cycle()) {
            area.draw(&PathElement::new([(left, y + 6), (left + 24, y + 6)], colour.stroke_width(3)))?;
            area.draw(&Text::new(curve.name.clone(), (left + 32, y), text(13, INK)))?;
            y += LINE;
        }
        area.present()
    }
}
