//! The command line: subcommands and their flags.
//!
//! A flag that sets a key of the configuration is kept as text here, checked by the key; its value is that of the key
//! ([`Options::given`]).
//!
//! Not here: what the subcommands do.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use tidegate_connectors::KafkaSetting;
use tidegate_protocol::JobId;

use crate::config::Given;
use crate::config::keys::{self, AnyKey};
use crate::parse::{self, Parallelism};
use crate::verbs::Fault;

/// Tidegate, a distributed stream processor: submits jobs to a cluster, looks at them, and is the cluster's daemons.
#[derive(Parser)]
#[command(name = "tidegate", version, max_term_width = 110, after_help = AFTER_HELP, arg_required_else_help = true)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) global: GlobalOptions,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const AFTER_HELP: &str =
    "A cluster on this machine: tidegate cluster up; then: tidegate run EXECUTABLE -- ITS ARGUMENTS";

/// Options that every subcommand takes.
#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalOptions {
    /// Where the jobmanager is [default: 127.0.0.1:8081, or the cluster in ./tidegate-cluster]
    #[arg(long, global = true, value_name = "HOST:PORT[,..]", value_parser = checked(&keys::JOBMANAGER))]
    jobmanager: Option<String>,
    /// The file with the cluster's secret
    #[arg(long, global = true, value_name = "FILE", value_parser = checked(&keys::SECRET_FILE))]
    secret_file: Option<String>,
    /// The file with the cluster's CA, for connections over TLS
    #[arg(long, global = true, value_name = "FILE", value_parser = checked(&keys::TLS_CA))]
    pub(crate) tls_ca: Option<String>,
    /// The configuration file [default: ./tidegate.toml or /etc/tidegate/tidegate.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How the answer is written to standard output
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Format,
}

/// How the answer of a subcommand is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    // For people. No doc comments: with them, the help of every subcommand would be twice as long.
    Text,
    // For programs.
    Json,
}

/// The subcommands.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Submits an executable as a job, and follows it until it is over
    Run(RunOptions),
    /// Lists jobs
    List(ListOptions),
    /// Shows a job
    Info(JobOption),
    /// Makes a savepoint of a running job, and prints its path
    Savepoint(SavepointOptions),
    /// Stops a job after a last checkpoint, and waits until it is over
    Stop(StopOptions),
    /// Ends a job at once, and waits until it is over
    Cancel(JobOption),
    /// Changes the parallelism of a job, and waits until it runs with it
    Rescale(RescaleOptions),
    /// Shows the checkpoints of a job
    Checkpoints(JobOption),
    /// Says what holds the event time or the checkpoint of a job back: which partition or operator, on which worker and host
    Why(JobOption),
    /// Prints the logs of a job's processes
    Logs(LogsOptions),
    /// Lists the taskmanagers of the cluster
    Taskmanagers,
    /// Shows what Kafka sinks have published under their transactional ids, and aborts transactions that are left open
    #[command(subcommand)]
    Transactions(TransactionsVerb),
    /// Verifies what an installation guarantees: your cluster with your brokers
    #[command(subcommand)]
    Verify(VerifyVerb),
    /// Starts and stops a cluster on this machine
    #[command(subcommand)]
    Cluster(ClusterVerb),
    /// Runs a jobmanager
    Jobmanager(JobManagerOptions),
    /// Runs a taskmanager
    Taskmanager(TaskManagerOptions),
    /// Shows the configuration that is in force, and where each value comes from
    Config {
        /// Prints a commented configuration file with all keys and their defaults instead
        #[arg(long)]
        default: bool,
    },
    /// Prints a script with which a shell completes the command line
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// A job.
#[derive(Args)]
pub(crate) struct JobOption {
    /// The job: its id, the beginning of its id, or its name
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
}

