//! The processes of group commits: the launcher, and a worker for each database.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::sync::atomic::Ordering;

use pgrx::prelude::*;

use super::super::cell::PerBackend;
use super::super::subtransaction::{self, Failure};
use super::super::{library, lock_timeout, settings};
use super::memory::{self, Desk};
use super::{clock, wait};
use crate::error::Result;
use crate::inventory::group;

const LIBRARY: &CStr = c"bulkhead";

fn put<const N: usize>(field: &mut [c_char; N], text: &CStr) {
    let bytes = text.to_bytes();
    for (to, from) in field.iter_mut().zip(&bytes[..bytes.len().min(N - 1)]) {
        *to = *from as c_char;
    }
}

fn described(name: &CStr, of_type: &CStr, function: &CStr, flags: u32) -> pg_sys::BackgroundWorker {
    let mut worker = pg_sys::BackgroundWorker::default();
    put(&mut worker.bgw_name, name);
    put(&mut worker.bgw_type, of_type);
    put(&mut worker.bgw_library_name, LIBRARY);
    put(&mut worker.bgw_function_name, function);
    worker.bgw_flags = flags as i32;
    // Not on a standby, until it is promoted.
    worker.bgw_start_time = pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = pg_sys::BGW_NEVER_RESTART;
    worker
}

/// Has the postmaster start the launcher; from `_PG_init`.
pub fn register() {
    if library::loaded() != library::Loaded::Shared {
        return;
    }
    let name = c"bulkhead launcher";
    let mut worker = described(name, name, c"bulkhead_launcher", pg_sys::BGWORKER_SHMEM_ACCESS);
    worker.bgw_restart_time = 1;
    // SAFETY: the description is complete and is copied.
    unsafe { pg_sys::RegisterBackgroundWorker(&mut worker) };
}

/// A worker that was started.
pub struct Hired(*mut pg_sys::BackgroundWorkerHandle);

#[derive(PartialEq, Eq)]
pub enum Whereabouts {
    There,
    Gone,
}

impl Hired {
    pub fn whereabouts(&self) -> Whereabouts {
        let mut pid = 0;
        // SAFETY: the handle is that of the worker.
        match unsafe { pg_sys::GetBackgroundWorkerPid(self.0, &mut pid) } {
            pg_sys::BgwHandleStatus::BGWH_STOPPED => Whereabouts::Gone,
            _ => Whereabouts::There,
        }
    }
}

impl Drop for Hired {
    fn drop(&mut self) {
        // SAFETY: palloc'd by the server, and nobody else's.
        unsafe { pg_sys::pfree(self.0.cast()) };
    }
}

/// A worker in the argument: the desk's number, and whether it stays when nothing is asked of it.
const KEPT: usize = 1 << 16;

/// Starts the worker of a desk. None when the server has no room for one more.
pub fn hire(desk: usize, database: &str, is_kept: bool) -> Option<Hired> {
    let name = CString::new(format!("bulkhead worker of {database}")).unwrap_or_default();
    let flags = pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION;
    let mut worker = described(&name, c"bulkhead worker", c"bulkhead_worker", flags);
    worker.bgw_main_arg = pg_sys::Datum::from(desk | if is_kept { KEPT } else { 0 });
    let mut handle = std::ptr::null_mut();
    // SAFETY: the description is complete and is copied; the handle is palloc'd in memory that lives as long as this process.
    unsafe {
        worker.bgw_notify_pid = pg_sys::MyProcPid;
        let former = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
        let is_registered = pg_sys::RegisterDynamicBackgroundWorker(&mut worker, &mut handle);
        pg_sys::MemoryContextSwitchTo(former);
        is_registered.then(|| Hired(handle))
    }
}

// Handlers of signals, without the guard that pgrx puts around its bindings.
unsafe extern "C-unwind" {
    fn die(signal: c_int);
    #[link_name = "SignalHandlerForConfigReload"]
    fn reload(signal: c_int);
    #[link_name = "procsignal_sigusr1_handler"]
    fn wake_up(signal: c_int);
    #[cfg_attr(feature = "pg18", link_name = "pqsignal_be")]
    fn pqsignal(signal: c_int, handler: unsafe extern "C-unwind" fn(c_int)) -> usize;
}

#[cfg(feature = "pg14")]
unsafe extern "C-unwind" {
    /// Tells other sessions of what was notified; a commit does that by itself since 15. pgrx has no binding for it.
    fn ProcessCompletedNotifies();
}

