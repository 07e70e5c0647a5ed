//! What a table lacks and what it may let go of, from its partitions and the clock. Pure Rust.

use super::bound::{Edge, Kind, Range};
use super::span::{Every, Span};
use super::time::{FUTURE, LAST};

/// How a table is managed.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub kind: Kind,
    pub every: Every,
    pub retain: Span,
    /// Partitions ahead of the present one.
    pub premake: i64,
}

impl Rule {
    /// What ends at or before this moment is expired.
    pub fn cutoff(&self, now: i64) -> i64 {
        self.retain.before(now)
    }

    /// Up to this moment there have to be partitions.
    fn horizon(&self, now: i64) -> i64 {
        self.every.line(now, self.premake).min(LAST)
    }

    fn range(&self, lower: Edge, upper: Edge) -> Range {
        Range { lower, upper }
    }

    /// The partitions that are missing: those for now and later first, in order, then holes of the past, the latest first. `leaves` are
    /// those there are, in order.
    pub fn missing(&self, leaves: &[Range], now: i64, limit: usize) -> Vec<Range> {
        let horizon = self.horizon(now);
        let mut found = Vec::new();
        let Some(first) = leaves.first() else {
            let anchor = self.every.aligned(now);
            let lower = Edge::at(self.kind, anchor);
            self.fill(&lower, None, anchor, horizon, limit, &mut found);
            return found;
        };
        // A hole is filled from where it begins, or from where rows are still kept.
        let begin = if now < first.lower.at {
            let number = self.every.number(first.lower.at, now);
            self.every.line(first.lower.at, number)
        } else {
            self.cutoff(now).max(first.lower.at)
        };
        if now < first.lower.at {
            let lower = Edge::at(self.kind, begin);
            self.fill(&lower, Some(&first.lower), first.lower.at, horizon, limit, &mut found);
        }
        let followers = leaves.iter().skip(1).map(|leaf| Some(&leaf.lower)).chain([None]);
        for (leaf, follower) in leaves.iter().zip(followers) {
            let start = &leaf.upper;
            let empty = start.at == FUTURE || follower.is_some_and(|follower| follower.at <= start.at);
            if empty || start.at > horizon || follower.is_some_and(|follower| follower.at <= begin) {
                continue;
            }
            let lower = if start.at >= begin {
                start.clone()
            } else {
                Edge::at(self.kind, self.every.line(start.at, self.every.number(start.at, begin)))
            };
            self.fill(&lower, follower, start.at, horizon, limit, &mut found);
        }
        found.sort_by_key(|range| {
            (range.upper.at <= now, if range.upper.at <= now { -range.lower.at } else { range.lower.at })
        });
        found.truncate(limit);
        found
    }

    /// From `lower` along the grid of the anchor, up to `end` or past the horizon.
    fn fill(&self, lower: &Edge, end: Option<&Edge>, anchor: i64, horizon: i64, limit: usize, found: &mut Vec<Range>) {
        let mut lower = lower.clone();
        let mut number = self.every.number(anchor, lower.at);
        let before = found.len();
        while lower.at <= horizon && end.is_none_or(|end| lower.at < end.at) && found.len() - before < limit {
            number += 1;
            let mut upper = Edge::at(self.kind, self.every.line(anchor, number));
            if upper.at <= lower.at {
                // The lower end stands between two lines, or both fall on one moment that the type can tell.
                continue;
            }
            if let Some(end) = end
                && upper.at >= end.at
            {
                upper = end.clone();
            }
            found.push(self.range(lower, upper.clone()));
            lower = upper;
        }
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
    use super::super::time::{self, DAY};
    use super::*;

    fn at(text: &str) -> i64 {
        time::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    fn rule(every: Every, keep_days: i64, premake: i64) -> Rule {
        Rule { kind: Kind::Date, every, retain: Span { days: keep_days, ..Span::default() }, premake }
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
        let found = rule(DAILY, 3, 2).missing(&leaves, at("2026-01-10 12:00:00"), 4);
        assert_eq!(
            lowers(&found),
            ["01-07", "01-08", "01-09", "01-10"][3..]
                .iter()
                .chain(&["01-09", "01-08", "01-07"])
                .copied()
                .collect::<Vec<_>>()
        );
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
