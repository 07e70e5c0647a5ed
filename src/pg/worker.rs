//! A process that makes a table's partitions at once, in a transaction of its own, for somebody who cannot wait for maintain() and must
//! not keep what it makes uncommitted.

use std::ffi::{CStr, c_char, c_int};
use std::panic::AssertUnwindSafe;

use pgrx::bgworkers::BackgroundWorker;
use pgrx::prelude::*;

use crate::partition;

const LIBRARY: &CStr = c"bulkhead";
const FUNCTION: &CStr = c"bulkhead_make_partitions";

fn put<const N: usize>(field: &mut [c_char; N], text: &CStr) {
    let bytes = text.to_bytes();
    for (to, from) in field.iter_mut().zip(&bytes[..bytes.len().min(N - 1)]) {
        *to = *from as c_char;
    }
}

/// Has the partitions made and waits for that, up to so many milliseconds; false when no process was to be had, or it did not end in time.
pub fn make_partitions(parent: pg_sys::Oid, milliseconds: i64) -> bool {
    let mut worker = pg_sys::BackgroundWorker::default();
    put(&mut worker.bgw_name, c"bulkhead partitions");
    put(&mut worker.bgw_type, c"bulkhead partitions");
    put(&mut worker.bgw_library_name, LIBRARY);
    put(&mut worker.bgw_function_name, FUNCTION);
    worker.bgw_flags = (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION) as i32;
    worker.bgw_start_time = pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = pg_sys::BGW_NEVER_RESTART;
    // SAFETY: reads variables of the server's.
    unsafe {
        let database = u64::from(pg_sys::MyDatabaseId.to_u32());
        worker.bgw_main_arg = pg_sys::Datum::from((database << 32 | u64::from(parent.to_u32())) as usize);
        worker.bgw_notify_pid = pg_sys::MyProcPid;
    }
    let mut handle = std::ptr::null_mut();
    // SAFETY: the description is complete and is copied; the handle is palloc'd.
    if !unsafe { pg_sys::RegisterDynamicBackgroundWorker(&mut worker, &mut handle) } {
        return false;
    }
    let deadline = super::transaction::now() + milliseconds * 1000;
    loop {
        let mut pid = 0;
        // SAFETY: the handle is that of the worker; the latch is this process's.
        unsafe {
            match pg_sys::GetBackgroundWorkerPid(handle, &mut pid) {
                pg_sys::BgwHandleStatus::BGWH_STOPPED => return true,
                pg_sys::BgwHandleStatus::BGWH_POSTMASTER_DIED => return false,
                _ => {}
            }
            if super::transaction::now() > deadline {
                pg_sys::TerminateBackgroundWorker(handle);
                return false;
            }
            let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
            pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, 100, pg_sys::PG_WAIT_EXTENSION);
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
        pgrx::check_for_interrupts!();
    }
}

// pgrx's bindings of these are wrapped, and a signal handler must not be.
unsafe extern "C-unwind" {
    fn die(signal: c_int);
    #[cfg_attr(feature = "pg18", link_name = "pqsignal_be")]
    fn pqsignal(signal: c_int, handler: unsafe extern "C-unwind" fn(c_int)) -> usize;
}

const SIGTERM: c_int = pg_sys::SIGTERM as c_int;

/// The process: makes what the table lacks, and ends.
///
/// # Safety
/// Called by the server, with what `make_partitions` gave it.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn bulkhead_make_partitions(argument: pg_sys::Datum) {
    let argument = argument.value() as u64;
    let (database, parent) = ((argument >> 32) as u32, argument as u32);
    // SAFETY: once at the start of the process, as the server's own workers do. Whatever the database's defaults are, the
    // work has to see what others committed, and to write.
    unsafe {
        pqsignal(SIGTERM, die);
        pg_sys::BackgroundWorkerUnblockSignals();
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database.into(), pg_sys::InvalidOid, 0);
        for (name, value) in
            [(c"default_transaction_isolation", c"read committed"), (c"default_transaction_read_only", c"off")]
        {
            let (context, source) = (pg_sys::GucContext::PGC_SUSET, pg_sys::GucSource::PGC_S_SESSION);
            pg_sys::SetConfigOption(name.as_ptr(), value.as_ptr(), context, source);
        }
    }
    BackgroundWorker::transaction(AssertUnwindSafe(|| {
        if let Err(report) = partition::make_present(parent.into()) {
            report.report(PgLogLevel::ERROR);
        }
    }));
}