// The numbers are the platform's.
const SIGHUP: c_int = pg_sys::SIGHUP as c_int;
const SIGUSR1: c_int = pg_sys::SIGUSR1 as c_int;
const SIGTERM: c_int = pg_sys::SIGTERM as c_int;

static KEPT_HERE: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));

/// Whether this worker stays when nothing is asked of it.
pub fn is_kept() -> bool {
    KEPT_HERE.get()
}

/// The launcher.
///
/// # Safety
/// Called by the server.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn bulkhead_launcher(_argument: pg_sys::Datum) {
    // SAFETY: once at the start of the process, as the server's own workers do. The postmaster tells of workers that end by a signal.
    unsafe {
        pqsignal(SIGHUP, reload);
        pqsignal(SIGTERM, die);
        pqsignal(SIGUSR1, wake_up);
        pg_sys::on_shmem_exit(Some(launcher_ends), pg_sys::Datum::null());
        pg_sys::BackgroundWorkerUnblockSignals();
    }
    group::launch();
}

/// # Safety
/// Called by the server when the process ends.
#[pg_guard]
unsafe extern "C-unwind" fn launcher_ends(_code: c_int, _argument: pg_sys::Datum) {
    memory::be_launcher(false);
}

/// A worker.
///
/// # Safety
/// Called by the server, with what `hire` gave it.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn bulkhead_worker(argument: pg_sys::Datum) {
    let number = argument.value() & (KEPT - 1);
    KEPT_HERE.set(argument.value() & KEPT != 0);
    let Some(desk) = memory::desk(number) else { return };
    // Before anything else: the callback is for who has come.
    if !desk.come() {
        return;
    }
    // SAFETY: once at the start of the process. The callback runs after the server's own, so that a desk without a worker has none in its database either.
    unsafe {
        pg_sys::on_shmem_exit(Some(worker_ends), pg_sys::Datum::from(number));
        pqsignal(SIGHUP, reload);
        pqsignal(SIGTERM, die);
        pg_sys::BackgroundWorkerUnblockSignals();
    }
    let is_held = || desk.held.load(Ordering::SeqCst) != 0;
    if is_held() || desk.is_nobodys() {
        desk.was_sent_away.store(true, Ordering::SeqCst);
        return;
    }
    desk.leave.store(false, Ordering::SeqCst);
    let database = desk.database.load(Ordering::SeqCst);
    // SAFETY: as above; the name is NUL-terminated and outlives the call.
    unsafe {
        if database != 0 {
            pg_sys::BackgroundWorkerInitializeConnectionByOid(database.into(), pg_sys::InvalidOid, 0);
        } else {
            let name = CString::new(desk.name()).unwrap_or_default();
            pg_sys::BackgroundWorkerInitializeConnection(name.as_ptr(), std::ptr::null(), 0);
        }
    }
    set_up();
    if is_held() {
        desk.was_sent_away.store(true, Ordering::SeqCst);
    } else if desk.take_for_this_database() {
        group::work(desk);
    }
}

/// # Safety
/// Called by the server when the process ends.
#[pg_guard]
unsafe extern "C-unwind" fn worker_ends(_code: c_int, number: pg_sys::Datum) {
    if let Some(desk) = memory::desk(number.value()) {
        desk.go();
    }
    memory::wake_launcher();
}

/// Whatever the database's defaults are, the work has to see what others committed, and to write, and never to wait for long.
fn set_up() {
    let text = |value: &str| CString::new(value).unwrap_or_default();
    let (path, longest_wait) = (text(settings::PINNED_PATH), text(&lock_timeout::text(lock_timeout::WORKER)));
    let settings: &[(&CStr, &CStr)] = &[
        (c"search_path", &path),
        (c"default_transaction_isolation", c"read committed"),
        (c"default_transaction_read_only", c"off"),
        (c"default_transaction_deferrable", c"off"),
        // For what may still wait: a trigger's statements.
        (c"lock_timeout", &longest_wait),
        (c"statement_timeout", c"0"),
        // No row is locked while the disk is waited for: the log is flushed after the commit, and before anybody is told.
        (c"synchronous_commit", c"off"),
        // A tenant's border, and the table's triggers, are there for every order.
        (c"row_security", c"on"),
        (c"session_replication_role", c"origin"),
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        (c"transaction_timeout", c"0"),
        (c"jit", c"off"),
    ];
    for (name, value) in settings {
        let (context, source) = (pg_sys::GucContext::PGC_SUSET, pg_sys::GucSource::PGC_S_SESSION);
        // SAFETY: constant strings; the values are valid.
        unsafe { pg_sys::SetConfigOption(name.as_ptr(), value.as_ptr(), context, source) };
    }
}

