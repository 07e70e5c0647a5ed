//! `set_tenant()`: SET and SET LOCAL as a function.
//!
//! A raw version-1 function, so that what the setting's check hook refuses leaves it as the server raised it: pgrx's guard would
//! raise a copy without its context.

use std::ffi::{c_char, c_int};

use pgrx::prelude::*;

use super::raw;
use crate::context::state;
use crate::error;

unsafe extern "C-unwind" {
    /// Without the guard that pgrx puts around its binding.
    fn set_config_option(
        name: *const c_char,
        value: *const c_char,
        context: pg_sys::GucContext::Type,
        source: pg_sys::GucSource::Type,
        action: pg_sys::GucAction::Type,
        change: bool,
        level: c_int,
        is_reload: bool,
    ) -> c_int;
}

raw::finfo!(pg_finfo_bulkhead_set_tenant);

/// `set_tenant(context text, is_local boolean DEFAULT true)`: the same as SET LOCAL, or SET, bulkhead.tenant_context.
///
/// Errors: 22023 for NULL or text that is no tenant id; 42501 when the mode does not allow the switch. No locks.
///
/// # Safety
/// Called by the server with a valid call frame of two arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn bulkhead_set_tenant(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the frame is valid; nothing with a destructor is alive while the server's function may raise.
    unsafe {
        let Switch { value, action } = arguments(fcinfo);
        set_config_option(
            c"bulkhead.tenant_context".as_ptr(),
            value,
            if pg_sys::superuser() { pg_sys::GucContext::PGC_SUSET } else { pg_sys::GucContext::PGC_USERSET },
            pg_sys::GucSource::PGC_S_SESSION,
            action,
            true,
            0,
            false,
        );
    }
    pg_sys::Datum::null()
}

#[repr(C)]
struct Switch {
    value: *const c_char,
    action: pg_sys::GucAction::Type,
}

/// The value as a C string in the current memory context, and what to do with it.
///
/// # Safety
/// `fcinfo` is a valid call frame of two arguments.
#[pg_guard]
unsafe extern "C-unwind" fn arguments(fcinfo: pg_sys::FunctionCallInfo) -> Switch {
    // SAFETY: the caller's promise; a text datum is a varlena, which text_to_cstring copies.
    let (context, is_local) = unsafe {
        let [context, is_local] = [0, 1].map(|n| *(*fcinfo).args.as_ptr().add(n));
        if context.isnull || is_local.isnull {
            // Were NULL ignored, the former tenant would stay in force unnoticed.
            error::argument(
                "the tenant and is_local must not be NULL",
                "Pass '' to clear the context. A NULL tenant is most often a look-up that found nothing.",
            )
            .report(PgLogLevel::ERROR);
        }
        (pg_sys::text_to_cstring(context.value.cast_mut_ptr()), is_local.value.value() != 0)
    };
    if !is_local {
        return Switch { value: context, action: pg_sys::GucAction::GUC_ACTION_SET };
    }
    if state::is_alone() {
        // SAFETY: a constant string; warns, as SET LOCAL does outside a transaction block.
        unsafe { pg_sys::WarnNoTransactionBlock(true, c"SET LOCAL".as_ptr()) };
    }
    Switch { value: context, action: pg_sys::GucAction::GUC_ACTION_LOCAL }
}
