//! The server's lists, read in place.

use pgrx::pg_sys;

/// The cells of a list; none for NIL. The caller knows which member of the union they carry.
///
/// # Safety
/// `list` is NIL or a valid list that outlives the slice and does not change meanwhile.
pub unsafe fn cells<'a>(list: *const pg_sys::List) -> &'a [pg_sys::ListCell] {
    // SAFETY: the caller's promise; a list has `length` cells at `elements`.
    unsafe {
        match list.as_ref() {
            Some(list) => std::slice::from_raw_parts(list.elements, list.length as usize),
            None => &[],
        }
    }
}
