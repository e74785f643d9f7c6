//! The end of the process without what a return from `main` would run.

/// Ends the process at once, whatever its threads are doing: a worker may be stuck in user code, and the handlers that
/// `exit` runs wait for RocksDB's threads.
pub(crate) fn at_once(code: i32) -> ! {
    // SAFETY: a system call without pointers, which does not return.
    unsafe { libc::_exit(code) }
}
