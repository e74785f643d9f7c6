//! HTTP: requests of users, and the connections of taskmanagers.
//!
//! - [`auth`]: who may ask. Every path but those of the challenge and the document needs a signature, which is checked before the body is read.
//! - [`listener`], [`connections`]: who may connect. [`lingering`]: how a connection ends. [`seldom`]: what is
//!   logged of those that are refused. [`link`]: the connection of a taskmanager.
//! - [`executables`], [`jobs`], [`cluster`]: the paths, as `tidegate-rest` describes them.
//! - [`logs`], [`why`]: what a job's processes have logged, what holds the job back: questions to the taskmanagers.
//! - [`routes`], [`document`]: all of them in one place, and the OpenAPI document that follows from them.
//! - [`extract`], [`answer`]: what is taken from a request, what is answered when something is wrong.

mod answer;
mod auth;
mod cluster;
mod connections;
mod document;
mod executables;
mod extract;
mod jobs;
mod lingering;
mod link;
mod listener;
mod logs;
mod routes;
mod seldom;
mod why;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Extension;
use tidegate_protocol::{ErrorContext, Result};
use tidegate_transport::{Clients, Tls};
use tokio::net::TcpListener;

use crate::cluster_store::ClusterStore;
use crate::driver::Driver;
use crate::settings::{ConnectionLimits, JobDefaults, Settings};

/// The greatest length of a request that is not an executable.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What every request needs.
pub(crate) struct State {
    store: ClusterStore,
    driver: Driver,
    auth: auth::Auth,
    lease: Duration,
    defaults: JobDefaults,
    limits: ConnectionLimits,
    /// Whether connections are over TLS; then taskmanagers need a certificate.
    has_tls: bool,
    /// The number of connections of taskmanagers so far.
    connections: AtomicU64,
}

/// The server.
pub(crate) struct Server(Arc<State>);

impl Server {
    pub(crate) fn new(settings: &Settings, store: ClusterStore, driver: Driver) -> Self {
        Self(Arc::new(State {
            store,
            driver,
            auth: auth::Auth::new(settings.secret.clone()),
            lease: settings.lease,
            defaults: settings.job.clone(),
            limits: settings.connections,
            has_tls: settings.tls.is_some(),
            connections: AtomicU64::new(0),
        }))
    }

    /// Serves until the future is dropped, with TLS if there is a certificate.
    pub(crate) async fn serve(self, listener: TcpListener, tls: Option<&Tls>) -> Result<()> {
        let limits = self.0.limits;
        let (routes, document) = routes::of(self.0);
        let document = document::Served::new(&document).context(|| "write the OpenAPI document")?;
        let server = listener::Listener {
            connections: connections::Connections::new(limits),
            // The command line has no certificate; a taskmanager must show one.
            tls: tls.map(|tls| tls.acceptor(Clients::MayShow)).transpose()?,
            router: routes.layer(Extension(document)),
            authentication: limits.authentication,
        };
        server.serve(listener).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
