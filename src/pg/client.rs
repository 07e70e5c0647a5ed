//! Who is at the other end of the connection, what was asked, and words to the server log.

use std::ffi::{CStr, c_char};

use pgrx::prelude::*;

use super::security;

pub struct Who {
    pub role: String,
    pub session_role: String,
    pub address: String,
    pub application: String,
}

pub fn who() -> Who {
    // SAFETY: looks names up, and reads variables of the server's; what they return is NULL or a C string.
    unsafe {
        Who {
            role: text(pg_sys::GetUserNameFromId(pg_sys::GetUserId(), true)),
            session_role: text(pg_sys::GetUserNameFromId(pg_sys::GetSessionUserId(), true)),
            address: address(),
            application: text(pg_sys::application_name),
        }
    }
}

/// The connection's application_name.
pub fn application() -> String {
    // SAFETY: NULL, or a C string of the setting's.
    unsafe { text(pg_sys::application_name) }
}

/// The same, as the server has it.
pub fn raw_application() -> &'static [u8] {
    // SAFETY: NULL, or a C string of the setting's; nobody keeps it longer than the statement.
    unsafe { bytes(pg_sys::application_name) }
}

unsafe extern "C-unwind" {
    /// Without the guard that pgrx puts around its binding: it raises nothing.
    fn GetCurrentStatementStartTimestamp() -> i64;
}

/// When the client's statement began; microseconds, as the server counts them.
pub fn statement_start() -> i64 {
    // SAFETY: reads a variable of the server's.
    unsafe { GetCurrentStatementStartTimestamp() }
}

/// The query id that the server reports for the running statement; 0 unless compute_query_id is on.
pub fn query_id() -> i64 {
    // SAFETY: reads this backend's entry of the activity view.
    unsafe { pg_sys::pgstat_get_my_query_id() as i64 }
}

/// The text that the client sent last.
pub fn statement() -> String {
    // SAFETY: NULL, or a C string that lives as long as the statement.
    unsafe { text(pg_sys::debug_query_string) }
}

/// The same, as the server has it. Not to be kept: it lives as long as the statement.
pub fn raw_statement() -> &'static [u8] {
    // SAFETY: NULL, or a C string that lives as long as the statement.
    unsafe { bytes(pg_sys::debug_query_string) }
}

/// A backslash escapes the next character in every string constant, as it did in old servers.
pub fn backslashes_escape() -> bool {
    // SAFETY: reads a variable of the server's.
    unsafe { !pg_sys::standard_conforming_strings }
}

fn address() -> String {
    // SAFETY: the function reads the connection and returns an inet or NULL, which inet_out prints.
    unsafe {
        pgrx::fcinfo::direct_function_call_as_datum(pg_sys::inet_client_addr, &[]).map_or_else(
            || "local".to_owned(),
            |address| {
                pgrx::fcinfo::direct_function_call::<&CStr>(pg_sys::inet_out, &[Some(address)])
                    .map_or_else(String::new, |printed| printed.to_string_lossy().into_owned())
            },
        )
    }
}

/// # Safety
/// `string` is NULL or a C string.
unsafe fn bytes(string: *const c_char) -> &'static [u8] {
    if string.is_null() {
        return b"";
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(string) }.to_bytes()
}

/// What is written is UTF-8; in a database of another encoding only ASCII means the same in both.
///
/// # Safety
/// `string` is NULL or a C string.
unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(string) }.to_string_lossy();
    if security::database_is_utf8() {
        text.into_owned()
    } else {
        text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
    }
}

/// A line of the server log, and nothing for the client.
pub fn log(message: String) {
    ereport!(PgLogLevel::LOG_SERVER_ONLY, PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message);
}

/// Raises 25006 in a read-only transaction and on a standby. `command`: what it says.
pub fn refuse_read_only(command: &CStr) {
    // SAFETY: raise, or do nothing.
    unsafe {
        pg_sys::PreventCommandIfReadOnly(command.as_ptr());
        pg_sys::PreventCommandIfParallelMode(command.as_ptr());
    }
}

/// Rows can be written now.
pub fn may_write() -> bool {
    // SAFETY: read the server's transaction state.
    unsafe {
        !pg_sys::XactReadOnly
            && !pg_sys::RecoveryInProgress()
            && !pg_sys::IsInParallelMode()
            && !pg_sys::IsAbortedTransactionBlockState()
    }
}
