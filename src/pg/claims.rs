//! `claims()`, `user_id()`, `has_role()` and `has_permission()`: what the verified token says, for policies.
//!
//! Raw version-1 functions as in accessors.rs, and for the same reason. `has_role` keeps its last answer in the query's expression:
//! a policy that asks for one role over a million rows looks it up once.

use std::ffi::CString;

use pgrx::prelude::*;
use pgrx::varlena::{varatt_is_1b_e, varatt_is_4b_c, vardata_any, varsize_any_exhdr};

use super::raw;
use crate::context::state;
use crate::context::token::Verified;

macro_rules! function {
    ($name:ident, $finfo:ident, $body:expr) => {
        raw::finfo!($finfo);

        /// # Safety
        /// Called by the server with a valid call frame.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            // SAFETY: the caller's promise is passed on.
            unsafe { $body(fcinfo) }
        }
    };
}

function!(bulkhead_claims, pg_finfo_bulkhead_claims, |fcinfo| whole(fcinfo, first_claims));
function!(bulkhead_user_id, pg_finfo_bulkhead_user_id, |fcinfo| whole(fcinfo, first_user_id));
function!(bulkhead_has_role, pg_finfo_bulkhead_has_role, |fcinfo| asked(fcinfo, first_role));
function!(bulkhead_has_permission, pg_finfo_bulkhead_has_permission, |fcinfo| asked(fcinfo, first_permission));

type First = unsafe extern "C-unwind" fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum;

/// What an expression keeps of a function without arguments; a datum that is a pointer points into the same memory context.
struct Whole {
    generation: u64,
    answer: pg_sys::NullableDatum,
}

/// # Safety
/// `fcinfo` is a valid call frame of a function whose `fn_extra` holds a `Whole`, or nothing yet.
#[inline(always)]
unsafe fn whole(fcinfo: pg_sys::FunctionCallInfo, first: First) -> pg_sys::Datum {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(flinfo) = (*fcinfo).flinfo.as_ref()
            && let Some(kept) = flinfo.fn_extra.cast::<Whole>().as_ref()
            && kept.generation == state::generation()
        {
            (*fcinfo).isnull = kept.answer.isnull;
            return kept.answer.value;
        }
        first(fcinfo)
    }
}

/// `claims()`: the payload of the token in force, NULL without one. No errors, no locks.
///
/// # Safety
/// As `whole`.
#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn first_claims(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the caller's promise.
    state::with_token(|token| unsafe { answer(fcinfo, token.and_then(jsonb)) })
}

/// `user_id()`: the claim `sub`, NULL without one. No errors, no locks.
///
/// # Safety
/// As `whole`.
#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn first_user_id(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    state::with_token(|token| {
        let subject = token.and_then(|token| token.subject.as_deref()).map(|subject| {
            let mut varlena = vec![0; 4];
            varlena.extend_from_slice(subject.as_bytes());
            // SAFETY: the bytes begin with the four of a header; MAX_BYTES of a token bounds their number.
            unsafe { pgrx::varlena::set_varsize_4b(varlena.as_mut_ptr().cast(), varlena.len() as i32) };
            varlena
        });
        // SAFETY: the caller's promise.
        unsafe { answer(fcinfo, subject.as_deref()) }
    })
}

/// The claims as a jsonb varlena, made at the first call for a token and kept with it.
fn jsonb(token: &Verified) -> Option<&[u8]> {
    if token.jsonb.get().is_none() {
        let text = CString::new(token.claims.as_str()).ok()?;
        // SAFETY: the input function of jsonb on a C string; what it returns is an untoasted varlena, copied and then freed.
        let made = unsafe {
            let datum = pgrx::direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(text.as_ptr().into())])?;
            let varlena = datum.cast_mut_ptr::<pg_sys::varlena>();
            let copy = Box::from(std::slice::from_raw_parts(varlena.cast::<u8>(), pgrx::varlena::varsize_any(varlena)));
            pg_sys::pfree(varlena.cast());
            copy
        };
        // It was empty a moment ago, and nothing else runs.
        let _ = token.jsonb.set(made);
    }
    token.jsonb.get().map(|bytes| &**bytes)
}

