//! Curves over a count, and the limit that they must stay under, if there is one.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::{FAINT, FONT, GRID, INK, LIMIT, text};
use crate::bench::report::grouped;

/// A whole chart.
pub struct Lines {
    pub title: String,
    pub subtitle: String,
    pub across: Axis,
    pub up: Axis,
    /// Where the limit lies, and what to write beside it.
    pub limit: Option<(f64, String)>,
    pub curves: Vec<Curve>,
}

pub struct Axis {
    pub name: String,
    /// Twice as much is the same distance everywhere; begins with the least that is drawn.
    pub is_doubling: bool,
}

impl Axis {
    /// From 0, the same distance for each unit.
    pub fn even(name: &str) -> Axis {
        Axis { name: name.into(), is_doubling: false }
    }

    fn place(&self, value: f64) -> f64 {
        if self.is_doubling { value.max(f64::MIN_POSITIVE).log2() } else { value }
    }

    /// Where it begins and ends.
    fn range(&self, values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
        let least = if self.is_doubling { f64::INFINITY } else { 0.0 };
        let low = values.clone().map(|value| self.place(value)).fold(least, f64::min);
        let high = values.map(|value| self.place(value)).fold(low, f64::max);
        if self.is_doubling { (low.floor(), high.ceil()) } else { (low, high) }
    }

    fn label(&self, place: f64, digits: usize) -> String {
        match self.is_doubling {
            true if place < 0.0 => format!("{:.2}", place.exp2()),
            true => grouped(place.exp2()),
            false if digits == 0 => grouped(place),
            false => format!("{place:.digits$}"),
        }
    }
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
        let limit = self.limit.as_ref().map(|limit| limit.0);
        let (left, right) = self.across.range(points().map(|point| point.0));
        let (low, high) = self.up.range(points().map(|point| point.1).chain(limit));
        let room = if self.up.is_doubling { 0.0 } else { (high - low) * 0.1 };

        let plot = area.margin(76, 12, 12, 44);
        let mut chart = ChartBuilder::on(&plot)
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d(left..right.max(left + 1.0), (low - room)..(high + room))?;
        let labels = |axis: &Axis, low: f64, high: f64, many: usize| {
            if axis.is_doubling { (high - low) as usize + 1 } else { many }
        };
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(WHITE)
            .axis_style(FAINT)
            .label_style(text(12, FAINT))
            .axis_desc_style(text(13, FAINT))
            .x_desc(&self.across.name)
            .y_desc(&self.up.name)
            .x_labels(labels(&self.across, left, right, 6))
            .y_labels(labels(&self.up, low, high, 7))
            .x_label_formatter(&|x| self.across.label(*x, 0))
            .y_label_formatter(&|y| self.up.label(*y, 1))
            .draw()?;
        if let Some((limit, note)) = &self.limit {
            let limit = self.up.place(*limit);
            chart.draw_series([PathElement::new(vec![(left, limit), (right, limit)], LIMIT.stroke_width(2))])?;
            let place = (left + (right - left) * 0.01, limit + room * 0.7);
            chart.draw_series([Text::new(note.clone(), place, text(13, LIMIT))])?;
        }
        for (curve, colour) in self.curves.iter().zip(COLOURS.iter().cycle()) {
            let line = curve.points.iter().map(|point| (self.across.place(point.0), self.up.place(point.1)));
            chart.draw_series([PathElement::new(line.collect::<Vec<_>>(), colour.stroke_width(3))])?;
        }
        // The names lie where a curve that keeps to the limit never comes: in the upper half, below the limit.
        let top = self.limit.as_ref().map_or(high, |limit| self.up.place(limit.0));
        let (left, mut y) = chart.backend_coord(&(left + (right - left) * 0.02, low + (top - low) * 0.95));
        for (curve, colour) in self.curves.iter().zip(COLOURS.iter().cycle()) {
            area.draw(&PathElement::new([(left, y + 6), (left + 24, y + 6)], colour.stroke_width(3)))?;
            area.draw(&Text::new(curve.name.clone(), (left + 32, y), text(13, INK)))?;
            y += LINE;
        }
        area.present()
    }
}