/// Options of `run`.
#[derive(Args)]
pub(crate) struct RunOptions {
    /// Returns as soon as the job is submitted
    #[arg(short, long)]
    pub(crate) detached: bool,
    /// The number of workers, or 'auto' for one that follows the partitions of the job's sources and the slots there are, as they
    /// come and go [default: what the job says, or else as many as there are partitions and free slots at the start]
    #[arg(short, long, value_name = "N|auto", allow_hyphen_values = true, value_parser = parse::parallelism_or_auto)]
    pub(crate) parallelism: Option<Parallelism>,
    /// The snapshot to start from: a savepoint, or a checkpoint directory, of which the newest is taken; or s3://bucket/prefix
    #[arg(short, long, value_name = "SNAPSHOT")]
    pub(crate) snapshot: Option<String>,
    /// Starts from the snapshot even if the job no longer has some of the operators whose state is in it
    #[arg(short = 'n', long, requires = "snapshot")]
    pub(crate) allow_non_restored_state: bool,
    /// A setting of the job, such as checkpoint.interval=10s; may be repeated
    #[arg(short = 'D', value_name = "KEY=VALUE", value_parser = parse::setting)]
    pub(crate) settings: Vec<(String, String)>,
    /// The name that the cluster shows [default: the job's own]
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) name: Option<String>,
    /// The job's program
    pub(crate) executable: PathBuf,
    /// The job's arguments, after --
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) arguments: Vec<String>,
}

/// Options of `list`.
#[derive(Args)]
pub(crate) struct ListOptions {
    /// Only jobs that run
    #[arg(short, long, conflicts_with = "all")]
    pub(crate) running: bool,
    /// Also jobs that are over: the 1,000 that ended last
    #[arg(short, long)]
    pub(crate) all: bool,
}

/// Options of `savepoint`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct SavepointOptions {
    #[command(subcommand)]
    pub(crate) verb: Option<SavepointVerb>,
    /// The job: its id, the unique beginning of its id, or its name
    #[arg(value_name = "JOB", required = true)]
    pub(crate) job: Option<String>,
    /// Where the savepoint is made, a directory or s3://bucket/prefix [default: in the checkpoint store]
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<String>,
}

/// What else can be done with savepoints.
#[derive(Subcommand)]
pub(crate) enum SavepointVerb {
    /// Says operator by operator whether a job could go on from a snapshot; nothing is changed, and no job is stopped
    Check(CheckOptions),
}

/// Options of `savepoint check`.
#[derive(Args)]
pub(crate) struct CheckOptions {
    /// A savepoint, or a checkpoint directory, of which the newest snapshot is taken; or s3://bucket/prefix
    pub(crate) snapshot: String,
    /// The job's executable
    pub(crate) executable: PathBuf,
    /// The job's arguments
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) arguments: Vec<String>,
}

/// Options of `stop`.
#[derive(Args)]
pub(crate) struct StopOptions {
    /// Reads the input to its present end and closes all windows, instead of keeping them for another start
    #[arg(long)]
    pub(crate) drain: bool,
    /// Makes a savepoint in this directory, or at s3://bucket/prefix
    #[arg(long, value_name = "DIR")]
    pub(crate) savepoint_path: Option<String>,
    #[command(flatten)]
    pub(crate) job: JobOption,
}

/// Options of `rescale`.
#[derive(Args)]
pub(crate) struct RescaleOptions {
    #[command(flatten)]
    pub(crate) job: JobOption,
    /// The number of workers, or 'auto' for one that follows the partitions of the job's sources and the slots there are
    #[arg(short, long, value_name = "N|auto", allow_hyphen_values = true, value_parser = parse::parallelism_or_auto)]
    pub(crate) parallelism: Parallelism,
    /// Returns without waiting
    #[arg(short, long)]
    pub(crate) detached: bool,
}

/// Subcommands of `transactions`. They ask the brokers, and no jobmanager.
#[derive(Subcommand)]
pub(crate) enum TransactionsVerb {
    /// Lists what is published, and where readers wait for an open transaction
    List(TransactionsListOptions),
    /// Has the brokers abort the open transactions of these ids. A job that runs begins again what it was publishing
    Abort(TransactionsAbortOptions),
}

/// Options of `transactions list`.
#[derive(Args)]
pub(crate) struct TransactionsListOptions {
    #[command(flatten)]
    pub(crate) kafka: KafkaOptions,
    /// Only those of this job
    #[arg(value_name = "JOB_ID")]
    pub(crate) job: Option<JobId>,
    /// What the transactional ids begin with
    #[arg(long, value_name = "PREFIX", default_value = "tidegate")]
    pub(crate) prefix: String,
}

/// Options of `transactions abort`.
#[derive(Args)]
pub(crate) struct TransactionsAbortOptions {
    #[command(flatten)]
    pub(crate) kafka: KafkaOptions,
    /// Whole ids, as 'transactions list' shows them
    #[arg(value_name = "TRANSACTIONAL_ID", required = true)]
    pub(crate) ids: Vec<String>,
}

