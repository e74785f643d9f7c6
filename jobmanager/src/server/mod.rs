//! HTTP: requests of users, and the connections of taskmanagers.
//!
//! - [`auth`]: who may ask. Every path but that of the challenge needs a signature, which is checked before the body is read.
//! - [`link`]: the connection of a taskmanager.
//! - [`executables`], [`jobs`], [`cluster`]: the paths, as `tidegate-rest` describes them.
//! - [`why`]: what holds a job back.
//! - [`answer`]: what is answered when something is wrong.

mod answer;
mod auth;
mod cluster;
mod connections;
mod executables;
mod jobs;
mod link;
mod listener;
mod why;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tidegate_protocol::Result;
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
        let server = listener::Listener {
            connections: connections::Connections::new(limits),
            // The command line has no certificate; a taskmanager must show one.
            tls: tls.map(|tls| tls.acceptor(Clients::MayShow)).transpose()?,
            router: self.router(),
            authentication: limits.authentication,
        };
        server.serve(listener).await;
        Ok(())
    }

    fn router(self) -> Router {
        let state = self.0;
        let job = Router::new()
            .route("/", get(jobs::details).patch(jobs::cancel))
            .route("/checkpoints", get(jobs::checkpoints))
            .route("/exceptions", get(jobs::exceptions))
            .route("/savepoints", post(jobs::savepoint))
            .route("/savepoints/{request}", get(jobs::operation))
            .route("/stop", post(jobs::stop))
            .route("/resource-requirements", get(jobs::requirements).put(jobs::rescale))
            .route("/logs", get(jobs::logs))
            .route("/why", get(why::why));
        let signed = Router::new()
            .route("/overview", get(cluster::overview))
            .route("/taskmanagers", get(cluster::taskmanagers))
            .route("/taskmanagers/link", get(link::connect))
            .route("/executables/{id}/plan", post(executables::plan))
            .route("/executables/{id}/run", post(executables::run))
            .route("/executables/{id}/check", post(executables::check))
            .route("/jobs", get(jobs::overview))
            .route("/jobs/overview", get(jobs::overview))
            .nest("/jobs/{job}", job)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(axum::middleware::from_fn_with_state(state.clone(), auth::check_body))
            .route("/executables", post(executables::upload).layer(DefaultBodyLimit::disable()));
        Router::new()
            .nest("/v1", signed)
            .route("/v1/challenge", get(auth::challenge))
            .fallback(answer::no_such_path)
            .method_not_allowed_fallback(answer::no_such_method)
            .with_state(state)
    }
}
