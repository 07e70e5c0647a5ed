//! Lengths of time for a person. Pure Rust.

use super::time::{FUTURE, SECOND};

/// `3 d 4 h`, `4 h 5 min`, `5 min`, `6 s`.
pub fn span(micros: i64) -> String {
    if micros == FUTURE {
        return "for ever".to_owned();
    }
    let seconds = micros / SECOND;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_largest_units_are_shown() {
        let shown = [0, 59, 60, 3_599, 3_600, 86_399, 86_400, 266_400].map(|seconds| span(seconds * SECOND));
        assert_eq!(shown, ["0 s", "59 s", "1 min", "59 min", "1 h 0 min", "23 h 59 min", "1 d 0 h", "3 d 2 h"]);
        assert_eq!(span(FUTURE), "for ever");
    }
}
