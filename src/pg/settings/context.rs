//! `bulkhead.tenant_context`: the check hook parses a value, the assign hook publishes the parse.

use std::ffi::{CStr, c_char, c_void};

use pgrx::prelude::*;

use super::{guc_allocate, refuse};
use crate::context::lock::Refusal;
use crate::context::state::{self, Origin};
use crate::context::tenant::{Fault, MAX_BYTES, Tenant};

/// # Safety
/// Called by the server with valid pointers; `newval` is a string of the server's that may be changed in place.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn check(
    newval: *mut *mut c_char,
    extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: see above; `newval` may point to NULL only for a setting whose default is NULL, which ours is not.
    let bytes = unsafe {
        let value = *newval;
        if value.is_null() {
            return true;
        }
        std::slice::from_raw_parts_mut(value.cast::<u8>(), CStr::from_ptr(value).to_bytes().len())
    };
    // A start-up option reaches us without the server's encoding check; the id would go out again as text.
    // SAFETY: the slice is valid for the call, and `noError` keeps it from raising.
    if !unsafe { pg_sys::pg_verifymbstr(bytes.as_ptr().cast(), bytes.len() as i32, true) } {
        return refuse(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "invalid tenant id: not valid in the database's encoding",
            None,
            "Send the id in the client encoding of the connection.",
        );
    }
    let tenant = match Tenant::parse(bytes) {
        Ok(tenant) => tenant,
        Err(fault) => return refuse_id(fault),
    };
    // Only a SET by SQL switches tenants; a worker restores what its leader was allowed, and files, roles and start-up
    // options give a session-level tenant.
    // (PGC_S_TEST is ALTER ROLE … SET and CREATE FUNCTION … SET asking whether a value would do.)
    // SAFETY: reads a flag of the server's.
    let by_sql = [pg_sys::GucSource::PGC_S_INTERACTIVE, pg_sys::GucSource::PGC_S_SESSION].contains(&source)
        && !unsafe { pg_sys::InitializingParallelWorker };
    // SAFETY: reads a variable of the server's.
    let in_worker = unsafe { pg_sys::ParallelWorkerNumber } >= 0;
    if by_sql && let Err(refusal) = state::admit(&tenant, in_worker) {
        return refuse_switch(refusal);
    }
    // SAFETY: `guc_allocate` returns memory of that size or NULL; the server owns it from here on.
    unsafe {
        let published = guc_allocate(size_of::<Tenant>()).cast::<Tenant>();
        if published.is_null() {
            return false;
        }
        published.write(tenant);
        *extra = published.cast();
    }
    true
}

/// # Safety
/// Called by the server with the `extra` that the check hook made, or NULL for the built-in default. Must not raise.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn assign(_newval: *const c_char, extra: *mut c_void) {
    // SAFETY: as above: NULL, or a `Tenant` that outlives the call.
    let tenant = unsafe { extra.cast::<Tenant>().as_ref() };
    // SAFETY: read variables of the server's. It rolls settings back while the (sub)transaction's state is no longer
    // "in progress", and the subtransaction's nesting level still stands.
    let origin = unsafe {
        if pg_sys::InitializingParallelWorker {
            Origin::Leader
        } else if pg_sys::IsTransactionState() {
            Origin::Statement
        } else if pg_sys::GetCurrentTransactionNestLevel() > 1 {
            Origin::Rollback
        } else {
            Origin::CleanUp
        }
    };
    state::publish(tenant.unwrap_or(&Tenant::NONE), origin);
}

fn refuse_id(fault: Fault) -> bool {
    let (message, hint) = match fault {
        Fault::TooLong(bytes) => (
            format!("invalid tenant id: {bytes} bytes, at most {MAX_BYTES} are allowed"),
            "A tenant id is the value of the tenant column: a uuid, a number or a short text.",
        ),
        Fault::Control(at) => (
            format!("invalid tenant id: a control character at byte {at}"),
            "Strip line breaks and tabs before the id is set.",
        ),
    };
    refuse(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, &message, None, hint)
}

fn refuse_switch(refusal: Refusal) -> bool {
    let (detail, hint) = match refusal {
        Refusal::OtherTenant => (
            "This transaction acts for another tenant already, and bulkhead.context_mode is locked.",
            "End the transaction first; one transaction acts for one tenant.",
        ),
        Refusal::TouchedWithout => (
            "This transaction has touched a protected table without a tenant, and bulkhead.context_mode is locked.",
            "Set the tenant as the first statement of the transaction.",
        ),
        Refusal::NotAlone => (
            "The session has a tenant already, and bulkhead.context_mode is locked.",
            "Replace it at the start of a transaction with SET, or with SELECT bulkhead.set_tenant($1) as a statement of its own.",
        ),
    };
    refuse(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        "the tenant of this transaction cannot be changed",
        Some(detail),
        hint,
    )
}