/// How brokers are reached.
#[derive(Args)]
pub(crate) struct KafkaOptions {
    /// A setting of the Kafka client, any number of times, bootstrap.servers among them. A secret is given as KEY=env:NAME
    /// or KEY=file:PATH
    #[arg(long, value_name = "KEY=VALUE", required = true)]
    pub(crate) kafka: Vec<KafkaSetting>,
}

/// Subcommands of `verify`.
#[derive(Subcommand)]
pub(crate) enum VerifyVerb {
    /// Runs a job between two topics of its own, under faults that you allow, and looks for rows that are lost, doubled or counted
    /// wrongly. The exit code is 0 if there are none, and 1 otherwise
    ExactlyOnce(ExactlyOnceOptions),
}

/// Options of `verify exactly-once`.
#[derive(Args)]
pub(crate) struct ExactlyOnceOptions {
    #[command(flatten)]
    pub(crate) kafka: KafkaOptions,
    /// For how many seconds rows are written, from the first one that has come out
    #[arg(long, value_name = "N", default_value_t = 60, allow_hyphen_values = true, value_parser = |text: &str| parse::number(text, 1, 1_000_000))]
    pub(crate) seconds: u32,
    /// How many rows are written a second
    #[arg(long, value_name = "N", default_value_t = 1000, allow_hyphen_values = true, value_parser = |text: &str| parse::number(text, 1, 1_000_000))]
    pub(crate) rate: u32,
    /// The number of keys
    #[arg(long, value_name = "N", default_value_t = 100, allow_hyphen_values = true, value_parser = |text: &str| parse::number(text, 1, 10_000_000))]
    pub(crate) keys: u32,
    /// The number of partitions of each topic
    #[arg(long, value_name = "N", default_value_t = 3, allow_hyphen_values = true, value_parser = |text: &str| parse::number(text, 1, 10_000))]
    pub(crate) partitions: u32,
    /// The number of replicas of each topic; three, if brokers are to be killed [default: what the brokers make by themselves]
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = |text: &str| parse::number(text, 1, 32_767))]
    pub(crate) replication_factor: Option<u32>,
    /// The number of workers [default: as many as there are free slots]
    #[arg(short, long, value_name = "N", allow_hyphen_values = true, value_parser = parse::parallelism)]
    pub(crate) parallelism: Option<u32>,
    /// A setting of the job, such as checkpoint.interval=10s; may be repeated
    #[arg(short = 'D', value_name = "KEY=VALUE", value_parser = parse::setting)]
    pub(crate) settings: Vec<(String, String)>,
    /// A fault: job (kill -9 of one of the job's processes), taskmanager (of a taskmanager that runs one), or a command, run by
    /// sh -c with the job's id in TIDEGATE_JOB, that makes one. Several take turns
    #[arg(long, value_name = "job|taskmanager|COMMAND")]
    pub(crate) fault: Vec<Fault>,
    /// About how many seconds are between two faults
    #[arg(long, value_name = "N", default_value_t = 10, allow_hyphen_values = true, value_parser = |text: &str| parse::number(text, 1, 1_000_000))]
    pub(crate) every: u32,
    /// What the instants of faults and the processes that they hit are drawn from [default: another one at every run]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// The job's program, verify-exactly-once [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) job: Option<PathBuf>,
    /// Keeps the topics
    #[arg(long)]
    pub(crate) keep: bool,
}

/// Options of `logs`.
#[derive(Args)]
pub(crate) struct LogsOptions {
    #[command(flatten)]
    pub(crate) job: JobOption,
    /// The attempt [default: the newest]
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = |text: &str| parse::number(text, 1, u32::MAX))]
    pub(crate) attempt: Option<u32>,
    /// Goes on with what is logged from now on, until the job is over
    #[arg(short, long)]
    pub(crate) follow: bool,
}

/// Subcommands of `cluster`.
#[derive(Subcommand)]
pub(crate) enum ClusterVerb {
    /// Starts a jobmanager and taskmanagers on this machine
    Up(UpOptions),
    /// Stops them
    Down(DownOptions),
}

