//! The verbs of the command line: each is a few requests of the jobmanager (or, for [`transactions`], of Kafka's brokers), and an
//! answer. [`verify`] is more: it writes rows for a job of its own, makes faults, and reads what has come out.
//!
//! Not here: the daemons (`daemons`), a cluster on this machine (`cluster`).

mod check;
mod checkpoints;
mod info;
mod job_name;
mod list;
mod logs;
mod rescale;
mod run;
mod savepoint;
mod session;
mod skew;
mod stop;
mod taskmanagers;
mod transactions;
mod verify;
mod watch;
mod why;

use std::path::{Path, absolute};

use serde::Serialize;
use tidegate_protocol::{ErrorContext, Result};
use tidegate_rest::jobs::JobState;

pub(crate) use self::checkpoints::checkpoints;
pub(crate) use self::info::info;
pub(crate) use self::list::list;
pub(crate) use self::logs::logs;
pub(crate) use self::rescale::rescale;
pub(crate) use self::run::run;
pub(crate) use self::savepoint::savepoint;
pub(crate) use self::session::Session;
pub(crate) use self::stop::{cancel, stop};
pub(crate) use self::taskmanagers::taskmanagers;
pub(crate) use self::transactions::{abort as abort_transactions, list as list_transactions};
pub(crate) use self::verify::{Fault, exactly_once as verify_exactly_once};
pub(crate) use self::why::why;

/// A directory as the cluster's processes can use it, which run in other directories. A URI stays as it is.
fn absolute_path(text: &str) -> Result<String> {
    if text.contains("://") {
        return Ok(text.to_owned());
    }
    let path = absolute(Path::new(text)).context(|| format!("the path '{text}' cannot be used"))?;
    Ok(path.to_string_lossy().into_owned())
}

/// A job in a list of the command line's JSON.
#[derive(Serialize)]
struct JobInList {
    id: String,
    name: String,
    state: JobState,
    parallelism: u32,
    attempt: u32,
    start_time: u64,
    end_time: Option<u64>,
    duration: u64,
}

impl From<&tidegate_rest::jobs::JobSummary> for JobInList {
    fn from(job: &tidegate_rest::jobs::JobSummary) -> Self {
        Self {
            id: job.jid.to_string(),
            name: job.name.clone(),
            state: job.state,
            parallelism: job.parallelism,
            attempt: job.attempt,
            start_time: job.start_time,
            end_time: job.end_time,
            duration: job.duration,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_made_absolute_and_a_uri_is_not() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute_path("a/b").unwrap(), here.join("a/b").to_str().unwrap());
        assert_eq!(absolute_path("/a").unwrap(), "/a");
        assert_eq!(absolute_path("s3://bucket/a").unwrap(), "s3://bucket/a");
        assert!(absolute_path("").unwrap_err().to_string().starts_with("the path '' cannot be used"));
    }
}
