//! What a jobmanager is started with, and what a user can set for a job.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::SignedDuration;
use tidegate_access::Secret;
use tidegate_control::cluster::JobSettings;
use tidegate_object_store::S3Settings;
use tidegate_protocol::process::TlsFiles;
use tidegate_protocol::{Error, Result};

/// The longest time that can be set.
const MOST_MS: u64 = 1_000_000 * 3_600_000;

/// What a jobmanager is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address at which it serves users and taskmanagers.
    pub listen: SocketAddr,
    /// Where the ledger is, on a disk of its own.
    pub data: PathBuf,
    /// The checkpoint store: a directory that all hosts see by the same path, or `s3://bucket/prefix`.
    pub checkpoint_store: String,
    /// How this host reaches a checkpoint store in a bucket.
    pub s3: S3Settings,
    /// What everybody proves to have who connects.
    pub secret: Secret,
    /// After so long without a message a taskmanager is taken for lost.
    pub lease: Duration,
    /// What is set for a job that sets nothing.
    pub job: JobDefaults,
    /// The address at which metrics are served, to everybody who can connect: Prometheus does not sign its requests. None
    /// to serve none.
    pub metrics: Option<SocketAddr>,
    /// How many connections there may be.
    pub connections: ConnectionLimits,
    /// The files for TLS on all connections; None for connections without.
    pub tls: Option<TlsFiles>,
}

/// How many connections there may be at a time. A stranger is a connection on which nobody has proved the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// All of them.
    pub total: usize,
    /// Those of strangers; if there are more, the oldest is closed.
    pub strangers: usize,
    /// Those of strangers from one address; if there are more, its oldest is closed.
    pub strangers_per_address: usize,
    /// How long a connection may be a stranger's, and a request may take to arrive.
    pub authentication: Duration,
}

/// What is set for a job: by the configuration of the cluster, and then for the job itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobDefaults {
    /// Milliseconds from one checkpoint to the next; None for what the job's own flags say.
    pub(crate) interval_ms: Option<u64>,
    /// Complete snapshots that are kept; None for what the job's own flags say.
    pub(crate) retain: Option<usize>,
    /// All others.
    pub(crate) settings: JobSettings,
}

type Set = fn(&mut JobDefaults, &str) -> Result<(), String>;

/// The keys of a job: those of the configuration, and of `-D key=value`.
const KEYS: &[(&str, Set)] = &[
    ("checkpoint.interval", |job, text| time(text, 1).map(|ms| job.interval_ms = Some(ms))),
    ("checkpoint.timeout", |job, text| time(text, 1).map(|ms| job.settings.timeout_ms = ms)),
    ("checkpoint.min-pause", |job, text| time(text, 0).map(|ms| job.settings.min_pause_ms = ms)),
    ("checkpoint.tolerable-failures", |job, text| {
        number(text, 0).map(|count| job.settings.tolerable_failures = Some(count))
    }),
    ("checkpoint.retain", |job, text| number(text, 1).map(|count| job.retain = Some(count as usize))),
    ("memory", |job, text| size(text).map(|bytes| job.settings.memory = Some(bytes))),
    ("restart.limit", |job, text| number(text, 1).map(|count| job.settings.restart_limit = count)),
    ("restart.delay", |job, text| time(text, 0).map(|ms| job.settings.restart_delay_ms = ms)),
    ("restart.delay-max", |job, text| time(text, 0).map(|ms| job.settings.restart_delay_max_ms = ms)),
];

impl JobDefaults {
    /// Sets a key to what a text says.
    ///
    /// # Errors
    /// What is wrong with the value; or that there is no such key, with those that there are.
    pub fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        let Some((_, set)) = KEYS.iter().find(|(name, _)| *name == key) else {
            let names: Vec<&str> = KEYS.iter().map(|(name, _)| *name).collect();
            return Err(format!("there is no such key; the keys are {}", names.join(", ")));
        };
        set(self, text)
    }

    /// The same with what a user has set for one job.
    pub(crate) fn with(&self, given: &BTreeMap<String, String>) -> Result<Self> {
        let mut job = self.clone();
        for (key, value) in given {
            let set = job.set(key, value);
            set.map_err(|why| Error::job(format!("-D {key}={value} is invalid: {why}")))?;
        }
        Ok(job)
    }
}

