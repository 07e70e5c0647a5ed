//! Cursors WITH HOLD outlive their transaction with the rows of its tenant: they are closed when another tenant, or
//! none, would read from them.

use std::cell::RefCell;
use std::ffi::{CStr, CString};

use pgrx::prelude::*;

use super::cell::{PerBackend, hot};
use super::{list, registry};
use crate::context::state;
use crate::context::tenant::Tenant;
use crate::error;

struct Held {
    name: CString,
    /// Tells it from a later cursor of the same name.
    created: pg_sys::TimestampTz,
    tenant: Tenant,
}

hot! {
    static HELD: PerBackend<RefCell<Vec<Held>>> = PerBackend::new(RefCell::new(Vec::new()));
}

/// DECLARE CURSOR has run.
///
/// # Safety
/// `declaration` is valid.
pub unsafe fn declared(declaration: *const pg_sys::DeclareCursorStmt) {
    // SAFETY: the caller's promise; a portal that was just declared has a query.
    unsafe {
        if (*declaration).options & pg_sys::CURSOR_OPT_HOLD as i32 == 0 {
            return;
        }
        let Some(portal) = pg_sys::GetPortalByName((*declaration).portalname).as_ref() else { return };
        let Some(query) = portal.queryDesc.as_ref() else { return };
        let protected =
            list::cells((*query.plannedstmt).relationOids).iter().any(|cell| registry::is_protected(cell.oid_value));
        if protected {
            let name = CStr::from_ptr((*declaration).portalname).to_owned();
            let mut held = HELD.borrow_mut();
            held.retain(|other| other.name != name);
            held.push(Held { name, created: portal.creation_time, tenant: state::tenant() });
        }
    }
}

/// Whether a run fills the store of a cursor that is about to outlive its transaction.
///
/// # Safety
/// `query` is valid and about to run.
pub unsafe fn is_being_held(query: *const pg_sys::QueryDesc) -> bool {
    // SAFETY: NULL, or the portal that is running.
    unsafe { pg_sys::ActivePortal.as_ref() }
        .is_some_and(|portal| portal.queryDesc.cast_const() == query && !portal.holdStore.is_null())
}

/// There is none.
pub fn is_empty() -> bool {
    HELD.try_borrow().is_ok_and(|held| held.is_empty())
}

/// Closes those that were filled for another tenant than the current one. Raises 55000 for one that is being read.
pub fn close_foreign() {
    if HELD.borrow().is_empty() {
        return;
    }
    let current = state::tenant();
    let mut foreign = Vec::new();
    HELD.borrow_mut().retain(|held| {
        // SAFETY: looks a portal up by name; it is valid until it is dropped.
        let portal = unsafe { pg_sys::GetPortalByName(held.name.as_ptr()) };
        // SAFETY: as above.
        match unsafe { portal.as_ref() } {
            Some(found) if found.creation_time == held.created => {
                // Before its transaction ends it holds nothing yet, and reads like any other cursor.
                let other = !found.holdStore.is_null() && held.tenant.id() != current.id();
                if other {
                    foreign.push((portal, found.status));
                }
                !other
            }
            _ => false,
        }
    });
    for (portal, status) in foreign {
        if status == pg_sys::PortalStatus::PORTAL_ACTIVE {
            error::state(
                "a cursor WITH HOLD of another tenant is being read",
                "It was filled while the session acted for that tenant.",
                "Close it before the tenant changes.",
            )
            .report(PgLogLevel::ERROR);
        }
        // SAFETY: found above, and neither running nor dropped since.
        unsafe { pg_sys::PortalDrop(portal, false) };
    }
}
