//! Lengths of time, and the grid that partitions stand on. Pure Rust, in UTC, where every day has 24 hours.

use super::time::{self, Civil, DAY, FUTURE, PAST, SECOND};

/// An interval as the server keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    pub months: i64,
    pub days: i64,
    pub micros: i64,
}

impl Span {
    /// About how long; a month counts 30 days, as when the server compares intervals.
    pub fn length(self) -> i64 {
        let days = self.months.saturating_mul(30).saturating_add(self.days);
        days.saturating_mul(DAY).saturating_add(self.micros)
    }

    /// The moment this long before.
    pub fn before(self, moment: i64) -> i64 {
        if moment == PAST || moment == FUTURE {
            return moment;
        }
        let back = add_months(moment, -self.months);
        back.saturating_sub(self.days.saturating_mul(DAY)).saturating_sub(self.micros)
    }

    /// The moment this long after.
    pub fn after(self, moment: i64) -> i64 {
        if moment == PAST || moment == FUTURE {
            return moment;
        }
        let ahead = add_months(moment, self.months);
        ahead.saturating_add(self.days.saturating_mul(DAY)).saturating_add(self.micros)
    }
}

/// The length of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Every {
    Months(i64),
    /// Microseconds.
    Fixed(i64),
}

/// Why an interval is no length of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    NotPositive,
    Mixed,
    TooShort,
    TooLong,
}

/// A hundred thousand partitions a day help nobody.
const SHORTEST: i64 = 60 * SECOND;
const LONGEST: i64 = 36_600 * DAY;

/// Monday, 2000-01-03, which days and weeks are counted from.
const MONDAY: i64 = 946_857_600 * SECOND;
/// 2000-01-01, which what is shorter than a day is counted from.
const MILLENNIUM: i64 = 946_684_800 * SECOND;

impl Every {
    pub fn of(span: Span) -> Result<Every, Unfit> {
        let fixed = span.days.saturating_mul(DAY).saturating_add(span.micros);
        match (span.months, fixed) {
            _ if span.length() > LONGEST => Err(Unfit::TooLong),
            (0, fixed) if fixed <= 0 => Err(Unfit::NotPositive),
            (0, fixed) if fixed < SHORTEST => Err(Unfit::TooShort),
            (0, fixed) => Ok(Every::Fixed(fixed)),
            (months, 0) if span.days == 0 && months > 0 => Ok(Every::Months(months)),
            (_, 0) if span.days == 0 => Err(Unfit::NotPositive),
            _ => Err(Unfit::Mixed),
        }
    }

    pub fn length(self) -> i64 {
        match self {
            Every::Months(months) => months.saturating_mul(30 * DAY),
            Every::Fixed(micros) => micros,
        }
    }

    /// A partition can begin at midnight only.
    pub fn is_whole_days(self) -> bool {
        match self {
            Every::Months(_) => true,
            Every::Fixed(micros) => micros % DAY == 0,
        }
    }

    /// The start of the partition that holds the moment, where no other partition says where the grid stands.
    pub fn aligned(self, moment: i64) -> i64 {
        match self {
            Every::Months(months) => {
                let Civil { year, month, .. } = time::civil(moment);
                let number = (year * 12 + month - 1).div_euclid(months) * months;
                let (year, month) = (number.div_euclid(12), number.rem_euclid(12) + 1);
                time::moment(Civil { year, month, day: 1, clock: 0 })
            }
            Every::Fixed(micros) => {
                let origin = if micros % DAY == 0 { MONDAY } else { MILLENNIUM };
                origin + (moment - origin).div_euclid(micros) * micros
            }
        }
    }

    /// The `number`th boundary of the grid that stands on the anchor.
    pub fn boundary(self, anchor: i64, number: i64) -> i64 {
        match self {
            Every::Months(months) => add_months(anchor, months.saturating_mul(number)),
            Every::Fixed(micros) => anchor.saturating_add(micros.saturating_mul(number)),
        }
    }

    /// The number of the last boundary of that grid at or before the moment.
    pub fn number(self, anchor: i64, moment: i64) -> i64 {
        match self {
            Every::Fixed(micros) => moment.saturating_sub(anchor).div_euclid(micros),
            Every::Months(months) => {
                let (from, to) = (time::civil(anchor), time::civil(moment));
                let number = ((to.year - from.year) * 12 + to.month - from.month).div_euclid(months);
                // The day of the month may not have come yet, or the anchor's may be cut to a shorter month.
                if self.boundary(anchor, number) > moment { number - 1 } else { number }
            }
        }
    }
}

