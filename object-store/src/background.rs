//! The thread on which requests are made.
//!
//! Who calls a checkpoint store waits for it, on a thread of its own. The library that makes the requests is asynchronous,
//! so one thread with its event loop does the work for all of them. A process that never uses an object store has none.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::mpsc::sync_channel;

use tidegate_protocol::{Error, ErrorContext, Result};
use tokio::runtime::{Builder, Handle};

/// Threads that read and write files for it; they end when they have nothing to do.
const FILE_THREADS: usize = 4;

static THREAD: OnceLock<Result<Handle>> = OnceLock::new();

/// Runs a task on the thread, and waits for its result.
pub(crate) fn wait<T: Send + 'static>(task: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let handle = THREAD.get_or_init(start).clone()?;
    let (done, result) = sync_channel(1);
    handle.spawn(async move {
        // The receiver waits until it has the result.
        let _ = done.send(task.await);
    });
    result.recv().map_err(|_| Error::internal("a request to the object store has panicked"))?
}

/// Does something that waits for the local disk, beside the requests.
pub(crate) async fn with_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::internal(format!("reading or writing a file has panicked: {error}")))?
}

fn start() -> Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(FILE_THREADS).build();
    let runtime = runtime.context(|| "cannot start the event loop for the object store")?;
    let handle = runtime.handle().clone();
    let run = move || runtime.block_on(std::future::pending::<()>());
    let started = std::thread::Builder::new().name("object-store".to_owned()).spawn(run);
    started.context(|| "cannot start the thread for the object store")?;
    Ok(handle)
}
