//! How timely says that the connection to another process is broken: by panics.
//!
//! The thread that has lost the connection panics, and so does every thread that uses what that thread has left behind: the
//! workers, and whoever waits for the end of the connections. None of these panics is a defect, and none is one of user
//! code: they are told by their threads, or by their text and the crate that they come from.

use std::any::Any;
use std::panic::PanicHookInfo;

use tidegate_protocol::Error;

use crate::panics::{self, panic_text};

/// What timely's threads of a connection are called; the number of the other process follows.
const THREADS: [&str; 2] = ["timely:send-", "timely:recv-"];
/// What stands before the cause in a panic of such a thread.
const CAUSE: &str = "timely communication error: ";
/// How the panics of the others begin.
const CONSEQUENCES: [&str; 3] = ["MergeQueue poisoned", "Send thread panic", "Recv thread panic"];
/// The crate that all of them are in.
const CRATE: &str = "timely_communication";

/// A panic that says that a connection is broken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LostPeer {
    /// The connection to the process with this number, and what has happened to it.
    Connection(usize, String),
    /// What follows from that in other threads.
    Consequence,
}

impl LostPeer {
    /// What a panic says, on the thread on which it is.
    pub(crate) fn of(panic: &PanicHookInfo<'_>) -> Option<Self> {
        let thread = std::thread::current();
        let file = panic.location().map_or("", std::panic::Location::file);
        Self::said(thread.name().unwrap_or_default(), file, message(panic.payload()))
    }

    fn said(thread: &str, file: &str, text: &str) -> Option<Self> {
        let number = THREADS.iter().find_map(|name| thread.strip_prefix(name));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            return Some(Self::Connection(number, text.strip_prefix(CAUSE).unwrap_or(text).to_owned()));
        }
        (file.contains(CRATE) && is_consequence(text)).then_some(Self::Consequence)
    }
}

/// What a caught panic is for the job: an error of the environment if it follows from a broken connection, and otherwise what
/// `of_user_code` makes of its text and place.
pub(crate) fn error_of(payload: &(dyn Any + Send), of_user_code: impl FnOnce(String) -> Error) -> Error {
    if is_consequence(message(payload)) { error() } else { of_user_code(panic_text(payload)) }
}

/// Why an attempt has failed if a process has lost the connection to another one.
pub(crate) fn error() -> Error {
    Error::environment("the connection to another process of the job is broken")
}

fn is_consequence(text: &str) -> bool {
    CONSEQUENCES.iter().any(|beginning| text.starts_with(beginning))
}

fn message(payload: &(dyn Any + Send)) -> &str {
    panics::message(payload).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use timely::communication::Hooks;
    use timely::communication::allocator::ProcessBuilder;
    use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;

    use super::*;

    const TCP: &str = "/registry/timely_communication-0.32.0/src/allocator/zero_copy/tcp.rs";

    #[test]
    fn only_timely_says_that_a_connection_is_broken() {
        let cause = "timely communication error: reading data: socket closed";
        let lost = LostPeer::Connection(2, "reading data: socket closed".to_owned());
        assert_eq!(LostPeer::said("timely:recv-2", TCP, cause), Some(lost));
        for text in ["MergeQueue poisoned.", "Send thread panic: Any { .. }"] {
            assert_eq!(LostPeer::said("worker-3", TCP, text), Some(LostPeer::Consequence));
            assert_eq!(LostPeer::said("worker-3", "src/job.rs", text), None, "user code says the same");
        }
        assert_eq!(LostPeer::said("worker-3", TCP, "index out of bounds"), None, "a defect");
        assert_eq!(LostPeer::said("worker-3", "src/job.rs", cause), None);
    }

    /// The texts are those of the version that is in use.
    #[test]
    fn what_follows_from_a_broken_connection_is_known() {
        let (here, there) = UnixStream::pair().unwrap();
        let hooks = Hooks::default();
        let inner = ProcessBuilder::new_typed_vector(1, hooks.refill.clone(), hooks.spill.clone());
        let sockets = vec![None, Some(there)];
        let (builders, connections) =
            initialize_networking_from_sockets(inner, sockets, 0, 1, hooks).unwrap();
        let workers: Vec<_> = builders.into_iter().map(|builder| builder.build()).collect();
        drop(here);
        // The workers have lost their queues. Who waits for the threads of the connection learns how these have ended.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(workers)));
        let panic = catch_unwind(AssertUnwindSafe(|| drop(connections))).unwrap_err();
        assert!(is_consequence(message(&*panic)), "unknown: {}", message(&*panic));
    }
}
