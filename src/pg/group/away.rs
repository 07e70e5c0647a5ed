//! Commands on a whole database that want nobody in it: its worker is sent away, and none comes while the command runs.
//!
//! The server waits five seconds for others to leave, and a worker that nobody has told does not. Once the command holds its lock on the database, a worker that comes waits for it at its door;
//! what is done here is for the moment before.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::Ordering;

use pgrx::prelude::*;

use super::super::cell::PerBackend;
use super::super::{counters, list};
use super::{clock, memory, wait};

/// A worker is waited for so long, in microseconds; then it is the server's to complain.
const PATIENCE: i64 = 5_000_000;

/// What a command does to its database.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Drops,
    Renames,
    Other,
}

/// A desk that this transaction holds, its database, and for what.
struct Hold {
    number: usize,
    database: u32,
    deed: Deed,
}

/// The desks that this transaction holds.
static HELD: PerBackend<RefCell<Vec<Hold>>> = PerBackend::new(RefCell::new(Vec::new()));
static REGISTERED: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));

/// Before a utility command.
///
/// # Safety
/// `node` is a valid statement.
pub unsafe fn before(node: *mut pg_sys::Node) {
    // SAFETY: the caller's promise; nodes have the type that their tag says.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_DropdbStmt => {
                send_away(text((*node.cast::<pg_sys::DropdbStmt>()).dbname), Deed::Drops, owns)
            }
            pg_sys::NodeTag::T_RenameStmt => {
                let rename = node.cast::<pg_sys::RenameStmt>();
                if (*rename).renameType == pg_sys::ObjectType::OBJECT_DATABASE {
                    send_away(text((*rename).subname), Deed::Renames, owns);
                }
            }
            pg_sys::NodeTag::T_AlterDatabaseStmt => {
                let alter = node.cast::<pg_sys::AlterDatabaseStmt>();
                if option((*alter).options, "tablespace").is_some() {
                    send_away(text((*alter).dbname), Deed::Other, owns);
                }
            }
            pg_sys::NodeTag::T_CreatedbStmt => {
                let options = (*node.cast::<pg_sys::CreatedbStmt>()).options;
                // Not for template1, in which nobody has inventories.
                send_away(option(options, "template"), Deed::Other, may_copy);
            }
            _ => {}
        }
    }
}

/// # Safety
/// A NUL-terminated text, or NULL.
unsafe fn text(text: *const c_char) -> Option<String> {
    // SAFETY: the caller's promise.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// An option of a list, as a text.
///
/// # Safety
/// A list of options.
unsafe fn option(options: *mut pg_sys::List, name: &str) -> Option<String> {
    // SAFETY: the caller's promise; an option without a value is no text.
    unsafe {
        let mut options = list::cells(options).iter().map(|cell| cell.ptr_value.cast::<pg_sys::DefElem>());
        let option = options.find(|option| text((**option).defname).as_deref() == Some(name))?;
        if (*option).arg.is_null() { None } else { text(pg_sys::defGetString(option)) }
    }
}

/// Whether the current role may drop the database: others' commands fail, and disturb nobody.
fn owns(database: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in catalogs with plain oids.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        return pg_sys::pg_database_ownercheck(database, pg_sys::GetUserId());
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        return pg_sys::object_ownercheck(pg_sys::DatabaseRelationId, database, pg_sys::GetUserId());
    }
}

/// Whether the current role may make a database after this one.
fn may_copy(database: pg_sys::Oid) -> bool {
    // SAFETY: as above; the tuple is one of pg_database, and is given back.
    unsafe {
        let id = pg_sys::SysCacheIdentifier::DATABASEOID as i32;
        let tuple = pg_sys::SearchSysCache1(id, pg_sys::Datum::from(database));
        if tuple.is_null() {
            return false;
        }
        let is_template = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>()).datistemplate;
        pg_sys::ReleaseSysCache(tuple);
        may_make_databases() && (is_template || owns(database))
    }
}

/// # Safety
/// In a transaction.
#[cfg(not(any(feature = "pg14", feature = "pg15")))]
unsafe fn may_make_databases() -> bool {
    // SAFETY: a look-up in a catalog.
    unsafe { pg_sys::have_createdb_privilege() }
}

/// The same; on 14, and on 15 before its last minor versions, the server keeps its own function to itself.
///
/// # Safety
/// In a transaction.
#[cfg(any(feature = "pg14", feature = "pg15"))]
unsafe fn may_make_databases() -> bool {
    // SAFETY: look-ups in catalogs; the tuple is one of pg_authid, and is given back.
    unsafe {
        if pg_sys::superuser() {
            return true;
        }
        let id = pg_sys::SysCacheIdentifier::AUTHOID as i32;
        let tuple = pg_sys::SearchSysCache1(id, pg_sys::Datum::from(pg_sys::GetUserId()));
        if tuple.is_null() {
            return false;
        }
        let may = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_authid>()).rolcreatedb;
        pg_sys::ReleaseSysCache(tuple);
        may
    }
}

fn send_away(name: Option<String>, deed: Deed, may: impl Fn(pg_sys::Oid) -> bool) {
    let Some(name) = name.filter(|_| memory::is_there()) else { return };
    let Ok(c_name) = std::ffi::CString::new(name.as_str()) else { return };
    // SAFETY: a look-up in a catalog.
    let database = unsafe { pg_sys::get_database_oid(c_name.as_ptr(), true) };
    if database == pg_sys::InvalidOid || !may(database) {
        return;
    }
    let Some(number) = memory::assign(database.to_u32(), &name) else { return };
    let Some(desk) = memory::desk(number) else { return };
    if !REGISTERED.replace(true) {
        // SAFETY: the callback is guarded and lives as long as the process.
        unsafe { pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut()) };
    }
    HELD.borrow_mut().push(Hold { number, database: database.to_u32(), deed });
    desk.held.fetch_add(1, Ordering::SeqCst);
    let deadline = clock::now() + PATIENCE;
    while !desk.has_nobody() && clock::now() < deadline {
        desk.leave.store(true, Ordering::SeqCst);
        desk.wake();
        wait::sleep(5);
    }
}

/// # Safety
/// Called by the server. Must not raise.
#[pg_guard]
unsafe extern "C-unwind" fn at_end(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    use pg_sys::XactEvent::*;
    if !matches!(event, XACT_EVENT_COMMIT | XACT_EVENT_ABORT | XACT_EVENT_PREPARE) {
        return;
    }
    for Hold { number, database, deed } in HELD.borrow_mut().drain(..) {
        if let Some(desk) = memory::desk(number) {
            match deed {
                // Nobody is connected to it, and nobody can be any more.
                Deed::Drops if event == XACT_EVENT_COMMIT => {
                    desk.close();
                    memory::abandon(database);
                    counters::forget(database);
                }
                Deed::Renames if event == XACT_EVENT_COMMIT => desk.forget_name(),
                _ => {}
            }
            desk.held.fetch_sub(1, Ordering::SeqCst);
        }
        memory::wake_launcher();
    }
}
