//! The cluster that a verb talks to.

use std::time::Duration;

use tidegate_access::Secret;
use tidegate_client::Client;
use tidegate_protocol::{Error, JobId, Result};
use tidegate_rest::jobs::{JobDetails, Jobs};

use super::job_name;
use crate::config::keys::{self, AnyKey};
use crate::config::{Config, Origin};
use crate::options::{Format, JobOption};
use crate::tls;

/// The cluster, and how answers are written.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) format: Format,
}

impl Session {
    /// Nothing is sent yet.
    pub(crate) fn new(config: &Config, format: Format) -> Result<Self> {
        let addresses = config.get(&keys::JOBMANAGER, Some("--jobmanager"))?;
        let client = Client::new(addresses, secret(config)?).with_tls(tls::connector(config)?);
        Ok(Self { client, format })
    }

    /// The same, with another timeout for each request.
    pub(super) fn with_timeout(self, timeout: Duration) -> Self {
        Self { client: self.client.with_timeout(timeout), ..self }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// The job that is meant by its id, the beginning of its id, or its name.
    pub(crate) fn find(&self, job: &JobOption) -> Result<JobId> {
        self.find_called(&job.job)
    }

    /// The job with this id, unique beginning of an id, or name.
    pub(crate) fn find_called(&self, job: &str) -> Result<JobId> {
        if let Ok(id) = job.parse() {
            return Ok(id);
        }
        let jobs: Jobs = self.client.get("/v1/jobs/overview")?;
        job_name::choose(&jobs.jobs, job)
    }

    pub(crate) fn details(&self, job: JobId) -> Result<JobDetails> {
        self.client.get(&format!("/v1/jobs/{job}"))
    }
}

/// The cluster's secret.
fn secret(config: &Config) -> Result<Secret> {
    let path = config.get(&keys::SECRET_FILE, Some("--secret-file"))?;
    let is_default = config.entry(&keys::SECRET_FILE).is_some_and(|entry| entry.origin == Origin::Default);
    if is_default && !path.exists() {
        return Err(Error::environment(format!(
            "the secret of the cluster is not known: give --secret-file FILE or the environment variable {}, or run this \
             where 'tidegate cluster up' was run",
            keys::SECRET_FILE.variable()
        )));
    }
    Secret::read(&path)
}
