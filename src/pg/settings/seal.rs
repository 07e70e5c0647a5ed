//! `bulkhead.seal` and `bulkhead.bypass`.

use std::ffi::{CStr, CString, c_char, c_void};

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::prelude::*;

use super::{guc_allocate, refuse};
use crate::pg::{planned_stmt, security, transaction};
use crate::seal::bypass::{self, Grant};

static SEAL: GucSetting<bool> = GucSetting::<bool>::new(true);
static BYPASS: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

/// `bulkhead.seal`; whether it is in force here is for `seal::decision` to say.
pub fn seal() -> bool {
    SEAL.get()
}

/// The reason in `bulkhead.bypass`; whether it counts is for `seal::bypass` to say.
pub fn bypass() -> String {
    BYPASS.get().map_or_else(String::new, |reason| reason.to_string_lossy().into_owned())
}

/// Once, from `define` of all settings, after everything that the check of a bypass consults.
pub(super) fn define() {
    // SAFETY: the hooks are guarded, keep to the server's protocol (see their comments), and live as long as the process.
    unsafe {
        GucRegistry::define_bool_guc_with_hooks(
            c"bulkhead.seal",
            c"Filters protected tables for every role, superuser and BYPASSRLS roles too.",
            // Reload-time, so that only who may change the server's configuration turns it off, and on: it is what a DBA
            // reaches for when the seal itself is in the way of a repair.
            c"Needs shared_preload_libraries. off: row level security alone.",
            &SEAL,
            GucContext::Sighup,
            GucFlags::default(),
            None,
            Some(assign_seal),
            None,
        );
        GucRegistry::define_string_guc_with_hooks(
            c"bulkhead.bypass",
            c"The reason for which the seal is lifted until the transaction ends.",
            c"SET LOCAL inside a transaction block, or a start-up option; needs EXECUTE on bulkhead.begin_bypass.",
            &BYPASS,
            GucContext::Userset,
            GucFlags::default(),
            Some(check),
            Some(assign),
            Some(show),
        );
    }
}

/// Longest reason in bytes: it goes into a line of the log.
const MAX_BYTES: usize = 1000;

/// # Safety
/// Called by the server with valid pointers; `extra` may be given memory that the server then owns.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn check(
    newval: *mut *mut c_char,
    extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: see above; NULL is not a value of this setting.
    let reason = unsafe {
        if (*newval).is_null() || *(*newval) == 0 {
            return true;
        }
        CStr::from_ptr(*newval).to_bytes()
    };
    // SAFETY: reads a flag of the server's. No plan made past the seal is parallel, so a worker needs none.
    if unsafe { pg_sys::InitializingParallelWorker } {
        return true;
    }
    if reason.len() > MAX_BYTES || reason.iter().any(u8::is_ascii_control) {
        return refuse(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "invalid reason for a bypass: at most 1000 bytes, without control characters",
            None,
            "It is written to the server log as one line.",
        );
    }
    let transaction = match source {
        pg_sys::GucSource::PGC_S_CLIENT => 0,
        pg_sys::GucSource::PGC_S_INTERACTIVE | pg_sys::GucSource::PGC_S_SESSION => match by_sql() {
            Some(transaction) => transaction,
            None => return false,
        },
        _ => return refuse_source(),
    };
    let grant = Grant { role: security::current_role().to_u32(), transaction };
    // SAFETY: `guc_allocate` returns memory of that size or NULL; the server owns it from here on.
    unsafe {
        let published = guc_allocate(size_of::<Grant>()).cast::<Grant>();
        if published.is_null() {
            return false;
        }
        published.write(grant);
        *extra = published.cast();
    }
    true
}

/// SET by SQL: the number of the transaction it is for, or none when it is refused.
fn by_sql() -> Option<u64> {
    // SAFETY: reads the server's transaction state.
    let in_block = unsafe { pg_sys::IsTransactionBlock() };
    if !in_block && !bypass::is_beginning() {
        refuse(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "bulkhead.bypass can be set only inside a transaction block",
            Some("A bypass ends with its transaction, so that none is left behind on a connection."),
            "BEGIN; SET LOCAL bulkhead.bypass = 'why'; ...; COMMIT; or, for a whole session, as a start-up option.",
        );
        return None;
    }
    if !bypass::may_begin() {
        refuse(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            "permission denied to bypass the seal",
            Some("A bypass needs EXECUTE on function bulkhead.begin_bypass(text)."),
            "GRANT EXECUTE ON FUNCTION bulkhead.begin_bypass(text) TO ...; to the roles that maintain all tenants.",
        );
        return None;
    }
    Some(transaction::number())
}

fn refuse_source() -> bool {
    refuse(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        "bulkhead.bypass cannot be set for a role, a database, a function or the server",
        Some("A bypass is for one transaction, or for one session that asks for it when it starts."),
        "Use SELECT bulkhead.begin_bypass('why') inside a transaction, or PGOPTIONS=\"-c bulkhead.bypass=why\".",
    )
}

/// # Safety
/// Called by the server with the `extra` that the check hook made, or NULL. Must not raise.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn assign(_newval: *const c_char, extra: *mut c_void) {
    // SAFETY: as above: NULL, or a `Grant` that outlives the call.
    bypass::publish(unsafe { extra.cast::<Grant>().as_ref() }.copied().unwrap_or(Grant::NONE));
}

/// SHOW prints the reason only while it counts.
///
/// # Safety
/// Called by the server.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn show() -> *const c_char {
    if !bypass::is_set() {
        return c"".as_ptr();
    }
    BYPASS.get().map_or(c"".as_ptr(), |reason| {
        // SAFETY: copies a C string into memory of the current context.
        unsafe { pg_sys::pstrdup(reason.as_ptr()) }
    })
}

/// # Safety
/// Called by the server. Must not raise.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn assign_seal(_newval: bool, _extra: *mut c_void) {
    planned_stmt::forget_cached();
}
