//! What goes through texts: in pieces, so that a cancel is heard in between however long they are. Pure Rust.

use super::fault::Ran;
use super::run::{PIECE, Run};

/// Bytes around a sigma that say whether it ends its word.
const AROUND: usize = 64;

impl<'a> Run<'a> {
    /// Calls `each` with the text in pieces of whole characters, until that says false. False when it is not UTF-8, as in a database of another encoding.
    fn pieces(&mut self, text: &[u8], mut each: impl FnMut(&mut Self, &str, usize) -> Ran<bool>) -> Ran<bool> {
        let mut from = 0;
        while from < text.len() {
            let rest = &text[from..(from + PIECE).min(text.len())];
            self.spend(rest.len() / 256)?;
            let is_last = from + rest.len() == text.len();
            let piece = match std::str::from_utf8(rest) {
                Ok(piece) => piece,
                // The piece ends within a character.
                Err(error) if error.error_len().is_none() && !is_last => valid(rest),
                Err(_) => return Ok(false),
            };
            if !each(self, piece, from)? {
                break;
            }
            from += piece.len();
        }
        Ok(true)
    }

    /// Characters are code points; in a database that is not UTF-8, bytes.
    pub fn characters(&mut self, text: &[u8]) -> Ran<usize> {
        if text.len() <= PIECE && text.is_ascii() {
            self.spend(text.len() / 256)?;
            return Ok(text.len());
        }
        let mut count = 0;
        let is_utf8 = self.pieces(text, |_, piece, _| {
            count += piece.chars().count();
            Ok(true)
        })?;
        Ok(if is_utf8 { count } else { text.len() })
    }

    /// Where a character of the text begins, which has `count` of them.
    pub fn place(&mut self, text: &[u8], count: usize, character: usize) -> Ran<usize> {
        if count == text.len() {
            return Ok(character);
        }
        let (mut place, mut passed) = (text.len(), 0);
        self.pieces(text, |_, piece, from| {
            let here = piece.chars().count();
            if passed + here <= character {
                passed += here;
                return Ok(true);
            }
            if let Some((at, _)) = piece.char_indices().nth(character - passed) {
                place = from + at;
            }
            Ok(false)
        })?;
        Ok(place)
    }

    pub fn trim(&mut self, text: &'a [u8]) -> Ran<&'a [u8]> {
        if !self.pieces(text, |_, _, _| Ok(true))? {
            return Ok(text.trim_ascii());
        }
        let mut rest = text;
        while !rest.is_empty() {
            let head = valid(&rest[..rest.len().min(PIECE)]);
            let blanks = head.len() - head.trim_start().len();
            rest = &rest[blanks..];
            if blanks == 0 || blanks < head.len() {
                break;
            }
            self.spend(blanks / 64)?;
        }
        while !rest.is_empty() {
            let from = boundary(rest, rest.len().saturating_sub(PIECE));
            let tail = valid(&rest[from..]);
            let blanks = tail.len() - tail.trim_end().len();
            rest = &rest[..rest.len() - blanks];
            if blanks == 0 || blanks < tail.len() {
                break;
            }
            self.spend(blanks / 64)?;
        }
        Ok(rest)
    }

    pub fn change_case(&mut self, text: &[u8], upper: bool) -> Ran<&'a [u8]> {
        let mut changed = Vec::with_capacity(text.len());
        let is_utf8 = self.pieces(text, |run, piece, from| {
            let before = changed.len();
            change(text, piece, from, upper, &mut changed);
            run.take(changed.len() - before)?;
            Ok(true)
        })?;
        if !is_utf8 {
            changed.clear();
            for piece in text.chunks(PIECE) {
                self.take(piece.len())?;
                changed
                    .extend(piece.iter().map(|b| if upper { b.to_ascii_uppercase() } else { b.to_ascii_lowercase() }));
            }
        }
        Ok(self.copied(&changed))
    }

    /// Whether the text has the part in it.
    pub fn find(&mut self, text: &[u8], part: &[u8]) -> Ran<bool> {
        if part.len() > text.len() {
            return Ok(false);
        }
        if text.len() <= PIECE {
            self.spend(text.len() / 256)?;
            return Ok(memchr::memmem::find(text, part).is_some());
        }
        // Of a long part its head is looked for, and the rest compared where that is.
        let head = &part[..part.len().min(PIECE)];
        let piece = PIECE.max(2 * head.len());
        let finder = memchr::memmem::Finder::new(head);
        let mut from = 0;
        while from + part.len() <= text.len() {
            let to = (from + piece).min(text.len());
            self.spend(piece / 32)?;
            match finder.find(&text[from..to]) {
                Some(at) if self.continues(&text[from + at..], part)? => return Ok(true),
                Some(at) => from += at + 1,
                None if to == text.len() => return Ok(false),
                None => from = to - (head.len().max(1) - 1),
            }
        }
        Ok(false)
    }

    fn continues(&mut self, text: &[u8], part: &[u8]) -> Ran<bool> {
        if text.len() < part.len() {
            return Ok(false);
        }
        for (text, part) in text.chunks(PIECE).zip(part.chunks(PIECE)) {
            self.spend(part.len() / 256)?;
            if !text.starts_with(part) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// As much of it as is UTF-8.
fn valid(text: &[u8]) -> &str {
    match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&text[..error.valid_up_to()]).unwrap_or_default(),
    }
}

/// The first character that begins there or later.
fn boundary(text: &[u8], at: usize) -> usize {
    (at..text.len()).find(|at| text[*at] & 0xC0 != 0x80).unwrap_or(text.len())
}

/// Appends a piece of the text, which lies there in it, as `str::to_uppercase` and `str::to_lowercase` would have it.
fn change(text: &[u8], piece: &str, from: usize, upper: bool, out: &mut Vec<u8>) {
    if piece.is_ascii() {
        out.extend(piece.bytes().map(|b| if upper { b.to_ascii_uppercase() } else { b.to_ascii_lowercase() }));
        return;
    }
    let mut bytes = [0; 4];
    for (at, character) in piece.char_indices() {
        if upper {
            character.to_uppercase().for_each(|c| out.extend_from_slice(c.encode_utf8(&mut bytes).as_bytes()));
        } else if character == 'Σ' {
            out.extend_from_slice(sigma(text, from + at).encode_utf8(&mut bytes).as_bytes());
        } else {
            character.to_lowercase().for_each(|c| out.extend_from_slice(c.encode_utf8(&mut bytes).as_bytes()));
        }
    }
}

/// The one letter whose lower case depends on where it stands: at the end of a word it is another.
fn sigma(text: &[u8], at: usize) -> char {
    let after = at + 'Σ'.len_utf8();
    let left = valid(&text[boundary(text, at.saturating_sub(AROUND))..at]);
    let right = valid(&text[after..text.len().min(after + AROUND)]);
    let word = format!("{left}Σ{right}").to_lowercase();
    if word[left.to_lowercase().len()..].starts_with('ς') { 'ς' } else { 'σ' }
}
