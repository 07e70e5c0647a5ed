//! The active rule set of a name, by the statement's own snapshot and without SPI: it is asked in the middle of queries, and in parallel workers.

use std::ffi::CStr;

use pgrx::prelude::*;

use super::super::relations::OpenTable;
use super::super::version;
use super::datum::Bytes;
use crate::error::{self, Result};
use crate::scoring::cache::Digest;

/// What is known of an active rule set without reading its rules.
#[derive(Clone, Copy)]
pub struct Active {
    pub version: i32,
    pub digest: Digest,
}

struct RuleSetTable {
    name: &'static CStr,
    index: &'static CStr,
    /// Columns that stand before `name`.
    before: i16,
}

// Their columns by position: sql/scoring.sql says so too.
const OWN: RuleSetTable = RuleSetTable { name: c"rule_set", index: c"rule_set_active", before: 1 };
const SHARED: RuleSetTable = RuleSetTable { name: c"shared_rule_set", index: c"shared_rule_set_active", before: 0 };
const VERSION: i16 = 2;
const DIGEST: i16 = 4;
const RULES: i16 = 5;

/// The tenant's active rule set of the name, or the shared one: `read` is called with what is known of it and a function that reads its rules.
pub fn active<R>(
    tenant: Option<&[u8]>,
    name: &[u8],
    read: impl FnOnce(Active, &dyn Fn() -> Vec<u8>) -> Result<R>,
) -> Result<Option<R>> {
    version::require()?;
    let mut read = Some(read);
    if let Some(tenant) = tenant
        && let Some(found) = find(&OWN, &[tenant, name], &mut read)?
    {
        return Ok(Some(found));
    }
    find(&SHARED, &[name], &mut read)
}

fn relation(name: &CStr) -> Result<pg_sys::Oid> {
    // SAFETY: look-ups in the system caches with constant names.
    let oid = unsafe {
        let schema = pg_sys::get_namespace_oid(c"bulkhead".as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    };
    if oid == pg_sys::InvalidOid {
        return Err(error::state(
            "extension bulkhead is not installed in this database, or is older than the library",
            format!("There is no bulkhead.{}.", name.to_string_lossy()),
            "CREATE EXTENSION bulkhead, or ALTER EXTENSION bulkhead UPDATE.",
        ));
    }
    Ok(oid)
}

fn find<R, F: FnOnce(Active, &dyn Fn() -> Vec<u8>) -> Result<R>>(
    table: &RuleSetTable,
    keys: &[&[u8]],
    read: &mut Option<F>,
) -> Result<Option<R>> {
    let (oid, index) = (relation(table.name)?, relation(table.index)?);
    // SAFETY: the table is open for the whole scan, which ends before it is closed; keys are texts that outlive the scan; the tuple is read before the
    // scan goes on. What raises an ERROR unwinds through pgrx's guard, and the server releases the scan with the transaction.
    unsafe {
        let open = OpenTable(pg_sys::table_open(oid, pg_sys::AccessShareLock as i32));
        let mut conditions: [pg_sys::ScanKeyData; 2] = std::mem::zeroed();
        for (number, key) in keys.iter().enumerate() {
            let text = pg_sys::cstring_to_text_with_len(key.as_ptr().cast(), key.len() as i32);
            pg_sys::ScanKeyInit(
                &mut conditions[number],
                number as i16 + 1,
                pg_sys::BTEqualStrategyNumber as u16,
                pg_sys::Oid::from(pg_sys::F_TEXTEQ),
                pg_sys::Datum::from(text),
            );
        }
        let snapshot = pg_sys::GetActiveSnapshot();
        let count = keys.len() as i32;
        let scan = pg_sys::systable_beginscan(open.0, index, true, snapshot, count, conditions.as_mut_ptr());
        let tuple = pg_sys::systable_getnext(scan);
        let mut result = Ok(None);
        if !tuple.is_null()
            && let Some(read) = read.take()
        {
            let column = |number: i16| {
                let mut is_null = false;
                let number = i32::from(table.before + number);
                let datum = pg_sys::heap_getattr(tuple, number, (*open.0).rd_att, &mut is_null);
                (!is_null).then_some(datum)
            };
            let mut active = Active { version: 0, digest: [0; 32] };
            if let Some(version) = column(VERSION) {
                active.version = version.value() as i32;
            }
            if let Some(digest) = column(DIGEST) {
                let bytes = Bytes::of(digest);
                let length = bytes.get().len().min(32);
                active.digest[..length].copy_from_slice(&bytes.get()[..length]);
            }
            let rules = || column(RULES).map_or_else(Vec::new, |rules| Bytes::of(rules).get().to_vec());
            result = read(active, &rules).map(Some);
        }
        pg_sys::systable_endscan(scan);
        result
    }
}
