//! What a jobmanager is started with, and what a user can set for a job.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::SignedDuration;
use tidegate_access::Secret;
use tidegate_control::cluster::JobSettings;
use tidegate_protocol::{Error, Result};

/// What a jobmanager is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address at which it serves users and taskmanagers.
    pub listen: SocketAddr,
    /// Where the ledger is, on a disk of its own.
    pub data: PathBuf,
    /// The checkpoint store: a directory that all hosts see by the same path.
    pub checkpoint_store: PathBuf,
    /// What everybody proves to have who connects.
    pub secret: Secret,
    /// After so long without a message a taskmanager is taken for lost.
    pub lease: Duration,
    /// What is set for a job that sets nothing.
    pub job: JobDefaults,
    /// The address at which metrics are served, to everybody who can connect: Prometheus does not sign its requests. None
    /// to serve none.
    pub metrics: Option<SocketAddr>,
}

/// What is set for a job that sets nothing; None for what the job's own flags say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobDefaults {
    /// The time from one checkpoint to the next.
    pub interval: Option<Duration>,
    /// Complete snapshots that are kept.
    pub retain: Option<usize>,
    /// Attempts in a row that may fail with an error of the job without a checkpoint in between.
    pub restart_limit: Option<u32>,
}

/// The settings of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SettingsOfJob {
    pub(crate) interval_ms: Option<u64>,
    pub(crate) retain: Option<usize>,
    pub(crate) settings: JobSettings,
}

/// The keys of `-D key=value`.
const KEYS: &[&str] = &["checkpoint.interval", "checkpoint.retain", "memory", "restart.limit"];

impl SettingsOfJob {
    /// Reads what a user has set.
    pub(crate) fn read(given: &BTreeMap<String, String>, defaults: &JobDefaults) -> Result<Self> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut this = Self {
            interval_ms: defaults.interval.map(millis),
            retain: defaults.retain,
            settings: JobSettings {
                interval_ms: 1_000,
                retain: 3,
                memory: None,
                restart_limit: defaults.restart_limit.unwrap_or(10),
            },
        };
        for (key, value) in given {
            let invalid = |why: String| Error::job(format!("-D {key}={value} is invalid: {why}"));
            match key.as_str() {
                "checkpoint.interval" => this.interval_ms = Some(millis(time(value).map_err(invalid)?)),
                "checkpoint.retain" => this.retain = Some(number(value).map_err(invalid)? as usize),
                "memory" => this.settings.memory = Some(size(value).map_err(invalid)?),
                "restart.limit" => this.settings.restart_limit = number(value).map_err(invalid)?,
                _ => return Err(invalid(format!("there is no such key; the keys are {}", KEYS.join(", ")))),
            }
        }
        Ok(this)
    }
}

/// A time such as `250ms`, `1s`, `2m`; a number without a unit is one of seconds.
fn time(text: &str) -> Result<Duration, String> {
    let is_number = text.parse::<f64>().is_ok();
    let with_unit = if is_number { format!("{text}s") } else { text.to_owned() };
    let time: Option<SignedDuration> = with_unit.parse().ok();
    let time = time.ok_or("it must be a time with the unit ms, s, m or h, such as 500ms, 1s or 2m")?;
    let possible = SignedDuration::from_millis(1)..=SignedDuration::from_hours(1_000_000);
    if possible.contains(&time) {
        Ok(time.unsigned_abs())
    } else {
        Err("it must be from 1ms to 1000000h".to_owned())
    }
}

fn number(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=1_000_000).contains(number));
    number.ok_or_else(|| "it must be a whole number from 1 to 1000000".to_owned())
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

    fn read(key: &str, value: &str) -> Result<SettingsOfJob> {
        SettingsOfJob::read(&[(key.to_owned(), value.to_owned())].into(), &JobDefaults::default())
    }

    #[test]
    fn settings_are_read_or_refused_by_name() {
        assert_eq!(read("checkpoint.interval", "200ms").unwrap().interval_ms, Some(200));
        assert_eq!(read("memory", "64MB").unwrap().settings.memory, Some(64_000_000));
        assert_eq!(read("checkpoint.retain", "7").unwrap().retain, Some(7));
        for (key, value) in [("checkpoint.interval", "0"), ("memory", "1KB"), ("checkpoint.retain", "0")] {
            let error = read(key, value).unwrap_err().to_string();
            assert!(error.starts_with(&format!("-D {key}={value} is invalid")), "{error}");
        }
        let error = read("checkpoint.intervall", "1s").unwrap_err().to_string();
        assert!(error.contains("the keys are checkpoint.interval"), "{error}");
    }
}