/// A time such as `250ms`, `1s`, `2m` in milliseconds; a number without a unit is one of seconds.
fn time(text: &str, least_ms: u64) -> Result<u64, String> {
    let is_number = text.parse::<f64>().is_ok();
    let with_unit = if is_number { format!("{text}s") } else { text.to_owned() };
    let time: Option<SignedDuration> = with_unit.parse().ok();
    let time = time.ok_or("it must be a time with the unit ms, s, m or h, such as 500ms, 1s or 2m")?;
    let ms = u64::try_from(time.as_millis()).ok();
    ms.filter(|ms| (least_ms..=MOST_MS).contains(ms) && (least_ms > 0 || !time.is_negative()))
        .ok_or_else(|| format!("it must be from {least_ms}ms to {}h", MOST_MS / 3_600_000))
}

fn number(text: &str, least: u32) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (least..=1_000_000).contains(number));
    number.ok_or_else(|| format!("it must be a whole number from {least} to 1000000"))
}

fn size(text: &str) -> Result<u64, String> {
    let size: Option<ByteSize> = text.parse().ok();
    let size = size.filter(|size| *size >= ByteSize::mb(1) && *size < ByteSize::pb(1));
    size.map(|size| size.as_u64())
        .ok_or_else(|| "it must be a size from 1MB on, such as 256MB or 2GB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, value: &str) -> Result<JobDefaults> {
        JobDefaults::default().with(&[(key.to_owned(), value.to_owned())].into())
    }

    #[test]
    fn settings_are_read() {
        assert_eq!(set("checkpoint.interval", "200ms").unwrap().interval_ms, Some(200));
        assert_eq!(set("checkpoint.timeout", "5m").unwrap().settings.timeout_ms, 300_000);
        assert_eq!(set("checkpoint.min-pause", "0.5").unwrap().settings.min_pause_ms, 500);
        assert_eq!(set("checkpoint.tolerable-failures", "0").unwrap().settings.tolerable_failures, Some(0));
        assert_eq!(set("checkpoint.retain", "7").unwrap().retain, Some(7));
        assert_eq!(set("memory", "64MB").unwrap().settings.memory, Some(64_000_000));
        assert_eq!(set("restart.limit", "3").unwrap().settings.restart_limit, 3);
        assert_eq!(set("restart.delay", "0s").unwrap().settings.restart_delay_ms, 0);
        assert_eq!(set("restart.delay-max", "1h").unwrap().settings.restart_delay_max_ms, 3_600_000);
    }

    #[test]
    fn what_is_set_for_a_job_outweighs_what_is_set_for_all() {
        let mut all = JobDefaults::default();
        all.set("restart.limit", "3").unwrap();
        all.set("checkpoint.retain", "5").unwrap();
        let job = all.with(&[("restart.limit".to_owned(), "4".to_owned())].into()).unwrap();
        assert_eq!((job.settings.restart_limit, job.retain), (4, Some(5)));
    }

    #[test]
    fn invalid_values_are_refused_by_name() {
        let invalid = [
            ("checkpoint.interval", "0"),
            ("checkpoint.interval", "-1s"),
            ("checkpoint.interval", "0.1ms"),
            ("checkpoint.min-pause", "-1ms"),
            ("checkpoint.timeout", "soon"),
            ("restart.delay", "1000001h"),
            ("checkpoint.retain", "0"),
            ("memory", "1KB"),
        ];
        for (key, value) in invalid {
            let error = set(key, value).unwrap_err().to_string();
            assert!(error.starts_with(&format!("-D {key}={value} is invalid: it must be")), "{error}");
        }
        let error = set("checkpoint.intervall", "1s").unwrap_err().to_string();
        assert!(error.contains("the keys are checkpoint.interval, checkpoint.timeout"), "{error}");
    }
}
