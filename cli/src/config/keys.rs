//! The table of all configuration keys. The configuration file, the environment variables, the output of `tidegate config`
//! and the commented file `cli/tidegate.toml` follow from it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tidegate_jobmanager::settings::JobDefaults;

use crate::parse;

/// A key of the configuration with values of one type.
pub(crate) struct Key<T: 'static> {
    name: &'static str,
    variable: &'static str,
    default: Default,
    doc: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

/// What a key's value is where nobody has set it.
#[derive(Clone, Copy)]
pub(crate) enum Default {
    /// This text, as it would be in a file.
    Is(&'static str),
    /// What the process finds out when it starts, in words.
    Found { words: &'static str, example: &'static str, find: fn() -> Option<String> },
    /// Nothing.
    None { example: &'static str },
}

impl<T> Key<T> {
    /// The value that a text stands for.
    pub(crate) fn parse(&self, text: &str) -> Result<T, String> {
        (self.parse)(text)
    }
}

/// A key, whatever the type of its values.
pub(crate) trait AnyKey: Sync {
    /// Section and key, such as `taskmanager.slots`.
    fn name(&self) -> &'static str;
    /// The environment variable that sets it.
    fn variable(&self) -> &'static str;
    fn default(&self) -> Default;
    fn doc(&self) -> &'static str;
    /// Checks a text, without its value.
    fn check(&self, text: &str) -> Result<(), String>;

    /// The section and the key in it.
    fn parts(&self) -> (&'static str, &'static str) {
        self.name().split_once('.').unwrap_or(("", self.name()))
    }
}

impl<T> AnyKey for Key<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn variable(&self) -> &'static str {
        self.variable
    }

    fn default(&self) -> Default {
        self.default
    }

    fn doc(&self) -> &'static str {
        self.doc
    }

    fn check(&self, text: &str) -> Result<(), String> {
        (self.parse)(text).map(drop)
    }
}

