//! Moments as microseconds since 1970-01-01 00:00 UTC, and how the server prints and reads them under `TimeZone = 'UTC'` and
//! `DateStyle = 'ISO'`. Pure Rust.

pub use crate::calendar::{Civil, DAY, SECOND, civil, days_of_month, moment};

/// `-infinity` and `infinity`; as bounds also MINVALUE and MAXVALUE.
pub const PAST: i64 = i64::MIN;
pub const FUTURE: i64 = i64::MAX;

/// The last moment that a bound made here may have: 9999-12-31.
pub const LAST: i64 = 253_402_214_400 * SECOND;

/// `2026-01-05`.
pub fn print_date(moment: i64) -> String {
    let Civil { year, month, day, .. } = civil(moment);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `2026-01-05 00:00:00`, with microseconds where there are any.
pub fn print(moment: i64) -> String {
    let clock = civil(moment).clock;
    let (seconds, fraction) = (clock / SECOND, clock % SECOND);
    let mut text = format!("{} {:02}:{:02}:{:02}", print_date(moment), seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        text.push_str(&format!(".{fraction:06}"));
    }
    text
}

/// What the server prints for a date, a timestamp or (in UTC) a timestamptz.
pub fn parse(text: &str) -> Option<i64> {
    match text {
        "infinity" => return Some(FUTURE),
        "-infinity" => return Some(PAST),
        _ => {}
    }
    let (text, before_christ) = match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (date, clock) = text.split_once(' ').unwrap_or((text, "00:00:00"));
    let [year, month, day] = numbers(date, '-')?;
    let year = if before_christ { 1 - year } else { year };
    let clock = clock.strip_suffix("+00").unwrap_or(clock);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':')?;
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 6)?;
    let fraction = natural(fraction)? * 10_i64.pow(6 - digits);
    let fits = (1..=12).contains(&month) && (1..=days_of_month(year, month)).contains(&day);
    let clock = ((hour * 60 + minute) * 60 + second) * SECOND + fraction;
    (fits && clock <= DAY).then(|| moment(Civil { year, month, day, clock }))
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.split(separator).map(natural);
    let numbers = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(numbers)
}

fn natural(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.len() <= 7 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_printed() {
        assert_eq!(print(0), "1970-01-01 00:00:00");
        assert_eq!(print(951_782_400 * SECOND), "2000-02-29 00:00:00");
        assert_eq!(print_date(LAST), "9999-12-31");
    }

    #[test]
    fn what_the_server_prints_is_read() {
        let day = 1_767_571_200 * SECOND;
        assert_eq!(parse("2026-01-05"), Some(day));
        assert_eq!(parse("2026-01-05 00:00:00"), Some(day));
        assert_eq!(parse("2026-01-05 00:00:00+00"), Some(day));
        assert_eq!(parse("2026-01-05 01:02:03.5+00"), Some(day + 3_723_500_000));
        assert_eq!(parse("2026-01-05 00:00:00.000001"), Some(day + 1));
        assert_eq!(parse("infinity"), Some(FUTURE));
        assert_eq!(parse("-infinity"), Some(PAST));
        assert_eq!(parse("0001-01-01 BC"), Some(moment(Civil { year: 0, month: 1, day: 1, clock: 0 })));
        assert_eq!(parse("12026-01-05").map(|at| civil(at).year), Some(12_026));
        for at in [0, day + 1, day - 1, -DAY - 1, LAST] {
            assert_eq!(parse(&print(at)), Some(at));
        }
    }

    #[test]
    fn nothing_else_is() {
        for wrong in
            ["", "2026", "2026-13-01", "2026-02-29", "2026-01-05 00:00", "2026-01-05 00:00:00+02", "x", "1-1-1-1"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(parse("2026-01-05 00:00:00.1234567"), None);
    }
}