/// A copy of the varlena, kept for the expression at its first call. Later ones are short-lived, because somebody may still hold
/// the first.
///
/// # Safety
/// As `whole`.
unsafe fn answer(fcinfo: pg_sys::FunctionCallInfo, varlena: Option<&[u8]>) -> pg_sys::Datum {
    // SAFETY: the allocations are as large as what is written to them, and never NULL; `fn_mcxt` lives as long as the expression.
    unsafe {
        let flinfo = (*fcinfo).flinfo.as_mut().filter(|flinfo| flinfo.fn_extra.is_null());
        let memory = flinfo.as_ref().map_or(pg_sys::CurrentMemoryContext, |flinfo| flinfo.fn_mcxt);
        let answer = match varlena {
            None => pg_sys::NullableDatum { value: pg_sys::Datum::null(), isnull: true },
            Some(bytes) => {
                let copy = pg_sys::MemoryContextAlloc(memory, bytes.len()).cast::<u8>();
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len());
                pg_sys::NullableDatum { value: copy.into(), isnull: false }
            }
        };
        if let Some(flinfo) = flinfo {
            let kept = pg_sys::MemoryContextAlloc(memory, size_of::<Whole>()).cast::<Whole>();
            kept.write(Whole { generation: state::generation(), answer });
            flinfo.fn_extra = kept.cast();
        }
        (*fcinfo).isnull = answer.isnull;
        answer.value
    }
}

/// Longest name whose answer is kept.
const KEPT_NAME: usize = 128;

/// The last answer of an expression with one argument. Nobody holds a pointer to it, so it is changed in place.
struct Asked {
    generation: u64,
    answer: bool,
    len: usize,
    name: [u8; KEPT_NAME],
}

/// # Safety
/// `fcinfo` is a valid call frame of a function with one text argument, whose `fn_extra` holds an `Asked`, or nothing yet.
#[inline(always)]
unsafe fn asked(fcinfo: pg_sys::FunctionCallInfo, first: First) -> pg_sys::Datum {
    // SAFETY: the caller's promise. A varlena that is neither compressed nor elsewhere is read where it is.
    unsafe {
        let argument = (*fcinfo).args.as_ptr().read();
        (*fcinfo).isnull = false;
        if argument.isnull {
            return false.into();
        }
        if let Some(flinfo) = (*fcinfo).flinfo.as_ref()
            && let Some(kept) = flinfo.fn_extra.cast::<Asked>().as_ref()
            && kept.generation == state::generation()
        {
            let name = argument.value.cast_mut_ptr::<pg_sys::varlena>();
            if !varatt_is_1b_e(name) && !varatt_is_4b_c(name) && kept.name[..kept.len] == *bytes_of(name) {
                return kept.answer.into();
            }
        }
        first(fcinfo)
    }
}

/// # Safety
/// `varlena` is neither compressed nor elsewhere, and lives for `'a`.
unsafe fn bytes_of<'a>(varlena: *const pg_sys::varlena) -> &'a [u8] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(vardata_any(varlena).cast::<u8>(), varsize_any_exhdr(varlena)) }
}

/// `has_role(role)`: whether the token in force names the role; false without a token and for NULL. No errors, no locks.
///
/// # Safety
/// As `asked`.
#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn first_role(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the caller's promise.
    unsafe { look_up(fcinfo, |token| &token.roles) }
}

/// `has_permission(permission)`: as `has_role`.
///
/// # Safety
/// As `asked`.
#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn first_permission(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the caller's promise.
    unsafe { look_up(fcinfo, |token| &token.permissions) }
}

/// # Safety
/// As `asked`; the argument is not NULL.
unsafe fn look_up(fcinfo: pg_sys::FunctionCallInfo, names: fn(&Verified) -> &Vec<String>) -> pg_sys::Datum {
    // SAFETY: the caller's promise; the detoasted copy, if there is one, lives in the current memory context.
    unsafe {
        let argument = (*fcinfo).args.as_ptr().read().value.cast_mut_ptr::<pg_sys::varlena>();
        let name = bytes_of(pg_sys::pg_detoast_datum_packed(argument));
        let answer =
            state::with_token(|token| token.is_some_and(|token| names(token).iter().any(|one| one.as_bytes() == name)));
        if name.len() <= KEPT_NAME
            && let Some(flinfo) = (*fcinfo).flinfo.as_mut()
        {
            if flinfo.fn_extra.is_null() {
                flinfo.fn_extra = pg_sys::MemoryContextAlloc(flinfo.fn_mcxt, size_of::<Asked>());
            }
            let mut kept = Asked { generation: state::generation(), answer, len: name.len(), name: [0; KEPT_NAME] };
            kept.name[..name.len()].copy_from_slice(name);
            flinfo.fn_extra.cast::<Asked>().write(kept);
        }
        answer.into()
    }
}
