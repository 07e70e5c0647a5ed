//! A tenant's id: what is accepted, how it is made canonical, and which key types it can stand for.
//!
//! Pure Rust and free of allocation: the setting's check hook runs it once for each SET, and what it returns
//! is a plain value that can be copied into memory the server owns.

use uuid::Uuid;

/// Longest id in bytes: enough for every key type in use, short enough to be copied at will.
pub const MAX_BYTES: usize = 255;

/// Why a text is no tenant id.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    TooLong(usize),
    /// A control character starts at this byte, counted from 1.
    Control(usize),
}

/// A parsed tenant id, or none. `repr(C)` because it is handed over through memory allocated by the server.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Tenant {
    bigint: i64,
    uuid: [u8; 16],
    is_bigint: bool,
    is_uuid: bool,
    len: u8,
    text: [u8; MAX_BYTES],
}

impl Tenant {
    pub const NONE: Tenant =
        Tenant { bigint: 0, uuid: [0; 16], is_bigint: false, is_uuid: false, len: 0, text: [0; MAX_BYTES] };

    /// Checks `id`, makes it canonical in place, and parses it. Empty text is no tenant.
    ///
    /// The id is kept as given, except that the 36-character form of a uuid is lower-cased: applications and
    /// `uuid_out` disagree about case, and two spellings of one tenant must not be two tenants.
    pub fn parse(id: &mut [u8]) -> Result<Tenant, Fault> {
        if id.len() > MAX_BYTES {
            return Err(Fault::TooLong(id.len()));
        }
        if let Some(at) = first_control(id) {
            return Err(Fault::Control(at + 1));
        }
        let uuid = parse_uuid(id);
        if uuid.is_some() {
            id.make_ascii_lowercase();
        }
        let bigint = parse_bigint(id);
        let mut text = [0; MAX_BYTES];
        text[..id.len()].copy_from_slice(id);
        Ok(Tenant {
            bigint: bigint.unwrap_or(0),
            uuid: uuid.unwrap_or([0; 16]),
            is_bigint: bigint.is_some(),
            is_uuid: uuid.is_some(),
            len: id.len() as u8,
            text,
        })
    }

    pub fn is_none(&self) -> bool {
        self.len == 0
    }

    /// The id in the server's encoding; empty when there is no tenant.
    pub fn id(&self) -> &[u8] {
        &self.text[..self.len as usize]
    }

    pub fn uuid(&self) -> Option<&[u8; 16]> {
        self.is_uuid.then_some(&self.uuid)
    }

    pub fn bigint(&self) -> Option<i64> {
        self.is_bigint.then_some(self.bigint)
    }
}

/// Position of the first control character: C0 and DEL in any encoding, C1 as well where the bytes are UTF-8.
fn first_control(id: &[u8]) -> Option<usize> {
    match std::str::from_utf8(id) {
        Ok(text) => text.char_indices().find(|(_, c)| c.is_control()).map(|(at, _)| at),
        Err(_) => id.iter().position(u8::is_ascii_control),
    }
}

/// Only the dashed form: braces or a missing dash is somebody's text id, and stays one.
fn parse_uuid(id: &[u8]) -> Option<[u8; 16]> {
    if id.len() != 36 {
        return None;
    }
    Uuid::try_parse_ascii(id).ok().map(Uuid::into_bytes)
}

/// Only the form that `bigint_out` prints, so that '7', '07' and '+7' can never be one tenant under three names.
fn parse_bigint(id: &[u8]) -> Option<i64> {
    let digits = id.strip_prefix(b"-").unwrap_or(id);
    let canonical = match digits {
        [b'0'] => id.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(id).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(id: &str) -> Result<Tenant, Fault> {
        Tenant::parse(&mut id.as_bytes().to_vec())
    }

    #[track_caller]
    fn tenant(id: &str) -> Tenant {
        parse(id).unwrap_or_else(|fault| panic!("{id:?} was refused: {fault:?}"))
    }

    #[test]
    fn empty_text_is_no_tenant() {
        let none = tenant("");
        assert!(none.is_none());
        assert_eq!((none.uuid(), none.bigint(), none.id()), (None, None, &b""[..]));
    }

    #[test]
    fn a_dashed_uuid_is_lower_cased_and_parsed() {
        let t = tenant("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11");
        assert_eq!(t.id(), b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
        assert_eq!(t.uuid().map(|u| u[0]), Some(0xa0));
        assert_eq!(t.bigint(), None);
    }

    #[test]
    fn other_spellings_of_a_uuid_are_text() {
        for id in [
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "A0EEBC999C0B4EF8BB6D6BB9BD380A11",
            "urn:uuid:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g",
            "a0eebc999-c0b-4ef8-bb6d-6bb9bd380a11",
            " a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
        ] {
            let t = tenant(id);
            assert_eq!((t.uuid(), t.id()), (None, id.as_bytes()));
        }
    }

    #[test]
    fn bigints_are_canonical_decimals_only() {
        for (id, value) in
            [("0", 0), ("7", 7), ("-7", -7), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)]
        {
            assert_eq!(tenant(id).bigint(), Some(value), "{id}");
        }
        for id in ["-0", "07", "+7", " 7", "7 ", "1e3", "7.0", "9223372036854775808", "0x7", "-", "٧"] {
            assert_eq!(tenant(id).bigint(), None, "{id}");
        }
    }

    #[test]
    fn text_ids_are_kept_as_given() {
        for id in ["h2o", "H2O", "A ", "all_county", "clh3x2k9w0000qzrmn831i7rn", "straße", "a.b.c", "日本"] {
            assert_eq!(tenant(id).id(), id.as_bytes());
        }
    }

    #[test]
    fn control_characters_are_refused_with_their_place() {
        assert_eq!(parse("a\nb").err(), Some(Fault::Control(2)));
        assert_eq!(parse("\t").err(), Some(Fault::Control(1)));
        assert_eq!(parse("ab\u{7f}").err(), Some(Fault::Control(3)));
        assert_eq!(parse("é\u{85}").err(), Some(Fault::Control(3)));
        assert_eq!(Tenant::parse(&mut [0xff, 0x01]).err(), Some(Fault::Control(2)));
    }

    #[test]
    fn length_is_counted_in_bytes() {
        assert_eq!(tenant(&"x".repeat(255)).id().len(), 255);
        assert_eq!(parse(&"x".repeat(256)).err(), Some(Fault::TooLong(256)));
        assert_eq!(parse(&"é".repeat(128)).err(), Some(Fault::TooLong(256)));
    }
}