/// As the server adds months: a day that the month does not have becomes its last.
fn add_months(moment: i64, months: i64) -> i64 {
    if months == 0 {
        return moment;
    }
    let civil = time::civil(moment);
    let number = (civil.year * 12 + civil.month - 1).saturating_add(months).clamp(-1_200_000, 1_200_000);
    let (year, month) = (number.div_euclid(12), number.rem_euclid(12) + 1);
    let day = civil.day.min(time::days_of_month(year, month));
    time::moment(Civil { year, month, day, clock: civil.clock })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        time::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    const NONE: Span = Span { months: 0, days: 0, micros: 0 };

    #[test]
    fn a_partition_is_months_or_a_fixed_length() {
        assert_eq!(Every::of(Span { months: 1, ..NONE }), Ok(Every::Months(1)));
        assert_eq!(Every::of(Span { days: 7, ..NONE }), Ok(Every::Fixed(7 * DAY)));
        assert_eq!(Every::of(Span { days: 1, micros: -DAY / 2, ..NONE }), Ok(Every::Fixed(DAY / 2)));
        assert_eq!(Every::of(Span { months: 1, days: 1, ..NONE }), Err(Unfit::Mixed));
        assert_eq!(Every::of(Span { months: 1, micros: 1, ..NONE }), Err(Unfit::Mixed));
        assert_eq!(Every::of(Span { months: 1, days: 1, micros: -DAY }), Err(Unfit::Mixed));
        assert_eq!(Every::of(NONE), Err(Unfit::NotPositive));
        assert_eq!(Every::of(Span { months: -1, ..NONE }), Err(Unfit::NotPositive));
        assert_eq!(Every::of(Span { days: -1, ..NONE }), Err(Unfit::NotPositive));
        assert_eq!(Every::of(Span { micros: SECOND, ..NONE }), Err(Unfit::TooShort));
        assert_eq!(Every::of(Span { months: i64::from(i32::MAX), ..NONE }), Err(Unfit::TooLong));
    }

    #[test]
    fn the_grid_is_aligned() {
        let noon = at("2026-11-19 12:34:56");
        assert_eq!(Every::Months(1).aligned(noon), at("2026-11-01"));
        assert_eq!(Every::Months(3).aligned(noon), at("2026-10-01"));
        assert_eq!(Every::Months(12).aligned(noon), at("2026-01-01"));
        assert_eq!(Every::Fixed(DAY).aligned(noon), at("2026-11-19"));
        assert_eq!(Every::Fixed(7 * DAY).aligned(noon), at("2026-11-16"));
        assert_eq!(Every::Fixed(DAY / 24).aligned(noon), at("2026-11-19 12:00:00"));
        assert_eq!(Every::Fixed(DAY / 24).aligned(at("1999-12-31 23:59:59")), at("1999-12-31 23:00:00"));
    }

    #[test]
    fn it_continues_from_where_it_stands() {
        let every = Every::Fixed(DAY);
        let anchor = at("2026-01-01 05:00:00");
        assert_eq!(every.number(anchor, at("2026-01-03 04:59:59")), 1);
        assert_eq!(every.number(anchor, at("2025-12-31 06:00:00")), -1);
        assert_eq!(every.boundary(anchor, 2), at("2026-01-03 05:00:00"));
        let months = Every::Months(1);
        let last = at("2026-01-31");
        assert_eq!(months.boundary(last, 1), at("2026-02-28"));
        assert_eq!(months.boundary(last, 2), at("2026-03-31"));
        for day in 0..2000 {
            let moment = last + day * DAY - 500 * DAY;
            let number = months.number(last, moment);
            assert!(months.boundary(last, number) <= moment && months.boundary(last, number + 1) > moment, "{day}");
        }
    }

    #[test]
    fn retention_is_subtracted_as_the_server_does() {
        let march = at("2026-03-31 10:00:00");
        assert_eq!(Span { months: 1, ..NONE }.before(march), at("2026-02-28 10:00:00"));
        assert_eq!(Span { months: 0, days: 90, micros: 0 }.before(march), at("2025-12-31 10:00:00"));
        assert_eq!(Span { months: 12, days: 1, micros: SECOND }.after(march), at("2027-04-01 10:00:01"));
        assert_eq!(Span { days: 3, ..NONE }.before(FUTURE), FUTURE);
        assert!(Span { months: 1_000_000_000, ..NONE }.before(march) < at("0001-01-01"));
    }
}
