//! Reads jsonb as the server stores it: slices of the document, nothing copied, nothing allocated. Pure Rust.
//!
//! A container is a header (how many, and of what), one word for each child (its type, and its length or where it ends), and the children's bytes. An object
//! has its keys first, sorted by length and then by bytes, then its values in the same order. Bytes that make no sense read as null or as nothing: they
//! can never lead out of the slice.

use std::cmp::Ordering;

use super::number::Number;
use super::value::Value;

const COUNT_MASK: u32 = 0x0FFF_FFFF;
pub const SCALAR: u32 = 0x1000_0000;
pub const OBJECT: u32 = 0x2000_0000;
pub const ARRAY: u32 = 0x4000_0000;

pub const LENGTH_MASK: u32 = 0x0FFF_FFFF;
const TYPE_MASK: u32 = 0x7000_0000;
pub const HAS_END: u32 = 0x8000_0000;
pub const STRING: u32 = 0x0000_0000;
pub const NUMERIC: u32 = 0x1000_0000;
pub const FALSE: u32 = 0x2000_0000;
pub const TRUE: u32 = 0x3000_0000;
pub const NULL: u32 = 0x4000_0000;
pub const CONTAINER: u32 = 0x5000_0000;
/// Every so many children have where they end instead of their length.
pub const STRIDE: usize = 32;

#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
}

