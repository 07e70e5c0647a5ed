//! Writes jsonb as the server stores it. Pure Rust.

use super::encode::{self, Encoded};
use super::jsonb::{self, Container, HAS_END, LENGTH_MASK, STRIDE, key_order};
use super::number::Number;
use super::value::Value;

/// Larger than a jsonb can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLarge;

/// Deeper than anybody nests: what builds and reads it calls itself.
const MOST_DEPTH: usize = 2_000;

/// A jsonb without its length.
pub fn document(value: &Value) -> Result<Vec<u8>, TooLarge> {
    let mut out = Vec::with_capacity(64);
    match value {
        Value::Stored(container) => out.extend_from_slice(container.bytes()),
        Value::List(_) | Value::Pairs(_) => {
            write(value, &mut out, 0)?;
        }
        _ => write_list(std::iter::once(*value), 1, jsonb::SCALAR, &mut out, 0)?,
    }
    if out.len() > LENGTH_MASK as usize { Err(TooLarge) } else { Ok(out) }
}

/// Appends a value's bytes; its entry, less its length.
fn write(value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<u32, TooLarge> {
    if depth > MOST_DEPTH || out.len() > LENGTH_MASK as usize {
        return Err(TooLarge);
    }
    Ok(match value {
        Value::Missing | Value::Null => jsonb::NULL,
        Value::Bool(true) => jsonb::TRUE,
        Value::Bool(false) => jsonb::FALSE,
        Value::Text(text) => {
            out.extend_from_slice(text);
            jsonb::STRING
        }
        Value::Number(number) => {
            pad(out);
            write_number(number, out);
            jsonb::NUMERIC
        }
        Value::Stored(container) => {
            pad(out);
            out.extend_from_slice(container.bytes());
            jsonb::CONTAINER
        }
        Value::List(list) => {
            pad(out);
            write_list(list.iter().copied(), list.len(), 0, out, depth)?;
            jsonb::CONTAINER
        }
        Value::Pairs(pairs) => {
            pad(out);
            write_object(pairs, out, depth)?;
            jsonb::CONTAINER
        }
    })
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

fn write_number(number: &Number, out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    match (number, Encoded::small(number)) {
        (_, Some(encoded)) => out.extend_from_slice(encoded.bytes()),
        (Number::Long(bytes), None) => out.extend_from_slice(bytes),
        (_, None) => {}
    }
    let length = (out.len() - at) as u32;
    out[at..at + 4].copy_from_slice(&length_word(length));
}

/// The four bytes in front of a value of variable length.
pub fn length_word(length: u32) -> [u8; 4] {
    if cfg!(target_endian = "little") { (length << 2).to_ne_bytes() } else { (length & 0x3FFF_FFFF).to_ne_bytes() }
}

/// Entries that are filled in as their children are written.
struct Entries {
    at: usize,
    base: usize,
    index: usize,
}

impl Entries {
    fn begin(header: u32, children: usize, out: &mut Vec<u8>) -> Entries {
        out.extend_from_slice(&header.to_ne_bytes());
        let at = out.len();
        out.resize(at + 4 * children, 0);
        Entries { at, base: out.len(), index: 0 }
    }

    fn push(&mut self, value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), TooLarge> {
        let start = out.len();
        let entry = write(value, out, depth + 1)?;
        // The padding in front counts as part of the child.
        let length = if self.index.is_multiple_of(STRIDE) {
            (out.len() - self.base) as u32 | HAS_END
        } else {
            (out.len() - start) as u32
        };
        if out.len() - self.base > LENGTH_MASK as usize {
            return Err(TooLarge);
        }
        let at = self.at + 4 * self.index;
        out[at..at + 4].copy_from_slice(&(entry | length).to_ne_bytes());
        self.index += 1;
        Ok(())
    }
}

fn write_list<'a>(
    values: impl Iterator<Item = Value<'a>>,
    count: usize,
    flags: u32,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), TooLarge> {
    let mut entries = Entries::begin(jsonb::ARRAY | flags | count as u32, count, out);
    for value in values {
        entries.push(&value, out, depth)?;
    }
    Ok(())
}

fn write_object(pairs: &[(&[u8], Value)], out: &mut Vec<u8>, depth: usize) -> Result<(), TooLarge> {
    let mut sorted: Vec<&(&[u8], Value)> = pairs.iter().collect();
    sorted.sort_by(|a, b| key_order(a.0, b.0));
    // Of two with the same key the later counts.
    sorted.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            *kept = *later;
        }
        same
    });
    let mut entries = Entries::begin(jsonb::OBJECT | sorted.len() as u32, sorted.len() * 2, out);
    for (key, _) in &sorted {
        entries.push(&Value::Text(key), out, depth)?;
    }
    for (_, value) in &sorted {
        entries.push(value, out, depth)?;
    }
    Ok(())
}

/// The server's bytes of a number, with their length in front.
pub fn numeric(number: &Number) -> Vec<u8> {
    let mut out = Vec::with_capacity(24);
    write_number(number, &mut out);
    out
}

/// A long number's bytes, as `Number::Long` has them.
pub fn long(decimal: &super::decimal::Decimal) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + 2 * decimal.digits.len());
    encode::encode(decimal, &mut out);
    out
}

/// Reads what was written: for who keeps documents as bytes.
pub fn read(bytes: &[u8]) -> Value<'_> {
    Container::new(bytes).root()
}
