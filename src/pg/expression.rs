//! Expressions of one table said for another of the same columns, whose numbers may differ: a policy of the parent's for a partition.

use std::ffi::{CStr, CString};

use pgrx::prelude::*;

use crate::error::{self, Result};

/// Closes a relation on every path.
struct Open(pg_sys::Relation);

impl Open {
    fn new(relation: pg_sys::Oid) -> Open {
        // SAFETY: raises when the relation is gone.
        Open(unsafe { pg_sys::relation_open(relation, pg_sys::AccessShareLock as i32) })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: opened by `new` and not closed elsewhere; the lock stays until the transaction ends.
        unsafe { pg_sys::relation_close(self.0, pg_sys::NoLock as i32) };
    }
}

/// The SQL of an expression that the catalog keeps for `from`, as it reads for `to`. `tree`: the text of a pg_node_tree. Columns go by
/// their names.
pub fn translate(tree: &str, from: pg_sys::Oid, to: pg_sys::Oid) -> Result<String> {
    let (from, into) = (Open::new(from), Open::new(to));
    let text = CString::new(tree).map_err(|error| error::internal(error.to_string()))?;
    // SAFETY: the text is a node tree that the server wrote; both descriptors are valid while their relations are open; what the
    // functions return is palloc'd, and copied before the context ends.
    unsafe {
        let node = pg_sys::stringToNode(text.as_ptr()).cast::<pg_sys::Node>();
        let (target, source) = ((*into.0).rd_att, (*from.0).rd_att);
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let columns = pg_sys::build_attrmap_by_name(target, source);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let columns = pg_sys::build_attrmap_by_name(target, source, false);
        let mut whole_row = false;
        let row_type = (*(*into.0).rd_rel).reltype;
        let node = pg_sys::map_variable_attnos(node, 1, 0, columns, row_type, &mut whole_row);
        let context = pg_sys::deparse_context_for(pg_sys::get_rel_name(to), to);
        let printed = pg_sys::deparse_expression(node, context, false, false);
        Ok(CStr::from_ptr(printed).to_string_lossy().into_owned())
    }
}

/// The SQL of an expression that the catalog keeps for the relation, as it reads when that has another name.
pub fn print(tree: &str, relation: pg_sys::Oid, name: &str) -> Result<String> {
    let internal = |error: std::ffi::NulError| error::internal(error.to_string());
    let (text, name) = (CString::new(tree).map_err(internal)?, CString::new(name).map_err(internal)?);
    // SAFETY: the text is a node tree that the server wrote; what the functions return is palloc'd.
    unsafe {
        let node = pg_sys::stringToNode(text.as_ptr()).cast::<pg_sys::Node>();
        let printed =
            pg_sys::deparse_expression(node, pg_sys::deparse_context_for(name.as_ptr(), relation), false, false);
        Ok(CStr::from_ptr(printed).to_string_lossy().into_owned())
    }
}