/// Sees to what came by signals: raises when the process is to end, and reads the settings again. Whether it did.
///
/// Outside of any transaction. A cancel, or a time-out that came too late, ends no process: there is no statement that it could end.
pub fn catch_up() -> bool {
    // SAFETY: a flag made for signal handlers, as the server's autovacuum clears it between two tables.
    unsafe { (&raw mut pg_sys::QueryCancelPending).write_volatile(0) };
    pgrx::check_for_interrupts!();
    // SAFETY: as above, and what the server's own workers do about it.
    unsafe {
        let is_pending = (&raw mut pg_sys::ConfigReloadPending).read_volatile() != 0;
        if is_pending {
            (&raw mut pg_sys::ConfigReloadPending).write_volatile(0);
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
        is_pending
    }
}

/// Runs `work` in a transaction of its own and commits it; it is for whoever tells of it to see that it is durable. An error rolls it back, and is an answer.
pub fn transaction<R>(work: impl FnOnce() -> Result<R>) -> std::result::Result<R, Failure> {
    show(pg_sys::BackendState::STATE_RUNNING);
    HAS_COUNTED.set(true);
    let result = subtransaction::caught(|| {
        // SAFETY: outside of any transaction; as the server's own workers do.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            let result = work()?;
            // Who notifies commits one after the other with all who do, however long that takes.
            lock_timeout::lift();
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
            #[cfg(feature = "pg14")]
            pg_sys::ffi::pg_guard_ffi_boundary(|| ProcessCompletedNotifies());
            Ok(result)
        }
    });
    let result = result.map_err(|(failure, _)| {
        // SAFETY: the error is caught, and its transaction still open or about to be rolled back.
        unsafe { pg_sys::AbortCurrentTransaction() };
        failure
    });
    // Advisory locks of the session, which a trigger has taken: for a caller's they would end with its connection, and this process has no end.
    // SAFETY: outside of any transaction; these are the only locks of that kind that are left.
    unsafe {
        pg_sys::LockReleaseSession(pg_sys::USER_LOCKMETHOD as pg_sys::LOCKMETHODID);
        // Now and then, by the server's own measure: a busy worker never rests.
        pg_sys::pgstat_report_stat(false);
    }
    result
}

/// Sleeps until the latch is set, or so many milliseconds are over; -1: until it is set. What came by signals is for `catch_up`.
pub fn rest(milliseconds: i64) {
    /// The server takes a report no more often than so.
    const BETWEEN_REPORTS: i64 = 1_000;
    show(pg_sys::BackendState::STATE_IDLE);
    if !HAS_COUNTED.get() || (0..=BETWEEN_REPORTS).contains(&milliseconds) {
        wait::doze(milliseconds);
        return;
    }
    let until = clock::now() + BETWEEN_REPORTS * 1_000;
    wait::doze(BETWEEN_REPORTS);
    if clock::until(until) > 0 {
        return;
    }
    // The last burst's share: autovacuum goes by it.
    // SAFETY: outside of any transaction.
    unsafe { pg_sys::pgstat_report_stat(true) };
    HAS_COUNTED.set(false);
    wait::doze(if milliseconds < 0 { milliseconds } else { milliseconds - BETWEEN_REPORTS });
}

/// Something was counted that may not have been reported.
static HAS_COUNTED: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));
/// What pg_stat_activity shows.
static STATE: PerBackend<Cell<pg_sys::BackendState::Type>> =
    PerBackend::new(Cell::new(pg_sys::BackendState::STATE_UNDEFINED));

fn show(state: pg_sys::BackendState::Type) {
    if STATE.replace(state) != state {
        // SAFETY: the process has an entry there; no text.
        unsafe { pg_sys::pgstat_report_activity(state, std::ptr::null()) };
    }
}

/// A line in the server's log.
pub fn log(message: &str) {
    ereport!(PgLogLevel::LOG, PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message.to_owned());
}

/// The worker ends because there is nothing to work on: another is not sent for until somebody asks.
pub fn end_in_vain(desk: &Desk) {
    desk.end_in_vain.store(true, Ordering::SeqCst);
}