/// The order of an object's keys.
#[inline]
pub fn key_order(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// An array or an object, from its header on.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a>(&'a [u8]);

impl<'a> Container<'a> {
    /// What follows the length of a jsonb.
    pub fn new(bytes: &'a [u8]) -> Container<'a> {
        Container(bytes)
    }

    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    #[inline]
    fn header(self) -> u32 {
        word(self.0, 0)
    }

    /// Elements, or pairs. Never more than there is room for.
    #[inline]
    pub fn len(self) -> usize {
        let count = (self.header() & COUNT_MASK) as usize;
        let room = self.0.len().saturating_sub(4) / if self.is_object() { 8 } else { 4 };
        count.min(room)
    }

    #[inline]
    pub fn is_object(self) -> bool {
        self.header() & OBJECT != 0
    }

    /// A value that is no container is stored as an array of one.
    #[inline]
    pub fn root(self) -> Value<'a> {
        if self.header() & SCALAR != 0 { self.element(0).unwrap_or(Value::Null) } else { Value::Stored(self) }
    }

    #[inline]
    fn children(self) -> usize {
        if self.is_object() { self.len() * 2 } else { self.len() }
    }

    #[inline(always)]
    fn entry(self, index: usize) -> u32 {
        word(self.0, 4 + 4 * index)
    }

    /// Where the children's bytes begin.
    #[inline]
    fn base(self) -> usize {
        4 + 4 * self.children()
    }

    /// Where a child's bytes begin, counted from `base`.
    #[inline]
    fn start(self, index: usize) -> usize {
        let mut offset = 0;
        for before in (0..index).rev() {
            let entry = self.entry(before);
            offset += (entry & LENGTH_MASK) as usize;
            if entry & HAS_END != 0 {
                break;
            }
        }
        offset
    }

    /// Where a child ends that begins at `start`.
    #[inline(always)]
    fn end(entry: u32, start: usize) -> usize {
        let length = (entry & LENGTH_MASK) as usize;
        if entry & HAS_END != 0 { length } else { start + length }
    }

    #[inline]
    fn slice(self, start: usize, end: usize) -> &'a [u8] {
        let base = self.base();
        self.0.get(base + start..base + end).unwrap_or(&[])
    }

    #[inline]
    fn value(self, entry: u32, start: usize) -> Value<'a> {
        match entry & TYPE_MASK {
            STRING => Value::Text(self.slice(start, Container::end(entry, start))),
            NUMERIC => numeric(self.slice(start.next_multiple_of(4), Container::end(entry, start))),
            TRUE => Value::Bool(true),
            FALSE => Value::Bool(false),
            CONTAINER => Value::Stored(Container(self.slice(start.next_multiple_of(4), Container::end(entry, start)))),
            _ => Value::Null,
        }
    }

    /// An element of an array.
    #[inline]
    pub fn element(self, index: usize) -> Option<Value<'a>> {
        if self.is_object() || index >= self.len() {
            return None;
        }
        Some(self.value(self.entry(index), self.start(index)))
    }

    #[inline]
    fn key(self, index: usize) -> &'a [u8] {
        let start = self.start(index);
        self.slice(start, Container::end(self.entry(index), start))
    }

    /// An object's value by its key: a binary search.
    pub fn get(self, key: &[u8]) -> Option<Value<'a>> {
        if !self.is_object() {
            return None;
        }
        let count = self.len();
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = (low + high) / 2;
            match key_order(self.key(middle), key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => {
                    let at = count + middle;
                    return Some(self.value(self.entry(at), self.start(at)));
                }
            }
        }
        None
    }

    /// The elements of an array, or an object's values, in order.
    pub fn values(self) -> Values<'a> {
        let first = if self.is_object() { self.len() } else { 0 };
        Values { of: self, next: first, offset: self.start(first), end: self.children() }
    }

    /// An object's keys with their values.
    pub fn pairs(self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> {
        let keys = Values { of: self, next: 0, offset: 0, end: if self.is_object() { self.len() } else { 0 } };
        keys.zip(self.values()).map(|(key, value)| (if let Value::Text(key) = key { key } else { &[] }, value))
    }

    /// Looks many keys up at once; they are sorted as an object's are. Calls `found` with the number of each that is there and its value.
    #[inline]
    pub fn find_all<'k>(
        self,
        wanted: impl ExactSizeIterator<Item = &'k [u8]>,
        mut found: impl FnMut(usize, Value<'a>),
    ) {
        if !self.is_object() {
            return;
        }
        let count = self.len();
        // Few keys of a large object are searched for one by one; else both are gone through side by side.
        if count > 16 && wanted.len() * (usize::BITS - count.leading_zeros()) as usize * 4 < count {
            for (number, key) in wanted.enumerate() {
                if let Some(value) = self.get(key) {
                    found(number, value);
                }
            }
            return;
        }
        self.merge(count, wanted, &mut found);
    }

    #[inline]
    fn merge<'k>(self, count: usize, wanted: impl Iterator<Item = &'k [u8]>, found: &mut impl FnMut(usize, Value<'a>)) {
        let entries = &self.0[4..4 + 8 * count];
        let entry = |at: usize| {
            let word = &entries[4 * at..4 * at + 4];
            u32::from_ne_bytes([word[0], word[1], word[2], word[3]])
        };
        let data = &self.0[4 + 8 * count..];
        // The present key, and the value that was read last.
        let (mut at, mut start) = (0, 0);
        let (mut value_at, mut value_start) = (count, None);
        'wanted: for (number, key) in wanted.enumerate() {
            loop {
                if at == count {
                    return;
                }
                let end = Container::end(entry(at), start);
                let length = end.wrapping_sub(start);
                // Most keys differ in length: their bytes are not looked at.
                let order = length.cmp(&key.len()).then_with(|| data.get(start..end).unwrap_or(&[]).cmp(key));
                match order {
                    Ordering::Less => (at, start) = (at + 1, end),
                    Ordering::Greater => continue 'wanted,
                    Ordering::Equal => break,
                }
            }
            let mut offset = value_start.unwrap_or_else(|| self.start(count));
            while value_at < count + at {
                offset = Container::end(entry(value_at), offset);
                value_at += 1;
            }
            value_start = Some(offset);
            found(number, self.value(entry(value_at), offset));
        }
    }
}

/// A numeric with its length, which the entry says as well.
#[inline]
fn numeric(bytes: &[u8]) -> Value<'_> {
    let Some(first) = bytes.first() else { return Value::Null };
    let short = if cfg!(target_endian = "little") { first & 1 == 1 } else { first & 0x80 != 0 };
    let payload = bytes.get(if short { 1 } else { 4 }..).unwrap_or(&[]);
    Number::read(payload).map_or(Value::Null, Value::Number)
}

pub struct Values<'a> {
    of: Container<'a>,
    next: usize,
    offset: usize,
    end: usize,
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        if self.next >= self.end {
            return None;
        }
        let entry = self.of.entry(self.next);
        let value = self.of.value(entry, self.offset);
        self.next += 1;
        self.offset = Container::end(entry, self.offset);
        Some(value)
    }
}
