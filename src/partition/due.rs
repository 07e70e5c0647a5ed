//! What a table lacks and what it may let go of, from its partitions and the clock. Pure Rust.

use super::bound::{Edge, Kind, Range};
use super::span::{Every, Span};
use super::time::{DAY, FUTURE, LAST};

/// How a table is managed.
#[derive(Clone, Copy, Debug)]
pub struct RetentionRule {
    pub kind: Kind,
    pub every: Every,
    pub retain: Span,
    /// Partitions ahead of the present one.
    pub premake: i64,
}

/// What no partition covers.
struct Gap {
    start: Edge,
    end: Option<Edge>,
    /// Where the grid stands.
    anchor: i64,
}

impl RetentionRule {
    /// What the clock has to go ahead of the last run, at the least, to be in doubt. Not as much as rows are kept for: a clock that is wrong by
    /// less than that drops what is too young as well.
    pub fn clock_jump_limit(&self) -> i64 {
        self.every.length().clamp(DAY / 24, DAY)
    }

    /// What ends at or before this moment is expired.
    pub fn cutoff(&self, now: i64) -> i64 {
        self.retain.before(now)
    }

    /// Up to this moment there have to be partitions.
    fn horizon(&self, now: i64) -> i64 {
        self.every.boundary(now, self.premake).min(LAST)
    }

    /// The partitions that are missing: those for now and later first, in order, then holes of the past, the latest first. `leaves` are
    /// those there are, in order.
    pub fn missing(&self, leaves: &[Range], now: i64, limit: usize) -> Vec<Range> {
        let mut found = Vec::new();
        let Some(first) = leaves.first() else {
            let anchor = self.every.aligned(now);
            self.fill(&Gap { start: Edge::at(self.kind, anchor), end: None, anchor }, now, limit, &mut found);
            return found;
        };
        // A hole is filled from where it begins, or from where rows are still kept.
        let mut begin = self.cutoff(now).max(first.lower.at);
        if now < first.lower.at {
            // No grid stands on infinity.
            let anchor = if first.lower.at == FUTURE { self.every.aligned(now) } else { first.lower.at };
            begin = self.every.boundary(anchor, self.every.number(anchor, now));
            let start = Edge::at(self.kind, begin);
            self.fill(&Gap { start, end: Some(first.lower.clone()), anchor }, now, limit, &mut found);
        }
        let followers = leaves.iter().skip(1).map(|leaf| Some(&leaf.lower)).chain([None]);
        for (leaf, end) in leaves.iter().zip(followers) {
            let anchor = leaf.upper.at;
            if anchor == FUTURE || end.is_some_and(|end| end.at <= anchor.max(begin)) {
                continue;
            }
            let start = if anchor >= begin {
                leaf.upper.clone()
            } else {
                Edge::at(self.kind, self.every.boundary(anchor, self.every.number(anchor, begin)))
            };
            self.fill(&Gap { start, end: end.cloned(), anchor }, now, limit, &mut found);
        }
        let is_past = |range: &Range| range.upper.at <= now;
        found.sort_by_key(|range| (is_past(range), if is_past(range) { -range.lower.at } else { range.lower.at }));
        found.truncate(limit);
        found
    }

    /// The gap's partitions along its grid: from the one that holds now up to the horizon, and from there back, so many each way.
    fn fill(&self, gap: &Gap, now: i64, limit: usize, found: &mut Vec<Range>) {
        let horizon = self.horizon(now);
        let stop = gap.end.as_ref().map_or(horizon, |end| horizon.min(end.at.saturating_sub(1)));
        if gap.start.at > stop {
            return;
        }
        let [first, present, last] = [gap.start.at, now, stop].map(|moment| self.every.number(gap.anchor, moment));
        let ahead = present.max(first)..=last;
        let back = (first..=last.min(present - 1)).rev();
        found.extend(ahead.filter_map(|number| self.piece(gap, number)).take(limit));
        found.extend(back.filter_map(|number| self.piece(gap, number)).take(limit));
    }

    /// What stands between two boundaries of the grid, cut to the gap; None where the type cannot tell them apart.
    fn piece(&self, gap: &Gap, number: i64) -> Option<Range> {
        let mut lower = Edge::at(self.kind, self.every.boundary(gap.anchor, number));
        let mut upper = Edge::at(self.kind, self.every.boundary(gap.anchor, number + 1));
        if lower.at <= gap.start.at {
            lower = gap.start.clone();
        }
        if let Some(end) = &gap.end
            && upper.at >= end.at
        {
            upper = end.clone();
        }
        (lower.at < upper.at).then_some(Range { lower, upper })
    }

