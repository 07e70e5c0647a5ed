//! A Bloom filter of digests: whether an order may be in a partition, answered from one cache line instead of an index page. Pure Rust.

/// Bits for each digest.
const BITS: usize = 12;
/// Bits that a digest sets.
const MARKS: u32 = 6;
/// A line has so many bits, numbered by so many.
const LINE: usize = 512;
const LINE_BITS: u32 = 9;

/// May answer "perhaps" for one in a hundred digests that were never added; never "no" for one that was.
pub struct BloomFilter(Vec<[u64; LINE / 64]>);

/// Bytes that a filter for so many digests takes.
pub fn size(digests: usize) -> usize {
    digests * BITS / 8
}

impl BloomFilter {
    /// For about so many.
    pub fn new(digests: usize) -> BloomFilter {
        BloomFilter(vec![[0; LINE / 64]; (digests * BITS).div_ceil(LINE).max(1)])
    }

    /// A digest is as good as random already.
    fn place(&self, digest: &[u8; 16]) -> (usize, u64) {
        let half =
            |from: usize| digest[from..from + 8].iter().fold(0_u64, |so_far, byte| so_far << 8 | u64::from(*byte));
        let line = (u128::from(half(0)) * self.0.len() as u128) >> 64;
        (line as usize, half(8))
    }

    pub fn add(&mut self, digest: &[u8; 16]) {
        let (line, marks) = self.place(digest);
        for mark in bits(marks) {
            self.0[line][mark / 64] |= 1 << (mark % 64);
        }
    }

    pub fn may_have(&self, digest: &[u8; 16]) -> bool {
        let (line, marks) = self.place(digest);
        bits(marks).all(|mark| self.0[line][mark / 64] >> (mark % 64) & 1 == 1)
    }
}

fn bits(marks: u64) -> impl Iterator<Item = usize> {
    (0..MARKS).map(move |number| (marks >> (number * LINE_BITS)) as usize % LINE)
}

#[cfg(test)]
mod tests {
    use super::super::digest::digest;
    use super::BloomFilter;

    fn number(number: u32) -> [u8; 16] {
        digest(&[0; 16], b"", &number.to_be_bytes())
    }

    #[test]
    fn what_was_added_is_there_and_little_else() {
        let mut filter = BloomFilter::new(20_000);
        (0..20_000).for_each(|n| filter.add(&number(n)));
        assert!((0..20_000).all(|n| filter.may_have(&number(n))));
        let wrong = (20_000..120_000).filter(|n| filter.may_have(&number(*n))).count();
        assert!(wrong < 2_000, "{wrong} of 100,000");
    }

    #[test]
    fn an_empty_one_has_nothing_and_a_small_one_breaks_nothing() {
        assert!(!BloomFilter::new(0).may_have(&number(1)));
        let mut small = BloomFilter::new(1);
        (0..1_000).for_each(|n| small.add(&number(n)));
        assert!((0..1_000).all(|n| small.may_have(&number(n))));
    }
}
