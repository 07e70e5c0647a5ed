//! `bulkhead.tenant_context`: what is taken is kept as it was given, and is the same when it is given again.

#![no_main]

use fuzz::context::tenant::Tenant;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut id = bytes.to_vec();
    let Ok(tenant) = Tenant::parse(&mut id) else { return };
    assert_eq!(tenant.id(), id, "canonical in place");
    assert!(
        id.eq_ignore_ascii_case(bytes) && (id == bytes || tenant.uuid().is_some()),
        "only a uuid is changed, and only its case"
    );
    assert_eq!(tenant.is_none(), bytes.is_empty());
    assert!(!id.iter().any(u8::is_ascii_control));
    let mut again = id.clone();
    let twice = Tenant::parse(&mut again).unwrap_or_else(|fault| panic!("refused the second time: {fault:?}"));
    assert_eq!((twice.id(), twice.uuid(), twice.bigint()), (tenant.id(), tenant.uuid(), tenant.bigint()));
    if let Some(number) = tenant.bigint() {
        assert_eq!(number.to_string().as_bytes(), id, "one spelling of a number");
    }
    if let Some(uuid) = tenant.uuid() {
        assert_eq!(uuid::Uuid::from_bytes(*uuid).to_string().as_bytes(), id, "one spelling of a uuid");
    }
});