/// Options of `cluster up`.
#[derive(Args)]
pub(crate) struct UpOptions {
    /// The number of taskmanagers
    #[arg(long, value_name = "N", default_value_t = 2, allow_hyphen_values = true, value_parser = |text: &str| parse::number(text, 1, 100))]
    pub(crate) taskmanagers: u32,
    /// The number of slots of each taskmanager
    #[arg(long, value_name = "N", default_value_t = 2, allow_hyphen_values = true, value_parser = |text: &str| parse::number(text, 1, 4096))]
    pub(crate) slots: u32,
    /// The directory for everything that the cluster keeps
    #[arg(long, value_name = "DIR", default_value = crate::cluster::DIRECTORY)]
    pub(crate) data: PathBuf,
    /// The port of the jobmanager; 0 for any
    #[arg(long, default_value_t = 8081, allow_hyphen_values = true, value_parser = |text: &str| parse::number(text, 0, 65_535))]
    pub(crate) port: u32,
    /// Returns when the cluster is ready, and leaves it running
    #[arg(short, long)]
    pub(crate) detached: bool,
}

/// Options of `cluster down`.
#[derive(Args)]
pub(crate) struct DownOptions {
    /// The directory of the cluster
    #[arg(long, value_name = "DIR", default_value = crate::cluster::DIRECTORY)]
    pub(crate) data: PathBuf,
}

/// Options of `jobmanager`.
#[derive(Args)]
pub(crate) struct JobManagerOptions {
    /// The address to serve clients and taskmanagers at [default: 127.0.0.1:8081]
    #[arg(long, value_name = "HOST:PORT", value_parser = checked(&keys::JOBMANAGER_LISTEN))]
    listen: Option<String>,
    /// The directory in which it keeps what it must know after a restart
    #[arg(long, value_name = "DIR", value_parser = checked(&keys::JOBMANAGER_DATA))]
    data: Option<String>,
    /// Where snapshots and executables are: a directory that all hosts see under this path, or s3://bucket/prefix
    #[arg(long, value_name = "STORE", value_parser = checked(&keys::CHECKPOINT_STORE))]
    checkpoint_store: Option<String>,
    /// The addresses of all jobmanagers of the cluster
    #[arg(long, value_name = "HOST:PORT[,..]", value_parser = checked(&keys::PEERS))]
    peers: Option<String>,
    /// Serves metrics for Prometheus at this address, to everybody who can connect: its requests are not signed
    #[arg(long, value_name = "HOST:PORT", value_parser = checked(&keys::JOBMANAGER_METRICS))]
    metrics: Option<String>,
    #[command(flatten)]
    tls: TlsOptions,
}

/// Options of `taskmanager`.
#[derive(Args)]
pub(crate) struct TaskManagerOptions {
    /// The number of workers that it has room for [default: the number of cores]
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = checked(&keys::SLOTS))]
    slots: Option<String>,
    /// The directory for its id, executables, running state and logs
    #[arg(long, value_name = "DIR", value_parser = checked(&keys::TASKMANAGER_DATA))]
    data: Option<String>,
    /// The IP address on which job processes listen for those of other hosts [default: 127.0.0.1]
    #[arg(long, value_name = "IP", value_parser = checked(&keys::TASKMANAGER_LISTEN))]
    listen: Option<String>,
    /// The name or IP address by which other hosts reach this one [default: that of --listen]
    #[arg(long, value_name = "HOST", value_parser = checked(&keys::TASKMANAGER_ADDRESS))]
    address: Option<String>,
    /// Serves metrics for Prometheus at this address, to everybody who can connect: its requests are not signed
    #[arg(long, value_name = "HOST:PORT", value_parser = checked(&keys::TASKMANAGER_METRICS))]
    metrics: Option<String>,
    #[command(flatten)]
    tls: TlsOptions,
}

/// Options of daemons for TLS, beside `--tls-ca`.
#[derive(Args)]
pub(crate) struct TlsOptions {
    /// The file with the certificate of this host
    #[arg(long, value_name = "FILE", value_parser = checked(&keys::TLS_CERTIFICATE))]
    tls_certificate: Option<String>,
    /// The file with the key of the certificate
    #[arg(long, value_name = "FILE", value_parser = checked(&keys::TLS_KEY))]
    tls_key: Option<String>,
}

impl Options {
    /// The keys of the configuration that flags have set.
    pub(crate) fn given(&self) -> Vec<Given> {
        let global = &self.global;
        let mut all: Vec<(&'static dyn AnyKey, &'static str, &Option<String>)> = vec![
            (&keys::JOBMANAGER, "--jobmanager", &global.jobmanager),
            (&keys::SECRET_FILE, "--secret-file", &global.secret_file),
            (&keys::TLS_CA, "--tls-ca", &global.tls_ca),
        ];
        match &self.verb {
            Verb::Jobmanager(options) => all.extend(options.keys()),
            Verb::Taskmanager(options) => all.extend(options.keys()),
            _ => {}
        }
        let given = all.into_iter().filter_map(|(key, flag, text)| Some((key, flag, text.clone()?)));
        given.map(|(key, flag, text)| Given::flag(key, flag, text)).collect()
    }
}

