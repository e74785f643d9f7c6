//! Serves the metrics of a job that runs alone over HTTP.

use std::net::TcpListener;
use std::sync::Arc;

use crate::metrics::Metrics;
use tidegate_protocol::{ErrorContext, Result};

/// Starts serving at `HOST:PORT`; the thread lives as long as the process.
pub(crate) fn serve(address: &str, job: &str, metrics: Arc<Metrics>) -> Result<()> {
    let listener = TcpListener::bind(address).context(|| {
        format!("cannot serve metrics at {address} (--metrics takes an address of this machine, such as 127.0.0.1:9399)")
    })?;
    let job = job.to_owned();
    tidegate_exposition::serve(listener, None, move || metrics.render(&job))?;
    Ok(())
}
