//! The types a tenant column may have, and the accessor that each is compared with. Pure Rust.

use crate::context::tenant::Tenant;
use crate::type_oid;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    Uuid,
    Text,
    Bigint,
}

impl Key {
    /// The key of a column's base type, by the oids that pg_type.dat fixes; none for a type that is not supported.
    pub fn of(type_oid: u32) -> Option<Key> {
        match type_oid {
            type_oid::UUID => Some(Key::Uuid),
            type_oid::TEXT | type_oid::VARCHAR => Some(Key::Text),
            type_oid::INT8 | type_oid::INT4 => Some(Key::Bigint),
            _ => None,
        }
    }

    /// The function that policies and defaults call.
    pub fn accessor(self) -> &'static str {
        match self {
            Key::Uuid => "bulkhead.tenant_id()",
            Key::Text => "bulkhead.tenant_id_text()",
            Key::Bigint => "bulkhead.tenant_id_bigint()",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Key::Uuid => "uuid",
            Key::Text => "text",
            Key::Bigint => "bigint",
        }
    }

    /// Whether the tenant's id can stand in a column of this type at all.
    pub fn fits(self, tenant: &Tenant) -> bool {
        match self {
            Key::Uuid => tenant.uuid().is_some(),
            Key::Text => !tenant.is_none(),
            Key::Bigint => tenant.bigint().is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_fits_the_columns_that_can_hold_it() {
        let fits = |id: &str| {
            let tenant = Tenant::parse(&mut id.as_bytes().to_vec()).unwrap_or(Tenant::NONE);
            [Key::Uuid, Key::Text, Key::Bigint].map(|key| key.fits(&tenant))
        };
        assert_eq!(fits(""), [false, false, false]);
        assert_eq!(fits("h2o"), [false, true, false]);
        assert_eq!(fits("42"), [false, true, true]);
        assert_eq!(fits("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"), [true, true, false]);
    }

    #[test]
    fn only_the_promised_types_are_supported() {
        assert_eq!([2950, 25, 1043, 20, 23].map(Key::of).iter().flatten().count(), 5);
        assert_eq!([21, 1042, 1700, 19, 17, 3802].map(Key::of).iter().flatten().count(), 0);
    }
}
