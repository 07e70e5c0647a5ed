//! `tenant_id()`, `tenant_id_text()`, `tenant_id_bigint()` and `require_tenant()`: called once for each row of a scan.
//!
//! Raw version-1 functions, because every wrapper costs more than the work. A call compares two numbers and returns
//! a pointer. What it points to is a copy made at the first call in a query, in the memory of the query's expression,
//! so it lives as long as anything that holds it: an index scan keeps the pointer to its key for the whole scan, during
//! which the setting may be changed and its memory freed. A copy that has become old (a switch inside the
//! query) is not replaced, for the same reason: later calls then return ordinary short-lived memory.

use pgrx::prelude::*;

use super::raw;
use crate::context::state;
use crate::context::tenant::{MAX_BYTES, Tenant};
use crate::error;

/// What one expression of one query keeps in `fn_extra`. A datum that is a pointer points into the same memory context.
struct Kept {
    generation: u64,
    answer: pg_sys::NullableDatum,
}

/// Room for a varlena of the longest id.
type Scratch = [u8; 4 + MAX_BYTES];

enum Answer {
    Null,
    Value(pg_sys::Datum),
    /// The first bytes of the scratch are the datum.
    Bytes(usize),
}

macro_rules! accessor {
    ($name:ident, $finfo:ident, $first:ident, $answer:ident) => {
        raw::finfo!($finfo);

        /// # Safety
        /// Called by the server with a valid call frame.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            // SAFETY: the frame is valid for the call; `flinfo` is NULL only in a direct call from C, and `fn_extra` is
            // ours alone.
            unsafe {
                if let Some(flinfo) = (*fcinfo).flinfo.as_ref()
                    && let Some(kept) = flinfo.fn_extra.cast::<Kept>().as_ref()
                    && kept.generation == state::generation()
                {
                    (*fcinfo).isnull = kept.answer.isnull;
                    return kept.answer.value;
                }
                $first(fcinfo)
            }
        }

        /// # Safety
        /// As above.
        #[cold]
        #[inline(never)]
        #[pg_guard]
        unsafe extern "C-unwind" fn $first(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            // SAFETY: as above.
            unsafe { read(fcinfo, $answer) }
        }
    };
}

accessor!(bulkhead_tenant_id, pg_finfo_bulkhead_tenant_id, first_uuid, uuid);
accessor!(bulkhead_tenant_id_text, pg_finfo_bulkhead_tenant_id_text, first_text, text);
accessor!(bulkhead_tenant_id_bigint, pg_finfo_bulkhead_tenant_id_bigint, first_bigint, bigint);
accessor!(bulkhead_require_tenant, pg_finfo_bulkhead_require_tenant, first_required, required);

fn uuid(tenant: &Tenant, scratch: &mut Scratch) -> Answer {
    let Some(uuid) = tenant.uuid() else { return Answer::Null };
    scratch[..16].copy_from_slice(uuid);
    Answer::Bytes(16)
}

fn text(tenant: &Tenant, scratch: &mut Scratch) -> Answer {
    if tenant.is_none() {
        return Answer::Null;
    }
    let size = 4 + tenant.id().len();
    scratch[4..size].copy_from_slice(tenant.id());
    // SAFETY: the scratch begins with the four bytes of a varlena header.
    unsafe { pgrx::varlena::set_varsize_4b(scratch.as_mut_ptr().cast(), size as i32) };
    Answer::Bytes(size)
}

/// `require_tenant()`: the tenant's id as text. Errors: 42501 when there is none. No locks.
fn required(tenant: &Tenant, scratch: &mut Scratch) -> Answer {
    if tenant.is_none() {
        error::no_tenant("bulkhead.require_tenant()", false).report(PgLogLevel::ERROR);
    }
    text(tenant, scratch)
}

fn bigint(tenant: &Tenant, _scratch: &mut Scratch) -> Answer {
    tenant.bigint().map_or(Answer::Null, |id| Answer::Value(id.into()))
}

/// The slow path: the first call in a query, and every call after a switch inside the query.
///
/// # Safety
/// `fcinfo` is the valid call frame of one of the accessors.
unsafe fn read(fcinfo: pg_sys::FunctionCallInfo, answer: fn(&Tenant, &mut Scratch) -> Answer) -> pg_sys::Datum {
    #[repr(align(8))]
    struct Aligned(Scratch);
    let mut scratch = Aligned([0; 4 + MAX_BYTES]);
    let answer = state::with_tenant(|tenant| answer(tenant, &mut scratch.0));
    // SAFETY: the allocations are as large as what is written to them; MemoryContextAlloc aligns for any type and never
    // returns NULL. `fn_mcxt` lives as long as the expression that `flinfo` belongs to.
    unsafe {
        let flinfo = (*fcinfo).flinfo.as_mut().filter(|flinfo| flinfo.fn_extra.is_null());
        let memory = flinfo.as_ref().map_or(pg_sys::CurrentMemoryContext, |flinfo| flinfo.fn_mcxt);
        let datum = match answer {
            Answer::Null => pg_sys::NullableDatum { value: pg_sys::Datum::null(), isnull: true },
            Answer::Value(value) => pg_sys::NullableDatum { value, isnull: false },
            Answer::Bytes(size) => {
                let copy = pg_sys::MemoryContextAlloc(memory, size).cast::<u8>();
                std::ptr::copy_nonoverlapping(scratch.0.as_ptr(), copy, size);
                pg_sys::NullableDatum { value: copy.into(), isnull: false }
            }
        };
        if let Some(flinfo) = flinfo {
            let kept = pg_sys::MemoryContextAlloc(memory, size_of::<Kept>()).cast::<Kept>();
            kept.write(Kept { generation: state::generation(), answer: datum });
            flinfo.fn_extra = kept.cast();
        }
        (*fcinfo).isnull = datum.isnull;
        datum.value
    }
}
