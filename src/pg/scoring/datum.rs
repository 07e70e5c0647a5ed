//! jsonb, text and numeric between the server and slices.

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::varlena::{set_varsize_4b, varatt_is_1b_e, varatt_is_4b_c, vardata_any, varsize_any_exhdr};

use crate::scoring::build;
use crate::scoring::encode::Encoded;
use crate::scoring::number::Number;

/// The bytes of an argument, without their length: in place, or a copy where it was compressed or stored aside.
pub struct Bytes<'a> {
    bytes: &'a [u8],
    copy: *mut pg_sys::varlena,
}

impl Bytes<'_> {
    pub fn get(&self) -> &[u8] {
        self.bytes
    }

    /// # Safety
    /// `datum` is a value of a type of variable length that lives as long as the result.
    #[inline]
    pub unsafe fn of<'a>(datum: pg_sys::Datum) -> Bytes<'a> {
        let given: *mut pg_sys::varlena = datum.cast_mut_ptr();
        // SAFETY: the caller's promise. A short header and four bytes in front are both read in place: nothing here asks for alignment.
        unsafe {
            let aside = varatt_is_1b_e(given) || varatt_is_4b_c(given);
            let plain = if aside { pg_sys::pg_detoast_datum(given) } else { given };
            let bytes = std::slice::from_raw_parts(vardata_any(plain).cast::<u8>(), varsize_any_exhdr(plain));
            Bytes { bytes, copy: if aside { plain } else { std::ptr::null_mut() } }
        }
    }
}

impl Drop for Bytes<'_> {
    fn drop(&mut self) {
        if !self.copy.is_null() && !std::thread::panicking() {
            // SAFETY: the copy made above, which nobody else has.
            unsafe { pg_sys::pfree(self.copy.cast()) };
        }
    }
}

/// A value of variable length in the current memory context.
fn varlena(payload: &[u8]) -> pg_sys::Datum {
    let size = payload.len() + 4;
    // SAFETY: the allocation is as long as what is written.
    unsafe {
        let copy = pg_sys::palloc(size).cast::<u8>();
        std::ptr::copy_nonoverlapping(payload.as_ptr(), copy.add(4), payload.len());
        set_varsize_4b(copy.cast(), size as i32);
        copy.into()
    }
}

/// A jsonb from what follows its length.
pub fn jsonb(payload: &[u8]) -> pg_sys::Datum {
    varlena(payload)
}

/// A jsonb as an argument of a statement.
pub fn jsonb_argument(payload: &[u8]) -> DatumWithOid<'static> {
    // SAFETY: a jsonb, which was just made; it lives as long as the function's memory.
    unsafe { DatumWithOid::new(Raw(jsonb(payload)), pg_sys::JSONBOID) }
}

/// A datum that needs no conversion.
struct Raw(pg_sys::Datum);

impl IntoDatum for Raw {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

pub fn numeric(number: &Number) -> pg_sys::Datum {
    match Encoded::small(number) {
        Some(encoded) => varlena(encoded.bytes()),
        None => varlena(&build::numeric(number)[4..]),
    }
}
