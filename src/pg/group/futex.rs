//! Sleep on a word of shared memory: futex(2). One call to sleep and one to wake, where a latch takes an epoll of three files, a signal, and a read of it.
//!
//! What a latch does besides is left to the sleeper: whatever else concerns it (a cancel, a time-out, a message of another session, the end of the postmaster) comes as a signal, which ends the sleep; and one that comes
//! in the moment before it is found when the time is over, which is therefore short.

use std::time::Duration;
use std::{io, ptr, thread};

/// Sleeps while the word is `seen`, until it is woken, a signal comes, or the time is over. It may also return for no reason. The kernel begins a sleep without an end anew after the server's signals, so there is none.
pub fn wait(word: *const u32, seen: u32, longest: Duration) {
    let longest = libc::timespec { tv_sec: longest.as_secs() as _, tv_nsec: longest.subsec_nanos().into() };
    // SAFETY: the word and the time are valid for the call, which changes neither.
    let result = unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, seen, &raw const longest) };
    let code = io::Error::last_os_error().raw_os_error().unwrap_or_default();
    if result != 0 && ![libc::EAGAIN, libc::EINTR, libc::ETIMEDOUT].contains(&code) {
        // Refused, by a filter of system calls: whoever waits must not take the processor.
        thread::sleep(Duration::from_millis(1));
    }
}

/// Wakes who sleeps on the word.
pub fn wake(word: *const u32) {
    // SAFETY: the word is valid for the call, which reads nothing but its address.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, 1, ptr::null::<libc::timespec>()) };
}
