//! `bulkhead.tenant_context`: the check hook parses a value, the assign hook publishes the parse.
//!
//! What goes from one to the other is one block, because the server frees it as one: a header, and after it the token.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};

use pgrx::prelude::*;

use super::{ContextMode, context_mode, guc_allocate, refuse};
use crate::context::lock::Refusal;
use crate::context::poison::Stamp;
use crate::context::state::{self, Origin, Value};
use crate::context::tenant::{Fault, MAX_BYTES, Tenant};
use crate::context::token;
use crate::context::tokens;
use crate::pg::cell::PerBackend;
use crate::pg::counters::{self, Counter};

#[repr(C)]
struct Header {
    tenant: Tenant,
    stamp: Stamp,
    token_bytes: usize,
}

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
    // Only a SET by SQL switches tenants; a worker restores what its leader was allowed, and files, roles and start-up
    // options give a session-level tenant, which is judged when it is used.
    // (PGC_S_TEST is ALTER ROLE … SET and CREATE FUNCTION … SET asking whether a value would do.)
    // SAFETY: reads a flag of the server's.
    let by_sql = [pg_sys::GucSource::PGC_S_INTERACTIVE, pg_sys::GucSource::PGC_S_SESSION].contains(&source)
        && !unsafe { pg_sys::InitializingParallelWorker };
    let is_token = token::is_token(bytes);
    let parsed = if is_token { parse_token(bytes, by_sql) } else { parse_id(bytes, by_sql) };
    let Some(tenant) = parsed else { return false };
    // SAFETY: reads a variable of the server's.
    let in_worker = unsafe { pg_sys::ParallelWorkerNumber } >= 0;
    if by_sql && let Err(refusal) = state::admit(&tenant, in_worker) {
        return refuse_switch(refusal);
    }
    let token: &[u8] = if is_token { bytes } else { &[] };
    // SAFETY: `guc_allocate` returns memory of that size, aligned for any type, or NULL; the server owns it from here on.
    unsafe {
        let block = guc_allocate(size_of::<Header>() + token.len()).cast::<Header>();
        if block.is_null() {
            // The server's own message would repeat the value.
            return refuse(
                PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
                "out of memory for the tenant context",
                None,
                "Try again.",
            );
        }
        block.write(Header { tenant, stamp: state::stamp(), token_bytes: token.len() });
        std::ptr::copy_nonoverlapping(token.as_ptr(), block.add(1).cast::<u8>(), token.len());
        *extra = block.cast();
    }
    true
}

/// The tenant of a token that is being set, or none where it is not judged yet; `None` after a refusal.
fn parse_token(bytes: &[u8], by_sql: bool) -> Option<Tenant> {
    if !by_sql {
        if bytes.len() > token::MAX_BYTES {
            refuse_token(&token::Fault::TooLarge(bytes.len()));
            return None;
        }
        return Some(Tenant::NONE);
    }
    match tokens::verify_now(bytes) {
        Ok(verified) => Some(verified.tenant),
        Err(fault) => {
            refuse_token(&fault);
            state::refused(fault);
            None
        }
    }
}

/// The tenant with this id, made canonical in place; `None` after a refusal.
fn parse_id(bytes: &mut [u8], by_sql: bool) -> Option<Tenant> {
    if by_sql && !bytes.is_empty() && context_mode() == ContextMode::Signed {
        refuse_token(&token::Fault::Unsigned);
        state::refused(token::Fault::Unsigned);
        return None;
    }
    // A start-up option reaches us without the server's encoding check; the id would go out again as text.
    // SAFETY: the slice is valid for the call, and `noError` keeps it from raising.
    if !unsafe { pg_sys::pg_verifymbstr(bytes.as_ptr().cast(), bytes.len() as i32, true) } {
        refuse(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "invalid tenant id: not valid in the database's encoding",
            None,
            "Send the id in the client encoding of the connection.",
        );
        return None;
    }
    Tenant::parse(bytes).map_err(refuse_id).ok()
}

/// # Safety
/// Called by the server with the `extra` that the check hook made, or NULL for the built-in default. Must not raise.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn assign(_newval: *const c_char, extra: *mut c_void) {
    // SAFETY: as above: NULL, or a header with its token after it, which outlive the call.
    let value = unsafe {
        let header = extra.cast::<Header>();
        match header.as_ref() {
            None => Value { tenant: Tenant::NONE, token: &[], stamp: 0 },
            Some(Header { tenant, stamp, token_bytes }) => Value {
                tenant: *tenant,
                token: std::slice::from_raw_parts(header.add(1).cast::<u8>(), *token_bytes),
                stamp: *stamp,
            },
        }
    };
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
    state::publish(&value, origin);
}

/// SHOW and current_setting(): the id of the tenant in force, never the token. Empty when there is none.
///
/// # Safety
/// Called by the server; the result is good until the next call.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn show() -> *const c_char {
    static SHOWN: PerBackend<RefCell<[u8; MAX_BYTES + 1]>> = PerBackend::new(RefCell::new([0; MAX_BYTES + 1]));
    let mut shown = SHOWN.borrow_mut();
    state::with_tenant(|tenant| {
        let id = tenant.id();
        shown[..id.len()].copy_from_slice(id);
        shown[id.len()] = 0;
    });
    shown.as_ptr().cast()
}

fn refuse_token(fault: &token::Fault) {
    counters::add(Counter::Token, 1);
    refuse(
        PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
        &format!("invalid tenant token: {}", fault.message()),
        match fault {
            token::Fault::Unsigned => Some("bulkhead.context_mode is signed: only a signed token sets a tenant."),
            _ => Some("The context is cleared: what was set before no longer counts."),
        },
        fault.hint(),
    );
}

fn refuse_id(fault: Fault) {
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
    refuse(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, &message, None, hint);
}

fn refuse_switch(refusal: Refusal) -> bool {
    counters::add(Counter::OtherTenant, 1);
    let (detail, hint) = match refusal {
        Refusal::OtherTenant => (
            "This transaction acts for another tenant already",
            "End the transaction first; one transaction acts for one tenant.",
        ),
        Refusal::TouchedWithout => (
            "This transaction has touched a protected table without a tenant",
            "Set the tenant as the first statement of the transaction.",
        ),
        Refusal::NotAlone => (
            "The session has a tenant already",
            "Replace it at the start of a transaction with SET, or with SELECT bulkhead.set_tenant($1) as a statement of its own.",
        ),
    };
    let mode = if context_mode() == ContextMode::Signed { "signed" } else { "locked" };
    refuse(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        "the tenant of this transaction cannot be changed",
        Some(&format!("{detail}, and bulkhead.context_mode is {mode}.")),
        hint,
    )
}