/// Makes a static of every row, and the list of all of them.
macro_rules! keys {
    ($($(#[doc = $doc:literal])+ $id:ident: $type:ty = $name:literal, $variable:literal, $default:expr, $parse:expr;)+) => {
        $($(#[doc = $doc])+ pub(crate) static $id: Key<$type> = Key {
            name: $name,
            variable: $variable,
            default: $default,
            doc: concat!($($doc, "\n"),+),
            parse: $parse,
        };)+

        /// All keys, section by section.
        pub(crate) static ALL: &[&dyn AnyKey] = &[$(&$id),+];
    };
}

keys! {
    /// The address at which the jobmanager serves clients and taskmanagers.
    JOBMANAGER_LISTEN: String = "jobmanager.listen", "TIDEGATE_JOBMANAGER_LISTEN",
        Default::Is("127.0.0.1:8081"), parse::address;
    /// The directory in which the jobmanager keeps what it must know after a restart.
    JOBMANAGER_DATA: PathBuf = "jobmanager.data", "TIDEGATE_JOBMANAGER_DATA",
        Default::None { example: "/var/lib/tidegate/jobmanager" }, parse::path;
    /// Where snapshots, staged output and executables of jobs are: a directory that all hosts see under this path, or a
    /// place in a bucket of an object store, such as s3://bucket/tidegate. [s3] says how a bucket is reached.
    CHECKPOINT_STORE: String = "jobmanager.checkpoint-store", "TIDEGATE_JOBMANAGER_CHECKPOINT_STORE",
        Default::None { example: "/mnt/shared/tidegate" }, parse::store;
    /// The addresses of all jobmanagers of the cluster, with commas between them.
    PEERS: Vec<String> = "jobmanager.peers", "TIDEGATE_JOBMANAGER_PEERS",
        Default::None { example: "host-1:8081" }, parse::addresses;
    /// The address at which the jobmanager serves metrics for Prometheus, at /metrics. Requests need no signature, because
    /// Prometheus cannot sign: whoever can connect to this address can read them. Without it, none are served.
    JOBMANAGER_METRICS: String = "jobmanager.metrics", "TIDEGATE_JOBMANAGER_METRICS",
        Default::None { example: "127.0.0.1:9400" }, parse::address;

    /// Where taskmanagers and the command line find the jobmanager.
    JOBMANAGER: Vec<String> = "taskmanager.jobmanager", "TIDEGATE_JOBMANAGER",
        Default::Is("127.0.0.1:8081"), parse::addresses;
    /// The number of workers that the taskmanager has room for.
    SLOTS: u32 = "taskmanager.slots", "TIDEGATE_TASKMANAGER_SLOTS",
        Default::Found { words: "the number of cores", example: "8", find: cores }, |text| parse::number(text, 1, 4096);
    /// The directory in which the taskmanager keeps its id, executables, running state and logs of jobs.
    TASKMANAGER_DATA: PathBuf = "taskmanager.data", "TIDEGATE_TASKMANAGER_DATA",
        Default::None { example: "/var/lib/tidegate/taskmanager" }, parse::path;
    /// The IP address on which job processes listen for those of other hosts.
    TASKMANAGER_LISTEN: IpAddr = "taskmanager.listen", "TIDEGATE_TASKMANAGER_LISTEN",
        Default::Is("127.0.0.1"), parse::ip;
    /// The name or IP address by which other hosts reach this one. Without it, that is the address in 'listen'.
    TASKMANAGER_ADDRESS: String = "taskmanager.address", "TIDEGATE_TASKMANAGER_ADDRESS",
        Default::None { example: "host-1.example" }, parse::host;
    /// The address at which the taskmanager serves its metrics and those of its job processes for Prometheus, at /metrics.
    /// Requests need no signature, because Prometheus cannot sign: whoever can connect to this address can read them. Without
    /// it, none are served.
    TASKMANAGER_METRICS: String = "taskmanager.metrics", "TIDEGATE_TASKMANAGER_METRICS",
        Default::None { example: "127.0.0.1:9401" }, parse::address;

    /// The file with the secret of the cluster, which every process and every user of the cluster needs. Only its owner may
    /// be able to read it.
    SECRET_FILE: PathBuf = "cluster.secret-file", "TIDEGATE_SECRET_FILE",
        Default::Found {
            words: "~/.config/tidegate/secret, which a daemon on the loopback interface creates",
            example: "/etc/tidegate/secret",
            find: secret_file_of_user,
        }, parse::path;

    /// The URL of the object store, for a store other than that of AWS. The daemons need what is in this section if the
    /// checkpoint store or a savepoint is in a bucket; taskmanagers hand it to job processes.
    S3_ENDPOINT: String = "s3.endpoint", "AWS_ENDPOINT_URL",
        Default::None { example: "https://s3.example:9000" }, parse::endpoint;
    /// The region of the bucket.
    S3_REGION: String = "s3.region", "AWS_REGION", Default::None { example: "eu-central-1" }, parse::word;
    /// Whether requests name the bucket in the host and not in the path of a URL: true or false. With 'endpoint', the bucket
    /// is in that URL then.
    S3_VIRTUAL_HOSTED_STYLE: bool = "s3.virtual-hosted-style", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
        Default::None { example: "true" }, parse::flag;
    /// A file with the keys of the object store, in the format of AWS: a section [default] with aws_access_key_id and
    /// aws_secret_access_key. Only its owner may be able to read it; it is read again when it has changed. The environment
    /// variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY outweigh it. Without any of them, the role of the host is used.
    S3_CREDENTIALS_FILE: PathBuf = "s3.credentials-file", "AWS_SHARED_CREDENTIALS_FILE",
        Default::None { example: "/etc/tidegate/s3-credentials" }, parse::path;
    /// The file with the certificate of this host, as PEM, behind it those of intermediate authorities. With it, its key and
    /// tls.ca, all connections of daemons and job processes are over TLS. It must allow server and client authentication, and
    /// have the names and addresses by which the host is reached. Files of TLS are read when a process starts.
    TLS_CERTIFICATE: PathBuf = "tls.certificate", "TIDEGATE_TLS_CERTIFICATE",
        Default::None { example: "/etc/tidegate/host.pem" }, parse::path;
    /// The file with the key of the certificate, as PEM. Only its owner and its group may be able to read it.
    TLS_KEY: PathBuf = "tls.key", "TIDEGATE_TLS_KEY",
        Default::None { example: "/etc/tidegate/host.key" }, parse::path;
    /// The file with the certificates of the authorities that are believed, as PEM. It is all that the command line needs for
    /// TLS.
    TLS_CA: PathBuf = "tls.ca", "TIDEGATE_TLS_CA", Default::None { example: "/etc/tidegate/ca.pem" }, parse::path;
    /// The name that the certificate of whoever is connected to must have. Without it, that is the host of the address.
    TLS_SERVER_NAME: String = "tls.server-name", "TIDEGATE_TLS_SERVER_NAME",
        Default::None { example: "tidegate.example" }, parse::host;

    /// The number of connections that a jobmanager has at a time. Each is an open file.
    CONNECTIONS: u32 = "limits.connections", "TIDEGATE_LIMITS_CONNECTIONS",
        Default::Is("1024"), |text| parse::number(text, 16, 1_000_000);
    /// The number of those on which nobody has proved the cluster secret. If there are more, the oldest is closed.
    CONNECTIONS_UNAUTHENTICATED: u32 = "limits.connections-unauthenticated", "TIDEGATE_LIMITS_CONNECTIONS_UNAUTHENTICATED",
        Default::Is("256"), |text| parse::number(text, 8, 1_000_000);
    /// The number of those from one address. If there are more, the oldest of that address is closed.
    CONNECTIONS_PER_ADDRESS: u32 = "limits.connections-per-address", "TIDEGATE_LIMITS_CONNECTIONS_PER_ADDRESS",
        Default::Is("128"), |text| parse::number(text, 4, 1_000_000);

    /// A connection between daemons, or to a job process, on which nothing was received for so long is lost.
    LEASE: Duration = "timeouts.lease", "TIDEGATE_TIMEOUTS_LEASE", Default::Is("3s"), parse::duration;
    /// How long job processes go on while their taskmanager does not reach the jobmanager.
    AWAY: Duration = "timeouts.away", "TIDEGATE_TIMEOUTS_AWAY", Default::Is("5m"), parse::duration;
    /// How long a connection to the jobmanager may take until the cluster secret was proved on it, and how long a request may
    /// take to arrive. Executables have longer, if they come at 64 KB a second.
    AUTHENTICATION: Duration = "timeouts.authentication", "TIDEGATE_TIMEOUTS_AUTHENTICATION",
        Default::Is("10s"), parse::duration;

    /// How often a checkpoint is taken and output published, for jobs that are submitted without this setting.
    CHECKPOINT_INTERVAL: String = "checkpoint.interval", "TIDEGATE_CHECKPOINT_INTERVAL",
        of_job("1s"), |text| job_setting("checkpoint.interval", text);
    /// A checkpoint for which a worker has not answered after this time is aborted. Its changes and its output go with the next
    /// one.
    CHECKPOINT_TIMEOUT: String = "checkpoint.timeout", "TIDEGATE_CHECKPOINT_TIMEOUT",
        Default::Is("10m"), |text| job_setting("checkpoint.timeout", text);
    /// The least time between the end of a checkpoint and the start of the next.
    CHECKPOINT_MIN_PAUSE: String = "checkpoint.min-pause", "TIDEGATE_CHECKPOINT_MIN_PAUSE",
        Default::Is("0s"), |text| job_setting("checkpoint.min-pause", text);
    /// The number of complete snapshots that are kept of a job, for jobs that are submitted without this setting.
    CHECKPOINT_RETAIN: String = "checkpoint.retain", "TIDEGATE_CHECKPOINT_RETAIN",
        of_job("3"), |text| job_setting("checkpoint.retain", text);
    /// The number of checkpoints in a row that may fail; after one more the job is restarted from the last complete one.
    /// Without it, any number may: what a failed checkpoint has not written, the next one writes.
    TOLERABLE_FAILURES: String = "checkpoint.tolerable-failures", "TIDEGATE_CHECKPOINT_TOLERABLE_FAILURES",
        Default::None { example: "10" }, |text| job_setting("checkpoint.tolerable-failures", text);

    /// The number of attempts in a row that may fail with an error of the job, without a checkpoint in between, before the
    /// job has failed for good.
    RESTART_LIMIT: String = "restart.limit", "TIDEGATE_RESTART_LIMIT",
        Default::Is("10"), |text| job_setting("restart.limit", text);
    /// The delay before the second restart without a checkpoint in between; the first one is at once. It doubles with every
    /// further one.
    RESTART_DELAY: String = "restart.delay", "TIDEGATE_RESTART_DELAY",
        Default::Is("100ms"), |text| job_setting("restart.delay", text);
    /// The longest delay before a restart.
    RESTART_DELAY_MAX: String = "restart.delay-max", "TIDEGATE_RESTART_DELAY_MAX",
        Default::Is("30s"), |text| job_setting("restart.delay-max", text);

    /// The size at which a job process' log goes on in a new file.
    LOG_BYTES: u64 = "log.bytes", "TIDEGATE_LOG_BYTES", Default::Is("10MB"), parse::size;
    /// The number of files that are kept of each log.
    LOG_FILES: u32 = "log.files", "TIDEGATE_LOG_FILES", Default::Is("3"), |text| parse::number(text, 1, 1000);
}

/// The keys that are set for all jobs of the cluster. `-D` sets them for one job.
pub(crate) static OF_JOBS: &[&Key<String>] = &[
    &CHECKPOINT_INTERVAL,
    &CHECKPOINT_TIMEOUT,
    &CHECKPOINT_MIN_PAUSE,
    &CHECKPOINT_RETAIN,
    &TOLERABLE_FAILURES,
    &RESTART_LIMIT,
    &RESTART_DELAY,
    &RESTART_DELAY_MAX,
];

/// Checks a value as the jobmanager does, which is also given those of `-D`.
fn job_setting(key: &str, text: &str) -> Result<String, String> {
    JobDefaults::default().set(key, text).map(|()| text.to_owned())
}

/// The default of a key that the flags of a job's program set, if nobody else does.
const fn of_job(example: &'static str) -> Default {
    Default::Found { words: "what the job's own flags say", example, find: || None }
}

fn cores() -> Option<String> {
    Some(std::thread::available_parallelism().map_or(1, usize::from).to_string())
}

/// Where the user's own secret is kept; none for a user without a home directory.
fn secret_file_of_user() -> Option<String> {
    let directory =
        |variable| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let configuration = directory("XDG_CONFIG_HOME").or_else(|| Some(directory("HOME")?.join(".config")))?;
    Some(configuration.join("tidegate/secret").to_str()?.to_owned())
}

/// The key of this name.
pub(crate) fn find(name: &str) -> Option<&'static dyn AnyKey> {
    ALL.iter().copied().find(|key| key.name() == name)
}

/// The key whose name is most like an unknown one, if any is.
pub(crate) fn nearest(name: &str) -> Option<&'static dyn AnyKey> {
    let (section, own) = name.split_once('.').unwrap_or(("", name));
    let likeness = |key: &dyn AnyKey| {
        let (of_section, of_own) = key.parts();
        // The right key in the wrong section, or nearly so, is what was meant, too.
        let as_a_whole = strsim::jaro_winkler(name, key.name());
        let as_a_key = strsim::normalized_damerau_levenshtein(own, of_own);
        if section == of_section { as_a_key.max(0.5 * as_a_whole) } else { 0.9 * as_a_key }
    };
    let candidates = ALL.iter().map(|key| (likeness(*key), *key));
    let best = candidates.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 >= 0.6).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid_and_every_name_is_there_once() {
        for key in ALL {
            let (Default::Is(text) | Default::Found { example: text, .. } | Default::None { example: text }) =
                key.default();
            assert_eq!(key.check(text), Ok(()), "{}", key.name());
            assert_eq!(ALL.iter().filter(|other| other.name() == key.name()).count(), 1);
            assert_eq!(ALL.iter().filter(|other| other.variable() == key.variable()).count(), 1);
        }
    }

    #[test]
    fn the_defaults_of_jobs_are_those_of_the_jobmanager() {
        let mut shown = JobDefaults::default();
        for key in OF_JOBS {
            if let Default::Is(text) = key.default() {
                shown.set(key.name(), text).unwrap();
            }
        }
        assert_eq!(shown, JobDefaults::default());
    }

    #[test]
    fn the_nearest_key_is_what_was_meant() {
        let nearest = |name| nearest(name).map(AnyKey::name);
        assert_eq!(nearest("taskmanager.slot"), Some("taskmanager.slots"));
        assert_eq!(nearest("taskmanager.number-of-slots"), None);
        assert_eq!(nearest("taskmanager.lsiten"), Some("taskmanager.listen"));
        assert_eq!(nearest("jobmanager.lsiten"), Some("jobmanager.listen"));
        assert_eq!(nearest("slots"), Some("taskmanager.slots"));
        assert_eq!(nearest("jobmanager.secret-file"), Some("cluster.secret-file"));
        assert_eq!(nearest("checkpoints.intervall"), Some("checkpoint.interval"));
        assert_eq!(nearest("x.y"), None);
    }
}
