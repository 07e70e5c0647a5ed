//! The extension's settings (GUCs): definition, check and assign hooks.
//!
//! A check hook may refuse, by the fields that the server reads after it returns false; an assign hook must never fail.
//! What the check hook parsed reaches the assign hook in `extra`, which the server stacks with the value: a
//! rollback to a savepoint assigns the earlier parse again, without another check.

use std::ffi::{CStr, CString, c_char, c_void};

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use pgrx::prelude::*;

use crate::context::lock::Refusal;
use crate::context::state::{self, Origin};
use crate::context::tenant::{Fault, MAX_BYTES, Tenant};

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

/// Defines every setting; once, from `_PG_init`.
pub fn define() {
    state::begin_loading();
    // SAFETY: the hooks are guarded, keep to the server's protocol (see their comments), and live as long as the process.
    // The two modes come first: the check of a value set before the library was loaded consults them.
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
            Some(check_context_mode),
            None,
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
        GucRegistry::define_string_guc_with_hooks(
            c"bulkhead.tenant_context",
            c"The tenant that the current transaction acts for.",
            c"Empty for none. Set it with SET LOCAL inside a transaction block, or with bulkhead.set_tenant().",
            &TENANT_CONTEXT,
            GucContext::Userset,
            GucFlags::default(),
            Some(check_tenant_context),
            Some(assign_tenant_context),
            None,
        );
        // A misspelt bulkhead.… must not become a silent placeholder.
        #[cfg(feature = "pg14")]
        pg_sys::EmitWarningsOnPlaceholders(c"bulkhead".as_ptr());
        #[cfg(not(feature = "pg14"))]
        pg_sys::MarkGUCPrefixReserved(c"bulkhead".as_ptr());
        state::end_loading(pg_sys::IsTransactionState());
    }
}

/// # Safety
/// Called by the server with valid pointers; `newval` is a string of the server's that may be changed in place.
#[pg_guard]
unsafe extern "C-unwind" fn check_tenant_context(
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
unsafe extern "C-unwind" fn assign_tenant_context(_newval: *const c_char, extra: *mut c_void) {
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

/// # Safety
/// Called by the server with valid pointers.
#[pg_guard]
unsafe extern "C-unwind" fn check_context_mode(
    newval: *mut i32,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: see above.
    if unsafe { *newval } != ContextMode::Signed as i32 {
        return true;
    }
    refuse(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "bulkhead.context_mode = signed is not available in this version",
        Some("Signed tokens are not verified yet, so no tenant could be set."),
        "Use locked.",
    )
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

/// Leaves an error for the server to raise when the check hook has returned false.
fn refuse(code: PgSqlErrorCode, message: &str, detail: Option<&str>, hint: &str) -> bool {
    // SAFETY: the server resets these three before each check and reads them right after; they must be palloc'd in
    // a context that lives until then.
    unsafe {
        pg_sys::GUC_check_errcode(code as i32);
        pg_sys::GUC_check_errmsg_string = server_string(message);
        pg_sys::GUC_check_errdetail_string = detail.map_or(std::ptr::null_mut(), |text| server_string(text));
        pg_sys::GUC_check_errhint_string = server_string(hint);
    }
    false
}

/// # Safety
/// The result lives in ErrorContext, until the server has reported the error.
unsafe fn server_string(text: &str) -> *mut c_char {
    // SAFETY: the allocation is as long as what is copied, and palloc never returns NULL.
    unsafe {
        let copy = pg_sys::MemoryContextAllocZero(pg_sys::ErrorContext, text.len() + 1).cast::<c_char>();
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), copy, text.len());
        copy
    }
}

/// # Safety
/// What the server frees with its own `guc_free` (16+) or `free` (14, 15) must come from its counterpart.
unsafe fn guc_allocate(size: usize) -> *mut c_void {
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    {
        unsafe extern "C" {
            fn malloc(size: usize) -> *mut c_void;
        }
        // SAFETY: libc's allocator, which `free` in the server belongs to.
        unsafe { malloc(size) }
    }
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    {
        // SAFETY: the server's allocator for settings; LOG makes it return NULL instead of raising.
        unsafe { pg_sys::guc_malloc(pg_sys::LOG as i32, size) }
    }
}
