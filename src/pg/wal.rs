//! The write-ahead log: how far it goes, and on disk by when.

use pgrx::prelude::*;

/// A position in the log, in bytes.
pub type Lsn = u64;

/// The end of what has been written so far, by whomever, if only into memory.
pub fn end() -> Lsn {
    const BEFORE_SHORT: u64 = size_of::<pg_sys::XLogPageHeaderData>().next_multiple_of(8) as u64;
    const BEFORE_LONG: u64 = size_of::<pg_sys::XLogLongPageHeaderData>().next_multiple_of(8) as u64;
    // SAFETY: reads a place in shared memory, under its lock, and a variable of the server's.
    let (next, segment) = unsafe { (pg_sys::GetXLogInsertRecPtr(), pg_sys::wal_segment_size as u64) };
    let in_page = next % u64::from(pg_sys::XLOG_BLCKSZ);
    // Where the next record is to go right behind a page's header, the last one ends with the page before, and the header is not there yet.
    let header = if next % segment == in_page { BEFORE_LONG } else { BEFORE_SHORT };
    if in_page == header { next - in_page } else { next }
}

/// Sees to it that the log is on disk as far as that. A cancel waits for it.
pub fn flush(flush_lsn: Lsn) {
    // SAFETY: the log has got as far.
    unsafe { pg_sys::XLogFlush(flush_lsn) };
}

/// Waits for the standbys that a commit of this session would wait for, as it would.
pub fn wait_for_standbys(flush_lsn: Lsn) {
    // SAFETY: as the server does after a commit's flush: with interrupts held, for it looks for them itself, and gives up with a warning.
    unsafe {
        pg_sys::InterruptHoldoffCount += 1;
        pg_sys::SyncRepWaitForLSN(flush_lsn, true);
        pg_sys::InterruptHoldoffCount -= 1;
    }
}

/// Both, but on a standby, which shows what it has been sent.
pub fn make_durable(flush_lsn: Lsn) {
    // SAFETY: reads what the server knows of itself.
    if !unsafe { pg_sys::RecoveryInProgress() } {
        flush(flush_lsn);
        wait_for_standbys(flush_lsn);
    }
}

/// How far the log has to be on disk for that transaction's commit to be there; 0 where it is.
pub fn commit_of(transaction: pg_sys::TransactionId) -> Lsn {
    // SAFETY: the transaction has committed, and a row of it is not frozen, so that the server knows of it still.
    unsafe { pg_sys::TransactionIdGetCommitLSN(transaction) }
}
