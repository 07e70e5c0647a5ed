//! Keys: the digest that stands for one in the index, the number of its lock, and the date that a UUIDv7 carries. Pure Rust.

use aws_lc_rs::digest::{Context, SHA256};

/// What stands for a tenant's key.
pub struct Digest {
    /// Indexed. A UUIDv7's begins with its date, so that keys of one time lie side by side in the index.
    pub indexed: [u8; 16],
    /// The lock's number: two keys that share it wait for each other for a moment, and that is all.
    pub lock: [u8; 10],
}

/// The digest of (tenant, key), bytes as they are: two that differ in a letter's case are two.
pub fn digest(tenant: &[u8], key: &[u8]) -> Digest {
    let mut context = Context::new(&SHA256);
    // The length tells where the tenant ends.
    context.update(&(tenant.len() as u64).to_be_bytes());
    context.update(tenant);
    context.update(key);
    let hash = context.finish();
    let hash = hash.as_ref();
    let mut indexed = [0; 16];
    let mut lock = [0; 10];
    indexed.copy_from_slice(&hash[..16]);
    lock.copy_from_slice(&hash[16..26]);
    if let Some(date) = uuid7_bytes(key) {
        indexed[..6].copy_from_slice(&date);
    }
    Digest { indexed, lock }
}

/// The date of a UUIDv7 in its 36-character form, in microseconds since 1970; none for any other key.
pub fn date(key: &[u8]) -> Option<i64> {
    let bytes = uuid7_bytes(key)?;
    let milliseconds = bytes.iter().fold(0_i64, |so_far, byte| so_far << 8 | i64::from(*byte));
    Some(milliseconds * 1000)
}

fn uuid7_bytes(key: &[u8]) -> Option<[u8; 6]> {
    if key.len() != 36 {
        return None;
    }
    let well_formed = key.iter().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        14 => *byte == b'7',
        19 => matches!(byte, b'8' | b'9' | b'a' | b'b' | b'A' | b'B'),
        _ => byte.is_ascii_hexdigit(),
    });
    if !well_formed {
        return None;
    }
    let digit = |at: usize| char::from(key[at]).to_digit(16).unwrap_or(0) as u8;
    // 48 bits: eight digits, a dash, four digits.
    Some([0, 2, 4, 6, 9, 11].map(|at| digit(at) << 4 | digit(at + 1)))
}

/// A key or a tenant as a message may show it: short, and in any encoding.
pub fn shown(key: &[u8]) -> String {
    const MOST: usize = 64;
    let mut shown: String = key
        .iter()
        .take(MOST)
        .map(|byte| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '?',
        })
        .collect();
    if key.len() > MOST {
        shown.push_str("...");
    }
    format!("\"{shown}\"")
}

#[cfg(test)]
mod tests {
    use super::{date, digest, shown};

    const V7: &[u8] = b"0193c0de-0000-7abc-8def-0123456789ab";

    #[test]
    fn a_uuid7_tells_its_date() {
        assert_eq!(date(V7), Some(0x0193_c0de_0000 * 1000));
        assert_eq!(date(b"0193C0DE-0000-7ABC-8DEF-0123456789AB"), date(V7));
        let none: [&[u8]; 7] = [
            b"",
            b"order-1",
            b"0193c0de-0000-4abc-8def-0123456789ab",
            b"0193c0de-0000-7abc-cdef-0123456789ab",
            b"0193c0de000007abc08def00123456789abc",
            b"0193c0de-0000-7abc-8def-0123456789a",
            b"0193c0dg-0000-7abc-8def-0123456789ab",
        ];
        for key in none {
            assert_eq!(date(key), None, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn a_message_shows_a_key_short_and_in_ascii() {
        assert_eq!(shown(b"order-1"), "\"order-1\"");
        assert_eq!(shown(b"\xc3\xa9\n"), "\"???\"");
        assert_eq!(shown(&[b'x'; 65]), format!("\"{}...\"", "x".repeat(64)));
    }

    #[test]
    fn tenant_and_key_do_not_run_into_each_other() {
        assert_ne!(digest(b"a", b"bc").indexed, digest(b"ab", b"c").indexed);
        assert_ne!(digest(b"a", b"k").indexed, digest(b"b", b"k").indexed);
        assert_ne!(digest(b"a", b"k").lock, digest(b"b", b"k").lock);
        assert_eq!(digest(b"a", b"k").indexed, digest(b"a", b"k").indexed);
    }

    #[test]
    fn keys_of_one_time_lie_side_by_side() {
        let [one, two] = [digest(b"a", V7), digest(b"b", V7)].map(|digest| digest.indexed);
        assert_eq!(one[..6], [0x01, 0x93, 0xc0, 0xde, 0, 0]);
        assert_eq!(one[..6], two[..6]);
        assert_ne!(one, two);
    }
}
