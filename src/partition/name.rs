//! Names of new partitions. Pure Rust.

use super::bound::Range;
use super::time::{self, Civil, SECOND};
use crate::fnv;

/// What a name may have, in bytes.
const LONGEST: usize = 63;

/// `parent_p202601`, `parent_p20260105`, `parent_p20260105_0600`; cut to 63 bytes, and never one that is taken.
pub fn of(parent: &str, range: &Range, monthly: bool, taken: impl Fn(&str) -> bool) -> String {
    let suffix = suffix(range, monthly);
    let mut name = with_suffix(parent, &suffix);
    let mut number = 2;
    while taken(&name) {
        name = with_suffix(parent, &format!("{suffix}_{number}"));
        number += 1;
    }
    name
}

/// The name before any other took it.
pub fn first(parent: &str, range: &Range, monthly: bool) -> String {
    with_suffix(parent, &suffix(range, monthly))
}

fn suffix(range: &Range, monthly: bool) -> String {
    let Civil { year, month, day, clock } = time::civil(range.lower.at);
    let seconds = clock / SECOND;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut suffix = format!("_p{year:04}{month:02}");
    if !monthly || day != 1 || clock != 0 {
        suffix.push_str(&format!("{day:02}"));
    }
    if clock != 0 {
        suffix.push_str(&format!("_{hour:02}{minute:02}"));
    }
    if second != 0 || clock % SECOND != 0 {
        suffix.push_str(&format!("{second:02}"));
    }
    suffix
}

/// The name with the suffix, cut to 63 bytes.
pub fn with_suffix(parent: &str, suffix: &str) -> String {
    if parent.len() + suffix.len() <= LONGEST {
        return format!("{parent}{suffix}");
    }
    // Two parents that differ only after the cut must not share names.
    let hash = format!("_{:08x}", fnv::hash(parent));
    let room = LONGEST - suffix.len() - hash.len();
    let end = (0..=room).rev().find(|at| parent.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{hash}{suffix}", &parent[..end])
}

/// Whether a table of this name looks like a partition of the parent that was made here.
pub fn is_like(parent: &str, name: &str) -> bool {
    let digits = |text: &str, count: &[usize]| count.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    // `rest` is the shortest suffix there is, so that a long parent is cut no further than for any of them.
    (0..name.len()).rev().filter(|at| name[..].is_char_boundary(*at)).any(|at| {
        let (stem, suffix) = name.split_at(at);
        let Some(rest) = suffix.strip_prefix("_p") else { return false };
        let mut parts = rest.split('_');
        let date = parts.next().is_some_and(|date| digits(date, &[6, 8]));
        let others = parts.all(|part| digits(part, &[1, 2, 3, 4, 6]));
        date && others && (stem == parent || with_suffix(parent, suffix) == name)
    })
}

#[cfg(test)]
mod tests {
    use super::super::bound::{Edge, Kind};
    use super::*;

    fn from(text: &str) -> Range {
        let lower = Edge::at(Kind::Timestamp, time::parse(text).unwrap());
        Range { upper: lower.clone(), lower }
    }

    fn free(_: &str) -> bool {
        false
    }

    #[test]
    fn a_name_says_when_it_begins() {
        assert_eq!(of("events", &from("2026-01-05"), false, free), "events_p20260105");
        assert_eq!(of("events", &from("2026-01-01"), true, free), "events_p202601");
        assert_eq!(of("events", &from("2026-01-15"), true, free), "events_p20260115");
        assert_eq!(of("events", &from("2026-01-05 06:30:00"), false, free), "events_p20260105_0630");
        assert_eq!(of("events", &from("2026-01-05 06:30:09"), false, free), "events_p20260105_063009");
    }

    #[test]
    fn it_has_63_bytes_at_most() {
        let long = "e".repeat(63);
        let name = of(&long, &from("2026-01-05 06:30:00"), false, free);
        assert_eq!(name.len(), 63);
        assert!(name.ends_with("_p20260105_0630"));
        let other = of(&format!("{}f", "e".repeat(62)), &from("2026-01-05 06:30:00"), false, free);
        assert_ne!(name, other);
        let wide = of(&"\u{e9}".repeat(31), &from("2026-01-05"), false, free);
        assert!(wide.len() <= 63 && wide.ends_with("_p20260105"), "{wide}");
    }

    #[test]
    fn a_taken_name_is_left_alone() {
        let taken = ["events_p20260105", "events_p20260105_2"];
        assert_eq!(of("events", &from("2026-01-05"), false, |name| taken.contains(&name)), "events_p20260105_3");
        let long = "e".repeat(63);
        let first = of(&long, &from("2026-01-05"), false, free);
        let second = of(&long, &from("2026-01-05"), false, |name| name == first);
        assert!(second.len() == 63 && second.ends_with("_p20260105_2"), "{second}");
    }

    #[test]
    fn our_names_are_known_again() {
        let long = "e".repeat(63);
        for parent in ["events", long.as_str(), "odd_p20260101"] {
            for lower in ["2026-01-05", "2026-01-05 06:30:00", "2026-01-05 06:30:09"] {
                for monthly in [false, true] {
                    let name = of(parent, &from(lower), monthly, free);
                    assert!(is_like(parent, &name), "{name}");
                    let second = of(parent, &from(lower), monthly, |taken| taken == name);
                    assert!(is_like(parent, &second), "{second}");
                }
            }
        }
        for other in
            ["events", "events_old", "events_p2026", "events_p20260105x", "other_p20260105", "events_p20260105_"]
        {
            assert!(!is_like("events", other), "{other}");
        }
    }
}
