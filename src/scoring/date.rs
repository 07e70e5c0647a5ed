//! ISO dates, to microseconds since 1970 and back. Pure Rust.

use crate::calendar::{Civil, DAY, SECOND, civil, days_of_month, moment};

/// `2026-11-21`, `2026-11-21T10:00Z`, `2026-11-21 10:00:00.5+01:00`. Without a zone it is UTC.
pub fn parse(text: &[u8]) -> Option<i64> {
    let text = text.trim_ascii();
    let number = |from: usize, len: usize| -> Option<i64> {
        text.get(from..from + len)?
            .iter()
            .try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
    };
    let is = |at: usize, byte: u8| text.get(at) == Some(&byte);
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    if !is(4, b'-') || !is(7, b'-') || !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) {
        return None;
    }
    let midnight = moment(Civil { year, month, day, clock: 0 });
    if text.len() == 10 {
        return Some(midnight);
    }
    if !(is(10, b'T') || is(10, b't') || is(10, b' ')) || !is(13, b':') {
        return None;
    }
    let (hour, minute) = (number(11, 2)?, number(14, 2)?);
    let mut at = 16;
    let mut second = 0;
    let mut micros = 0;
    if is(at, b':') {
        second = number(at + 1, 2)?;
        at += 3;
        if is(at, b'.') {
            let digits = text[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let kept = digits.min(6);
            micros = number(at + 1, kept).filter(|_| digits > 0)? * 10i64.pow(6 - kept as u32);
            at += 1 + digits;
        }
    }
    if hour > 24 || minute > 59 || second > 60 || (hour == 24 && (minute, second, micros) != (0, 0, 0)) {
        return None;
    }
    let offset = match text.get(at) {
        None => 0,
        Some(b'Z' | b'z') if at + 1 == text.len() => 0,
        Some(sign @ (b'+' | b'-')) => {
            let hours = number(at + 1, 2)?;
            let minutes = match text.len() - at {
                3 => 0,
                5 => number(at + 3, 2)?,
                6 if is(at + 3, b':') => number(at + 4, 2)?,
                _ => return None,
            };
            let offset = hours * 60 + minutes;
            if hours > 15 || minutes > 59 {
                return None;
            }
            if *sign == b'-' { -offset } else { offset }
        }
        Some(_) => return None,
    };
    Some(midnight + ((hour * 60 + minute - offset) * 60 + second) * SECOND + micros)
}

/// With microseconds, in UTC.
pub fn print(micros: i64) -> String {
    let Civil { year, month, day, clock } = civil(micros);
    let seconds = clock / SECOND;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        clock % SECOND
    )
}

/// Whole days from one to the other; what is left of a day does not count.
pub fn days_between(from: i64, to: i64) -> i64 {
    (to - from) / DAY
}
