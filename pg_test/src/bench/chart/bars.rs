//! Horizontal bars in groups, each with its rounds as dots, and a line for the target of ours.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::{FAINT, FONT, GRID, INK, LIMIT, OURS, RIVAL, text, tick_label, ticks};
use crate::bench::stats::Estimate;

/// A whole chart.
pub struct Bars {
    pub title: String,
    pub subtitle: String,
    /// What the axis counts.
    pub axis: String,
    /// Where the axis begins: 0, so that lengths can be compared, or a value near what is measured, so that small differences
    /// can be seen; then there are no bars, only dots, the median and its interval.
    pub from: f64,
    pub groups: Vec<Group>,
}

pub struct Group {
    pub title: String,
    /// Where the target of ours lies on the axis, and what to write above it.
    pub target: Option<(f64, String)>,
    pub bars: Vec<Bar>,
}

pub struct Bar {
    pub name: String,
    pub ours: bool,
    /// One for each round, in the axis' unit.
    pub rounds: Vec<f64>,
    pub median: f64,
    /// What to write at its end.
    pub label: String,
}

const WIDTH: u32 = 960;
const LEFT: i32 = 300;
const RIGHT: i32 = 810;
const TOP: i32 = 80;
const ROW: i32 = 24;
const HEAD: i32 = 34;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl Bars {
    pub fn write(&self, path: &Path) -> Result<()> {
        let bottom = TOP + self.groups.iter().map(height).sum::<i32>();
        let size = (WIDTH, u32::try_from(bottom + 60)?);
        let area = SVGBackend::new(path, size).into_drawing_area();
        self.draw(&area, bottom).map_err(|error| anyhow!("drawing {}: {error}", path.display()))
    }

    fn draw<'a>(&self, area: &Area<'a>, bottom: i32) -> Result<(), Fault<'a>> {
        area.fill(&WHITE)?;
        area.draw(&Text::new(self.title.clone(), (20, 18), (FONT, 20).into_font().style(FontStyle::Bold).color(&INK)))?;
        area.draw(&Text::new(self.subtitle.clone(), (20, 46), text(13, FAINT)))?;
        self.draw_axis(area, bottom)?;
        let mut y = TOP;
        for group in &self.groups {
            self.draw_group(area, group, y)?;
            y += height(group);
        }
        area.present()
    }

    /// The end of the axis.
    fn to(&self) -> f64 {
        let bars = self.groups.iter().flat_map(|group| &group.bars);
        let values = bars.flat_map(|bar| bar.rounds.iter().chain([&bar.median]));
        let targets = self.groups.iter().filter_map(|group| Some(&group.target.as_ref()?.0));
        let most = values.chain(targets).copied().fold(self.from, f64::max);
        most + (most - self.from) * 0.02
    }

    fn x(&self, value: f64) -> i32 {
        let share = ((value - self.from) / (self.to() - self.from)).clamp(0.0, 1.0);
        LEFT + (share * f64::from(RIGHT - LEFT)).round() as i32
    }

    fn draw_axis<'a>(&self, area: &Area<'a>, bottom: i32) -> Result<(), Fault<'a>> {
        let all = ticks(self.from, self.to(), 10);
        for tick in &all {
            let x = self.x(*tick);
            area.draw(&PathElement::new([(x, TOP), (x, bottom)], GRID))?;
            let label = tick_label(*tick, &all);
            // About half the width of the label, which is a few digits.
            let half = 3 * i32::try_from(label.len()).unwrap_or(0);
            area.draw(&Text::new(label, (x - half, bottom + 8), text(12, FAINT)))?;
        }
        area.draw(&Text::new(self.axis.clone(), (LEFT, bottom + 30), text(12, FAINT)))
    }

    fn draw_group<'a>(&self, area: &Area<'a>, group: &Group, top: i32) -> Result<(), Fault<'a>> {
        let title = (FONT, 14).into_font().style(FontStyle::Bold).color(&INK);
        area.draw(&Text::new(group.title.clone(), (20, top + 12), title))?;
        let limit = group.target.as_ref().map(|(value, _)| self.x(*value));
        for (bar, y) in group.bars.iter().zip((top + HEAD..).step_by(ROW as usize)) {
            self.draw_bar(area, bar, y, limit.filter(|_| bar.ours))?;
        }
        let (Some(x), Some((_, words))) = (limit, &group.target) else { return Ok(()) };
        area.draw(&Text::new(words.clone(), (x - 3, top + 14), text(12, LIMIT)))
    }

    fn draw_bar<'a>(&self, area: &Area<'a>, bar: &Bar, y: i32, limit: Option<i32>) -> Result<(), Fault<'a>> {
        let colour = if bar.ours { OURS } else { RIVAL };
        let middle = y + ROW / 2;
        area.draw(&Text::new(bar.name.clone(), (34, middle - 7), text(13, if bar.ours { OURS } else { INK })))?;
        let end = self.x(bar.median);
        if self.from == 0.0 {
            area.draw(&Rectangle::new([(LEFT, y + 4), (end, y + ROW - 4)], colour.mix(0.55).filled()))?;
        } else {
            let Estimate { low, high, .. } = Estimate::of(&bar.rounds);
            let interval = [(self.x(low), y + 5), (self.x(high), y + ROW - 5)];
            area.draw(&Rectangle::new(interval, colour.mix(0.2).filled()))?;
            area.draw(&PathElement::new([(end, y + 3), (end, y + ROW - 3)], colour.stroke_width(3)))?;
        }
        let mut rightmost = end;
        for round in &bar.rounds {
            let x = self.x(*round);
            rightmost = rightmost.max(x);
            area.draw(&Circle::new((x, middle), 2, colour.filled()))?;
        }
        if let Some(x) = limit {
            rightmost = rightmost.max(x);
            area.draw(&PathElement::new([(x, y - 1), (x, y + ROW + 1)], LIMIT.stroke_width(2)))?;
        }
        // Beside the last mark, or beyond the axis in one column when there is no bar to belong to.
        let x = if self.from == 0.0 { rightmost + 10 } else { RIGHT + 14 };
        area.draw(&Text::new(bar.label.clone(), (x, middle - 7), text(13, INK)))
    }
}

fn height(group: &Group) -> i32 {
    HEAD + ROW * i32::try_from(group.bars.len()).unwrap_or(0) + 6
}

type Fault<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;
