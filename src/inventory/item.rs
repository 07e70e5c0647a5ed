//! Items: what the texts of a request mean in the item column of an inventory table. Pure Rust.

use crate::type_oid;

/// The types that an item column may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ItemType {
    Uuid,
    Text,
    Integer,
    Bigint,
}

/// An item in the form in which the server would compare it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Item {
    Uuid([u8; 16]),
    Text(Box<[u8]>),
    Number(i64),
    /// A text that the column's type has no value for: no row can have it.
    Foreign(Box<[u8]>),
}

impl ItemType {
    /// By the oids that pg_type.dat fixes, of a column's base type; none for a type that is not supported.
    pub fn of(type_oid: u32) -> Option<ItemType> {
        match type_oid {
            type_oid::UUID => Some(ItemType::Uuid),
            type_oid::TEXT | type_oid::VARCHAR => Some(ItemType::Text),
            type_oid::INT4 => Some(ItemType::Integer),
            type_oid::INT8 => Some(ItemType::Bigint),
            _ => None,
        }
    }

    pub fn sql_name(self) -> &'static str {
        match self {
            ItemType::Uuid => "pg_catalog.uuid",
            ItemType::Text => "pg_catalog.text",
            ItemType::Integer => "pg_catalog.int4",
            ItemType::Bigint => "pg_catalog.int8",
        }
    }

    pub fn parse(self, text: &[u8]) -> Item {
        let parsed = match self {
            ItemType::Text => Some(Item::Text(text.into())),
            ItemType::Uuid => uuid(text).map(Item::Uuid),
            ItemType::Bigint => number(text).map(Item::Number),
            ItemType::Integer => number(text).filter(|number| i32::try_from(*number).is_ok()).map(Item::Number),
        };
        parsed.unwrap_or_else(|| Item::Foreign(text.into()))
    }
}

/// Decimal digits, with a sign or without.
fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// As the server reads it: 32 hexadecimal digits, dashes after any four of them, in braces or not.
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let inner = match text {
        [b'{', inner @ .., b'}'] => inner,
        _ => text,
    };
    let mut bytes = [0; 16];
    let mut digits = 0;
    for (at, byte) in inner.iter().enumerate() {
        if *byte == b'-' {
            // After four digits, not at the end and not twice.
            if digits == 0 || digits % 4 != 0 || digits == 32 || inner.get(at + 1) == Some(&b'-') {
                return None;
            }
            continue;
        }
        let digit = char::from(*byte).to_digit(16)? as u8;
        let place: &mut u8 = bytes.get_mut(digits / 2)?;
        *place = *place << 4 | digit;
        digits += 1;
    }
    (digits == 32).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Item, ItemType};

    #[test]
    fn a_uuid_is_one_in_any_of_its_forms() {
        let canonical = ItemType::Uuid.parse(b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
        assert!(matches!(canonical, Item::Uuid(_)));
        let forms: [&[u8]; 4] = [
            b"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            b"{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            b"a0eebc999c0b4ef8bb6d6bb9bd380a11",
            b"a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        ];
        for form in forms {
            assert_eq!(ItemType::Uuid.parse(form), canonical, "{}", String::from_utf8_lossy(form));
        }
        let none: [&[u8]; 7] = [
            b"",
            b"{}",
            b"{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
            b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a111",
            b"a0eebc99--9c0b-4ef8-bb6d-6bb9bd380a11",
            b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11-",
        ];
        for text in none {
            assert_eq!(ItemType::Uuid.parse(text), Item::Foreign(text.into()), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_number_is_its_value_and_within_its_type() {
        assert_eq!(ItemType::Integer.parse(b"007"), Item::Number(7));
        assert_eq!(ItemType::Bigint.parse(b"-9223372036854775808"), Item::Number(i64::MIN));
        assert_eq!(ItemType::Bigint.parse(b"9223372036854775808"), Item::Foreign(b"9223372036854775808"[..].into()));
        assert_eq!(ItemType::Integer.parse(b"2147483648"), Item::Foreign(b"2147483648"[..].into()));
        for text in [&b""[..], b"1.0", b"seven", b"1e3", b"0x10"] {
            assert_eq!(ItemType::Bigint.parse(text), Item::Foreign(text.into()));
        }
    }

    #[test]
    fn a_text_is_its_bytes() {
        assert_ne!(ItemType::Text.parse(b"K"), ItemType::Text.parse(b"k"));
        assert_eq!(ItemType::Text.parse(b""), Item::Text(b""[..].into()));
    }

    #[test]
    fn only_the_promised_types_are_supported() {
        assert_eq!([2950, 25, 1043, 20, 23].map(ItemType::of).iter().flatten().count(), 5);
        assert_eq!([21, 1042, 1700, 19, 17, 3802].map(ItemType::of).iter().flatten().count(), 0);
    }
}
