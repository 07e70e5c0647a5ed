//! The proleptic Gregorian calendar, as the server's: moments as microseconds since 1970-01-01 00:00 UTC. Pure Rust
//! (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").

pub const SECOND: i64 = 1_000_000;
pub const DAY: i64 = 86_400 * SECOND;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Civil {
    pub year: i64,
    pub month: i64,
    pub day: i64,
    /// Since midnight, in microseconds.
    pub clock: i64,
}

/// Days from 1970-01-01 to the first of March of year 0, which the eras below count from.
const ERA_SHIFT: i64 = 719_468;
const DAYS_OF_ERA: i64 = 146_097;

pub fn civil(moment: i64) -> Civil {
    let (days, clock) = (moment.div_euclid(DAY), moment.rem_euclid(DAY));
    let days = days + ERA_SHIFT;
    let (era, day_of_era) = (days.div_euclid(DAYS_OF_ERA), days.rem_euclid(DAYS_OF_ERA));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    Civil { year, month, day, clock }
}

pub fn moment(civil: Civil) -> i64 {
    let year = civil.year - i64::from(civil.month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let shifted = if civil.month > 2 { civil.month - 3 } else { civil.month + 9 };
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * shifted + 2) / 5 + civil.day - 1;
    let days = era * DAYS_OF_ERA + day_of_era - ERA_SHIFT;
    days.saturating_mul(DAY).saturating_add(civil.clock)
}

pub fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_is_its_own_inverse() {
        for days in (-800_000..3_000_000).step_by(13) {
            let at = days * DAY + 5;
            let civil = civil(at);
            assert_eq!(moment(civil), at);
            assert!((1..=days_of_month(civil.year, civil.month)).contains(&civil.day));
        }
    }
}
