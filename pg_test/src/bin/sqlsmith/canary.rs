//! What stands in every row of tenant B and nowhere else, and how a stream of bytes is searched for it.
//!
//! The search is an automaton that keeps its state between calls: where the pieces of a stream end makes no difference.

use std::collections::VecDeque;

/// In every text of B's, twice, so that a part of the text betrays it as well.
pub const WORD: &str = "kanarienzwitscher";
/// B's numbers are this, or begin with it.
pub const NUMBER: &str = "1918273645";
/// B's uuids begin with this.
pub const UUID: &str = "b0b0cafe-5eed-4b0b";

/// The tenants, by uuid and by number. What is text takes both.
pub const A: [&str; 2] = ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "42"];
pub const B: [&str; 2] = ["b0b0cafe-5eed-4b0b-8bad-000000000001", "1918273645001"];

/// The word as a client may get to see it: as it is, backwards, as the hexadecimal digits of its bytes, and in base64 from each place in a group.
fn needles() -> Vec<Vec<u8>> {
    let hexadecimal: String = WORD.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut needles: Vec<String> =
        vec![WORD.into(), WORD.chars().rev().collect(), hexadecimal, NUMBER.into(), UUID.into(), UUID.replace('-', "")];
    for before in 0..3 {
        // What stands before and after changes the first and the last digits.
        let text = base64(&[&vec![b' '; before], WORD.as_bytes()].concat());
        needles.push(text[if before == 0 { 0 } else { 4 }..text.len() / 4 * 4 - 4].to_lowercase());
    }
    needles.into_iter().map(String::into_bytes).collect()
}

/// Without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = (0..3).fold(0_usize, |sum, i| sum << 8 | usize::from(*group.get(i).unwrap_or(&0)));
        for digit in 0..=group.len() {
            text.push(char::from(DIGITS[number >> (18 - 6 * digit) & 63]));
        }
    }
    text
}

/// All needles in one pass, upper and lower case alike (Aho and Corasick).
pub struct Detector {
    needles: Vec<Vec<u8>>,
    /// For each state, the next one by the next byte.
    next: Vec<[u16; 256]>,
    /// The needle that ends in the state.
    ends: Vec<Option<usize>>,
}

/// Where a stream stands.
#[derive(Debug, Default, Clone, Copy)]
pub struct Place(u16);

impl Detector {
    pub fn new() -> Self {
        let mut made = Self { needles: needles(), next: vec![[0; 256]], ends: vec![None] };
        for (number, needle) in made.needles.clone().iter().enumerate() {
            let mut state = 0;
            for &byte in needle {
                if made.next[state][usize::from(byte)] == 0 {
                    made.next[state][usize::from(byte)] = made.next.len() as u16;
                    made.next.push([0; 256]);
                    made.ends.push(None);
                }
                state = usize::from(made.next[state][usize::from(byte)]);
            }
            made.ends[state] = Some(number);
        }
        made.complete();
        made
    }

    /// Where a needle goes on no more, the longest of its ends that begins another one does.
    fn complete(&mut self) {
        let mut fallback = vec![0_u16; self.next.len()];
        let mut queue: VecDeque<usize> =
            self.next[0].iter().filter(|&&to| to != 0).map(|&to| usize::from(to)).collect();
        while let Some(state) = queue.pop_front() {
            let back = usize::from(fallback[state]);
            self.ends[state] = self.ends[state].or(self.ends[back]);
            for byte in 0..256 {
                let by_fallback = self.next[back][byte];
                match self.next[state][byte] {
                    0 => self.next[state][byte] = by_fallback,
                    child => {
                        fallback[usize::from(child)] = by_fallback;
                        queue.push_back(usize::from(child));
                    }
                }
            }
        }
        for row in &mut self.next {
            for upper in b'A'..=b'Z' {
                row[usize::from(upper)] = row[usize::from(upper.to_ascii_lowercase())];
            }
        }
    }

    /// The first needle that ends in these bytes, if one does.
    pub fn search(&self, place: &mut Place, bytes: &[u8]) -> Option<String> {
        let mut found = None;
        for &byte in bytes {
            place.0 = self.next[usize::from(place.0)][usize::from(byte)];
            if found.is_none() {
                found = self.ends[usize::from(place.0)];
            }
        }
        found.map(|number| String::from_utf8_lossy(&self.needles[number]).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pieces: &[&str]) -> bool {
        let (detector, mut place) = (Detector::new(), Place::default());
        pieces.iter().any(|piece| detector.search(&mut place, piece.as_bytes()).is_some())
    }

    #[test]
    fn the_word_is_found_in_every_clothing() {
        for text in [
            "a kanarienzwitscher b",
            "KANARIENZWITSCHER",
            "rehcstiwzneiranak",
            "ID 1918273645001",
            "b0b0cafe5eed4b0b8bad",
        ] {
            assert!(found(&[text]), "{text}");
        }
        for before in ["", "x", "xy", "xyz", "a longer text "] {
            let text = format!("{before}{WORD}-accounts-1-{WORD}");
            assert!(found(&[&base64(text.as_bytes())]), "{before}");
            assert!(found(&[&text.bytes().map(|byte| format!("{byte:02X}")).collect::<String>()]));
        }
    }

    #[test]
    fn it_is_found_across_the_pieces_of_a_stream() {
        let text = format!("...{WORD}...");
        for cut in 0..text.len() {
            assert!(found(&[&text[..cut], &text[cut..]]), "cut at {cut}");
        }
        assert!(found(&text.split("").collect::<Vec<_>>()));
        // A needle that begins inside another beginning.
        assert!(found(&["kanakanarienzwitscher"]) && found(&["1919182736450"]));
    }

    #[test]
    fn what_is_like_it_is_not_it() {
        for text in
            ["", "kanarienzwitsche", "kanarien zwitscher", "191827364", "b0b0cafe-5eed-4b0c", "plain-accounts-1-plain"]
        {
            assert!(!found(&[text]), "{text}");
        }
    }

    #[test]
    fn base64_is_as_it_should_be() {
        assert_eq!((base64(b"Man").as_str(), base64(b"Ma").as_str(), base64(b"M").as_str()), ("TWFu", "TWE", "TQ"));
    }
}
