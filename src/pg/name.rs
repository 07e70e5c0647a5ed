//! SQL's type `name` as a result, which pgrx does not know.

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::prelude::*;

/// A name of at most 63 bytes; what is longer is cut off.
pub struct Name(pub String);

impl IntoDatum for Name {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        const SIZE: usize = pg_sys::NAMEDATALEN as usize;
        let bytes = self.0.as_bytes();
        let length = bytes.len().min(SIZE - 1);
        // SAFETY: the allocation is as long as a name is, which is longer than what is copied; the rest of it stays zero.
        unsafe {
            let name = pg_sys::palloc0(SIZE).cast::<u8>();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), name, length);
            Some(name.into())
        }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::NAMEOID
    }
}

// SAFETY: the datum that `into_datum` makes lives in the memory context of the call.
unsafe impl BoxRet for Name {
    unsafe fn box_into<'fcx>(self, frame: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: see above.
            Some(datum) => unsafe { frame.return_raw_datum(datum) },
            None => frame.return_null(),
        }
    }
}

// SAFETY: the datum that `into_datum` makes is one of SQL's type name.
unsafe impl SqlTranslatable for Name {
    const TYPE_IDENT: &'static str = "name";
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: std::result::Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("name"));
    const RETURN_SQL: std::result::Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("name")));
}
