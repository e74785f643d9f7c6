//! Points at which a test can have the process die, wait or stumble.
//!
//! They are always compiled in and cost a look-up where they stand, which is never on the path of a record. The
//! environment variable `FAILPOINTS` switches them on, in the syntax of the crate `fail`: with
//! `FAILPOINTS="snapshot.linked=3*off->return"` the process dies, as by `kill -9`, the fourth time it comes there;
//! `sleep(200)` makes a slow disk.

/// All points, in the order in which an epoch meets them.
pub const POINTS: &[&str] = &[
    "start.locked",
    "start.attempt_written",
    "restore.files_linked",
    "restore.recovered",
    "barrier.collected",
    "snapshot.staged",
    "snapshot.rows_written",
    "snapshot.checkpointed",
    "snapshot.linked",
    "snapshot.acked",
    "sink.before_sync",
    "sink.after_sync",
    "completion.before_write",
    "completion.before_rename",
    "completion.after_rename",
    "publish.before",
    "sink.before_rename",
    "sink.after_rename",
    "publish.after",
    "published.before_rename",
    "collect.before",
    "collect.half_way",
    "collect.after",
];

/// Dies here if a test asked for it. `name` is one of [`POINTS`].
pub fn point(name: &'static str) {
    debug_assert!(POINTS.contains(&name), "'{name}' is not in the list of failpoints");
    if fail::eval(name, |_| ()).is_some() {
        die();
    }
}

/// Ends the process as `kill -9` would: no destructor, no flush, no message.
fn die() -> ! {
    // SAFETY: two system calls without pointers.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    std::process::abort()
}

/// Switches on what the environment variable `FAILPOINTS` names, until the result is dropped.
pub(crate) fn from_environment() -> Option<fail::FailScenario<'static>> {
    std::env::var_os("FAILPOINTS").map(|_| fail::FailScenario::setup())
}