    /// Whether a partition holds nothing any more that has to be kept.
    pub fn is_expired(&self, leaf: &Range, now: i64) -> bool {
        leaf.upper.at != FUTURE && leaf.upper.at <= self.cutoff(now)
    }

    /// How long there are partitions without a gap from now on; 0 when there is none for now.
    pub fn runway(&self, leaves: &[Range], now: i64) -> i64 {
        let mut end = now;
        for leaf in leaves {
            if leaf.lower.at <= end && leaf.upper.at > end {
                end = leaf.upper.at;
            }
        }
        if end == FUTURE { FUTURE } else { end - now }
    }
}

#[cfg(test)]
mod tests {
    use super::super::time;
    use super::*;

    fn at(text: &str) -> i64 {
        time::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    fn rule(every: Every, keep_days: i64, premake: i64) -> RetentionRule {
        RetentionRule { kind: Kind::Date, every, retain: Span { days: keep_days, ..Span::default() }, premake }
    }

    fn leaf(lower: &str, upper: &str) -> Range {
        let edge = |text: &str| match text {
            "MINVALUE" | "MAXVALUE" => {
                Range::parse(Kind::Date, &format!("FOR VALUES FROM ({text}) TO ({text})")).unwrap().lower
            }
            _ => Edge::at(Kind::Date, at(text)),
        };
        Range { lower: edge(lower), upper: edge(upper) }
    }

    fn lowers(found: &[Range]) -> Vec<String> {
        found.iter().map(|range| time::print_date(range.lower.at)[5..].to_owned()).collect()
    }

    const DAILY: Every = Every::Fixed(DAY);

    #[test]
    fn a_table_without_partitions_gets_the_present_and_those_ahead() {
        let found = rule(DAILY, 30, 3).missing(&[], at("2026-01-05 13:00:00"), 100);
        assert_eq!(lowers(&found), ["01-05", "01-06", "01-07", "01-08"]);
        let found = rule(Every::Months(1), 90, 1).missing(&[], at("2026-01-31 13:00:00"), 100);
        assert_eq!(lowers(&found), ["01-01", "02-01"]);
    }

    #[test]
    fn it_goes_on_where_the_last_one_ends() {
        let leaves = [leaf("2026-01-01", "2026-01-04"), leaf("2026-01-04", "2026-01-06")];
        let found = rule(Every::Fixed(2 * DAY), 30, 2).missing(&leaves, at("2026-01-05"), 100);
        assert_eq!(lowers(&found), ["01-06", "01-08"]);
        assert!(rule(DAILY, 30, 3).missing(&[leaf("MINVALUE", "MAXVALUE")], at("2026-01-05"), 9).is_empty());
        assert!(rule(DAILY, 30, 3).missing(&[leaf("2026-01-01", "2027-01-01")], at("2026-01-05"), 9).is_empty());
    }

    #[test]
    fn after_an_outage_the_present_comes_before_the_holes() {
        let leaves = [leaf("2026-01-01", "2026-01-02")];
        let found = rule(DAILY, 3, 2).missing(&leaves, at("2026-01-10 12:00:00"), 100);
        assert_eq!(lowers(&found), ["01-10", "01-11", "01-12", "01-09", "01-08", "01-07"]);
        for limit in 1..6 {
            assert_eq!(rule(DAILY, 3, 2).missing(&leaves, at("2026-01-10 12:00:00"), limit), found[..limit]);
        }
    }

    #[test]
    fn a_hole_between_two_is_filled_to_its_edges() {
        let leaves = [leaf("2026-01-01", "2026-01-03"), leaf("2026-01-06", "2026-01-20")];
        let found = rule(Every::Fixed(2 * DAY), 30, 2).missing(&leaves, at("2026-01-07"), 100);
        let ends: Vec<_> = found.iter().map(Range::values).collect();
        assert_eq!(ends, ["FROM ('2026-01-05') TO ('2026-01-06')", "FROM ('2026-01-03') TO ('2026-01-05')"]);
    }

    #[test]
    fn nothing_is_made_before_the_first_partition() {
        let leaves = [leaf("2026-01-04", "2026-01-05")];
        let found = rule(DAILY, 300, 1).missing(&leaves, at("2026-01-05"), 100);
        assert_eq!(lowers(&found), ["01-05", "01-06"]);
    }

    #[test]
    fn a_clock_that_went_back_gets_its_partition() {
        let leaves = [leaf("2026-01-10", "2026-01-11")];
        let found = rule(DAILY, 30, 1).missing(&leaves, at("2026-01-05 08:00:00"), 100);
        assert_eq!(lowers(&found), ["01-05", "01-06"]);
        let near = rule(DAILY, 30, 9).missing(&leaves, at("2026-01-08 08:00:00"), 100);
        assert_eq!(lowers(&near)[..3], ["01-08", "01-09", "01-11"]);
    }

    #[test]
    fn what_is_for_infinity_alone_says_nothing_of_the_grid() {
        let infinity = Range::parse(Kind::Date, "FOR VALUES FROM ('infinity') TO (MAXVALUE)").unwrap();
        let leaves = std::slice::from_ref(&infinity);
        let found = rule(Every::Months(1), 90, 1).missing(leaves, at("2026-01-31 13:00:00"), 100);
        assert_eq!(lowers(&found), ["01-01", "02-01"]);
        let found = rule(Every::Fixed(7 * DAY), 90, 1).missing(leaves, at("2026-01-07"), 100);
        assert_eq!(lowers(&found), ["01-05", "01-12"]);
        assert!(!rule(DAILY, 90, 1).is_expired(&infinity, at("2026-01-07")));
    }

    #[test]
    fn only_what_is_wholly_past_expires() {
        let rule = rule(DAILY, 3, 1);
        let now = at("2026-01-10 12:00:00");
        assert!(rule.is_expired(&leaf("2026-01-06", "2026-01-07"), now));
        assert!(!rule.is_expired(&leaf("2026-01-07", "2026-01-08"), now));
        assert!(rule.is_expired(&leaf("MINVALUE", "2026-01-07"), now));
        assert!(!rule.is_expired(&leaf("2026-01-01", "MAXVALUE"), now));
    }

    #[test]
    fn the_runway_ends_at_the_first_gap() {
        let rule = rule(DAILY, 3, 1);
        let leaves =
            [leaf("2026-01-01", "2026-01-02"), leaf("2026-01-02", "2026-01-03"), leaf("2026-01-04", "2026-01-05")];
        assert_eq!(rule.runway(&leaves, at("2026-01-01 12:00:00")), DAY + DAY / 2);
        assert_eq!(rule.runway(&leaves, at("2026-01-03 12:00:00")), 0);
        assert_eq!(rule.runway(&[leaf("2026-01-01", "MAXVALUE")], at("2026-01-03")), FUTURE);
    }

    #[test]
    fn holes_and_partitions_cover_all_that_is_kept() {
        // Whatever partitions there are, what is made fits between them and leaves no hole from the cutoff to the horizon.
        let now = at("2026-03-15 12:00:00");
        let days = |from: i64, to: i64| Range {
            lower: Edge::at(Kind::Date, at("2026-03-01") + from * DAY),
            upper: Edge::at(Kind::Date, at("2026-03-01") + to * DAY),
        };
        for mask in 1_u32..1024 {
            let mut leaves: Vec<Range> = (0..10)
                .filter(|bit| mask >> bit & 1 == 1)
                .map(|bit| days(i64::from(bit) * 3, i64::from(bit) * 3 + 3))
                .collect();
            for every in [DAILY, Every::Fixed(2 * DAY), Every::Fixed(7 * DAY), Every::Months(1)] {
                let rule = rule(every, 9, 2);
                let made = rule.missing(&leaves, now, 1000);
                let mut all = leaves.clone();
                all.extend(made);
                all.sort_by_key(|range| range.lower.at);
                assert!(all.windows(2).all(|pair| pair[0].upper.at <= pair[1].lower.at), "{mask:b} {every:?}");
                let first = leaves[0].lower.at;
                let from = if now < first { now } else { rule.cutoff(now).max(first) };
                assert!(rule.runway(&all, from) >= rule.horizon(now).min(LAST) - from, "{mask:b} {every:?} {all:?}");
                assert!(rule.missing(&all, now, 1000).is_empty(), "{mask:b} {every:?}");
            }
            leaves.clear();
        }
    }
}
