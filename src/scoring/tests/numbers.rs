//! Numbers: the small path against the long one, and both against what is known.

use crate::scoring::decimal::Decimal;
use crate::scoring::encode::{Encoded, encode};
use crate::scoring::number::{self, Number, Outcome};
use crate::scoring::{build, date};

/// A generator of its own, so that a seed means the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn number(&mut self) -> String {
        let digits = |random: &mut Random, most: u64| -> String {
            let count = random.next(most);
            (0..count).map(|_| char::from(b'0' + random.next(10) as u8)).collect()
        };
        let sign = if self.next(2) == 0 { "-" } else { "" };
        let most = [3, 8, 20, 45][self.next(4) as usize];
        let (whole, fraction) = (digits(self, most), digits(self, most));
        let zeros = "0".repeat(self.next(6) as usize);
        match self.next(3) {
            0 => format!("{sign}1{whole}{zeros}"),
            1 => format!("{sign}0.{zeros}{fraction}5{zeros}"),
            _ => format!("{sign}7{whole}.{fraction}1"),
        }
    }
}

fn shown(outcome: Outcome) -> String {
    let mut out = Vec::new();
    match outcome {
        Outcome::Small(number) => number.print(&mut out),
        Outcome::Long(decimal) => decimal.print(&mut out),
    }
    String::from_utf8(out).expect("digits")
}

fn parsed<'a>(text: &str, memory: &'a mut Vec<u8>) -> Number<'a> {
    match number::parse(text.as_bytes()).expect("a number") {
        Outcome::Small(number) => number,
        Outcome::Long(decimal) => {
            *memory = build::long(&decimal);
            Number::Long(memory)
        }
    }
}

/// The same number, by force on the long path.
fn long(text: &str) -> Decimal {
    let (sign, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    Decimal::parse(sign, whole.as_bytes(), fraction.as_bytes(), 0).expect("a number")
}

fn long_shown(decimal: &Decimal) -> String {
    let mut out = Vec::new();
    decimal.print(&mut out);
    String::from_utf8(out).expect("digits")
}

#[test]
fn both_paths_agree() {
    let mut random = Random(11);
    for _ in 0..20_000 {
        let (a, b) = (random.number(), random.number());
        let (mut room_a, mut room_b) = (Vec::new(), Vec::new());
        let (x, y) = (parsed(&a, &mut room_a), parsed(&b, &mut room_b));
        let (p, q) = (long(&a), long(&b));
        assert_eq!(shown(number::add(x, y).unwrap()), long_shown(&p.add(&q).unwrap()), "{a} + {b}");
        assert_eq!(
            shown(number::subtract(x, y).unwrap()),
            long_shown(&p.add(&q.clone().negated()).unwrap()),
            "{a} - {b}"
        );
        assert_eq!(shown(number::multiply(x, y).unwrap()), long_shown(&p.multiply(&q).unwrap()), "{a} * {b}");
        assert_eq!(x.compare(&y), p.compare(&q), "{a} against {b}");
        if !y.is_zero() {
            assert_eq!(shown(number::remainder(x, y).unwrap()), long_shown(&p.remainder(&q).unwrap()), "{a} % {b}");
            assert_eq!(shown(number::divide(x, y).unwrap()), long_shown(&p.divide(&q).unwrap()), "{a} / {b}");
            // The quotient times the divisor, and what is left.
            let whole = p.divide(&q).unwrap().multiply(&q).unwrap().add(&p.clone().negated()).unwrap();
            assert!(whole.is_zero() || whole.weight < p.weight.max(q.weight), "{a} / {b}");
        }
    }
}

#[test]
fn bytes_come_back() {
    let mut random = Random(12);
    for _ in 0..20_000 {
        let text = random.number();
        let mut memory = Vec::new();
        let number = parsed(&text, &mut memory);
        let bytes = build::numeric(&number);
        let read = Number::read(&bytes[4..]).expect("a number");
        let (mut before, mut after) = (Vec::new(), Vec::new());
        number.print(&mut before);
        read.print(&mut after);
        assert_eq!(before, after, "{text}");
        if let Some(encoded) = Encoded::small(&number) {
            let mut slow = Vec::new();
            encode(&long(std::str::from_utf8(&before).unwrap()), &mut slow);
            assert_eq!(encoded.bytes(), &slow[..], "{text}");
        }
    }
}

#[test]
fn texts_are_read_as_javascript_reads_them() {
    for (text, wanted) in [
        ("", Some("0")),
        ("  ", Some("0")),
        (" 12 ", Some("12")),
        ("+5", Some("5")),
        ("-.5", Some("-0.5")),
        ("5.", Some("5")),
        ("1e3", Some("1000")),
        ("1E-2", Some("0.01")),
        ("12e-1", Some("1.2")),
        ("1e400000", None),
        (".", None),
        ("e5", None),
        ("1e", None),
        ("1x", None),
        ("0x10", None),
        ("NaN", None),
        ("Infinity", None),
        ("--1", None),
        ("1 2", None),
    ] {
        assert_eq!(number::parse(text.as_bytes()).map(shown), wanted.map(str::to_owned), "{text:?}");
    }
}

#[test]
fn what_is_too_long_is_an_error() {
    let nines = "9".repeat(20_000);
    let long = Decimal::parse(false, nines.as_bytes(), b"", 0).unwrap();
    assert!(long.multiply(&long).is_err());
    let short = Decimal::parse(false, &nines.as_bytes()[..4_000], b"", 0).unwrap();
    assert!(short.multiply(&short).is_ok());
    assert!(Decimal::parse(false, b"1", b"", 131_080).is_none());
}

#[test]
fn dates() {
    for (text, wanted) in [
        ("1970-01-01", Some(0)),
        ("2000-02-29T00:00:00Z", Some(951_782_400_000_000)),
        ("2026-11-21T10:30:00.25+01:00", Some(1_795_253_400_250_000)),
        ("2026-11-21 10:30-0130", Some(1_795_262_400_000_000)),
        ("1969-12-31T23:59:59.999999Z", Some(-1)),
        ("2023-02-29", None),
        ("2026-13-01", None),
        ("2026-1-1", None),
        ("2026-01-01T25:00", None),
        ("2026-01-01T10:00:00x", None),
        ("yesterday", None),
        ("", None),
    ] {
        assert_eq!(date::parse(text.as_bytes()), wanted, "{text}");
    }
    let mut random = Random(13);
    for _ in 0..10_000 {
        let micros = random.next(1 << 31) as i64 * 1_000_003 * 2 - (1 << 40);
        assert_eq!(date::parse(date::print(micros).as_bytes()), Some(micros), "{}", date::print(micros));
    }
}
