//! The jobmanager: it serves the REST interface, keeps the ledger, and drives the control brain.
//!
//! - [`settings`]: what it is started with.
//! - `driver`: the one thread that has the brain: takes inputs, carries out actions.
//! - `questions`: what taskmanagers were asked for a user, and who waits for the answers.
//! - `ledger`: the durable records, behind `propose -> committed`.
//! - `cluster_store`: the checkpoint store of the cluster, a directory or a place in a bucket.
//! - `stores`: the threads that read and write the checkpoint store for the brain.
//! - `metrics`: those of the cluster and its jobs, for Prometheus.
//! - `server`: HTTP: requests of users, connections of taskmanagers.
//!
//! Everything that the brain decides is decided in `tidegate-control`; nothing here holds a rule about jobs. The jobmanager
//! runs no code of users, and knows of a job only its plan.

mod cluster_store;
mod driver;
mod events;
mod ledger;
mod metrics;
mod questions;
mod server;
pub mod settings;
mod stores;

pub use settings::Settings;

use tidegate_protocol::{Error, ErrorContext, Result};
use tidegate_transport::{Clients, Tls};

/// The name of the threads that serve requests: one that panics ends alone.
pub const SERVER_THREAD: &str = "server";

/// Runs a jobmanager until the process is asked to end by SIGTERM or SIGINT. Jobs run on without it.
///
/// # Errors
/// If it cannot start: an address that is taken, a directory that cannot be written to or that another process uses.
pub fn run(settings: Settings) -> Result<()> {
    let tls = settings.tls.as_ref().map(Tls::load).transpose()?;
    let (log, ledger) = ledger::Log::open(&settings.data)?;
    let has_jobs = !ledger.jobs.is_empty();
    let (name, s3) = (&settings.checkpoint_store, settings.s3.clone());
    let store = cluster_store::ClusterStore::open(name, s3, &settings.data, has_jobs)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(SERVER_THREAD)
        .enable_all()
        .build()
        .map_err(|e| Error::environment("cannot start the threads of the server").caused_by(e))?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind(settings.listen));
    let listener = listener.context(|| format!("cannot listen at {}", settings.listen))?;
    let address = listener.local_addr().context(|| format!("cannot listen at {}", settings.listen))?;
    let driver = driver::start(&settings, &store, log, ledger)?;
    tracing::info!(target: "tidegate", "the jobmanager listens at {address}{}, with the checkpoint store {}", if tls.is_some() { " with TLS" } else { "" }, store.name());
    if let Some(address) = settings.metrics {
        let acceptor = tls.as_ref().map(|tls| tls.acceptor(Clients::Anybody)).transpose()?;
        metrics::serve(address, acceptor, driver.clone())?;
    }
    let server = server::Server::new(&settings, store, driver);
    let (stop, stopped) = tokio::sync::oneshot::channel();
    stop_on_signals(stop)?;
    runtime.block_on(async {
        tokio::select! {
            served = server.serve(listener, tls.as_ref()) => served,
            _ = stopped => Ok(()),
        }
    })?;
    runtime.shutdown_background();
    Ok(())
}

fn stop_on_signals(stop: tokio::sync::oneshot::Sender<()>) -> Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if signals.forever().next().is_some() {
            // The server is over if it does not listen.
            let _ = stop.send(());
        }
    })?;
    Ok(())
}