impl JobManagerOptions {
    fn keys(&self) -> [(&'static dyn AnyKey, &'static str, &Option<String>); 7] {
        [
            (&keys::JOBMANAGER_LISTEN, "--listen", &self.listen),
            (&keys::JOBMANAGER_DATA, "--data", &self.data),
            (&keys::CHECKPOINT_STORE, "--checkpoint-store", &self.checkpoint_store),
            (&keys::PEERS, "--peers", &self.peers),
            (&keys::JOBMANAGER_METRICS, "--metrics", &self.metrics),
            (&keys::TLS_CERTIFICATE, "--tls-certificate", &self.tls.tls_certificate),
            (&keys::TLS_KEY, "--tls-key", &self.tls.tls_key),
        ]
    }
}

impl TaskManagerOptions {
    fn keys(&self) -> [(&'static dyn AnyKey, &'static str, &Option<String>); 7] {
        [
            (&keys::SLOTS, "--slots", &self.slots),
            (&keys::TASKMANAGER_DATA, "--data", &self.data),
            (&keys::TASKMANAGER_LISTEN, "--listen", &self.listen),
            (&keys::TASKMANAGER_ADDRESS, "--address", &self.address),
            (&keys::TASKMANAGER_METRICS, "--metrics", &self.metrics),
            (&keys::TLS_CERTIFICATE, "--tls-certificate", &self.tls.tls_certificate),
            (&keys::TLS_KEY, "--tls-key", &self.tls.tls_key),
        ]
    }
}

/// A flag's text, if it is a value of the key.
fn checked(
    key: &'static dyn AnyKey,
) -> impl Fn(&str) -> Result<String, String> + Clone + Send + Sync + 'static {
    move |text| key.check(text).map(|()| text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn global_flags_may_stand_behind_the_verb_and_set_keys() {
        let options =
            Options::parse_from(["tidegate", "taskmanager", "--slots", "3", "--jobmanager", "a:1,b:2"]);
        let given: Vec<_> = options.given().into_iter().map(|given| (given.key.name(), given.text)).collect();
        let expected = [("taskmanager.jobmanager", "a:1,b:2"), ("taskmanager.slots", "3")];
        assert_eq!(given, expected.map(|(key, text)| (key, text.to_owned())));
    }

    #[test]
    fn arguments_of_the_job_are_behind_two_hyphens() {
        let line = "tidegate run -d -p 4 -D a=1 -D b=2 job -- --input x -o y";
        let Verb::Run(run) = Options::parse_from(line.split(' ')).verb else { panic!() };
        assert_eq!((run.detached, run.parallelism, run.settings.len()), (true, Some(Parallelism::Of(4)), 2));
        assert_eq!(
            (run.executable, run.arguments),
            ("job".into(), ["--input", "x", "-o", "y"].map(str::to_owned).to_vec())
        );
    }

    #[test]
    fn faults_are_kept_in_their_order_and_what_is_no_word_is_a_command() {
        let line = "tidegate verify exactly-once --kafka bootstrap.servers=a:1 --fault taskmanager --fault job --fault";
        let line = line.split(' ').chain(["kill job"]);
        let Verb::Verify(VerifyVerb::ExactlyOnce(options)) = Options::parse_from(line).verb else { panic!() };
        let expected = [Fault::TaskManager, Fault::Job, Fault::Command("kill job".to_owned())];
        assert_eq!((options.fault, options.seconds, options.keep), (expected.to_vec(), 60, false));
    }

    #[test]
    fn an_invalid_value_is_refused_with_what_is_possible() {
        for (line, expected) in [
            ("tidegate taskmanager --slots -1", "it must be at least 1"),
            ("tidegate rescale x -p 0", "it must be at least 1"),
            ("tidegate list --jobmanager 8081", "such as 127.0.0.1:8081"),
            ("tidegate run -D x job", "KEY=VALUE"),
            ("tidegate verify exactly-once", "--kafka <KEY=VALUE>"),
            ("tidegate verify exactly-once --kafka a=1 --fault=", "a command"),
            ("tidegate verify exactly-once --kafka a=1 --seconds 0", "it must be at least 1"),
        ] {
            let error = Options::try_parse_from(line.split(' ')).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
