//! `bulkhead.context_mode`, `bulkhead.missing_context` and `bulkhead.tenant_context`: of the latter the check hook parses a value, the assign hook
//! publishes the parse.
//!
//! What goes from one to the other is one block, because the server frees it as one: a header, and after it the token.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_void};

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use pgrx::prelude::*;

use super::{guc_allocate, refuse};
use crate::context::lock::Refusal;
use crate::context::revocation::Stamp;
use crate::context::session_tokens;
use crate::context::state::{self, Origin, Value};
use crate::context::tenant::{Fault, MAX_BYTES, Tenant};
use crate::context::token;
use crate::pg::cell::PerBackend;
use crate::pg::counters::{self, Counter};

#[derive(Clone, Copy, PartialEq, Eq, Debug, PostgresGucEnum)]
pub enum ContextMode {
    #[name = c"open"]
    Open,
    #[name = c"locked"]
    Locked,
    #[name = c"signed"]
    Signed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, PostgresGucEnum)]
pub enum MissingContext {
    #[name = c"error"]
    Error,
    #[name = c"empty"]
    Empty,
}

static TENANT_CONTEXT: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static CONTEXT_MODE: GucSetting<ContextMode> = GucSetting::<ContextMode>::new(ContextMode::Locked);
static MISSING_CONTEXT: GucSetting<MissingContext> = GucSetting::<MissingContext>::new(MissingContext::Error);

pub fn context_mode() -> ContextMode {
    CONTEXT_MODE.get()
}

pub fn missing_context() -> MissingContext {
    MISSING_CONTEXT.get()
}

/// What a tenant is judged by; once, from `define` of all settings.
pub(super) fn define_modes() {
    // SAFETY: the hook is guarded, keeps to the server's protocol (see its comment), and lives as long as the process.
    unsafe {
        GucRegistry::define_enum_guc_with_hooks(
            c"bulkhead.context_mode",
            c"Who may choose the tenant, and how often: open, locked or signed.",
            // Locked by default: it stops injected SQL from switching tenants and costs an application that sets its
            // tenant once a transaction nothing.
            c"open: any id at any time. locked: one tenant for each transaction. signed: only verified tokens.",
            &CONTEXT_MODE,
            GucContext::Suset,
            GucFlags::default(),
            None,
            Some(assign_context_mode),
            None,
        );
        GucRegistry::define_enum_guc(
            c"bulkhead.missing_context",
            c"What a statement that touches a protected table without a tenant gets: error or empty.",
            // Error by default: an empty result hides the bug that lost the tenant.
            c"error: SQLSTATE 42501, naming the table. empty: no rows.",
            &MISSING_CONTEXT,
            GucContext::Suset,
            GucFlags::default(),
        );
    }
}

/// The tenant itself; once, after everything that its check consults.
pub(super) fn define() {
    // SAFETY: as above.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"bulkhead.tenant_context",
            c"The tenant that the current transaction acts for.",
            c"Empty, a tenant id, or a signed token. Set it with SET LOCAL inside a transaction block, or with bulkhead.set_tenant().",
            &TENANT_CONTEXT,
            GucContext::Userset,
            GucFlags::default(),
            Some(check),
            Some(assign),
            Some(show),
        );
    }
}

/// # Safety
/// Called by the server. Must not raise.
#[pg_guard]
unsafe extern "C-unwind" fn assign_context_mode(_newval: i32, _extra: *mut c_void) {
    state::changed();
}

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
    match session_tokens::verify_at_set(bytes) {
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
