//! The command line of a job's program, behind `tidegate::main`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, parser::ValueSource};
use jiff::SignedDuration;

use crate::api::Job;
use crate::api::job::BuildJob;
use crate::clock::SystemClock;
use crate::cluster::{self, TaskManager};
use crate::exit;
use crate::link::Direct;
use crate::local::{self, Event, Mailbox, Run};
use crate::metrics::Metrics;
use crate::shell::terminal::say;
use tidegate_protocol::process::TEMPORARY;
use tidegate_protocol::{Error, ErrorKind, Result};

/// The flags that every job has.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Runtime")]
struct RuntimeArgs {
    /// Worker threads [default: the number of cores, at most --max-parallelism].
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = |text: &str| parse_number(text, 32_768))]
    parallelism: Option<u64>,
    /// Keeps reading as the input grows, instead of ending at its current end.
    #[arg(long)]
    follow: bool,
    /// Where snapshots are kept. The same command started again goes on from the newest one.
    #[arg(long, value_name = "DIR")]
    checkpoint_dir: Option<PathBuf>,
    /// How often a snapshot is taken and its output published: 500ms, 1s, 2m.
    #[arg(long, value_name = "TIME", default_value = "1s", allow_hyphen_values = true, value_parser = parse_duration)]
    checkpoint_interval: Duration,
    /// Complete snapshots that are kept.
    #[arg(long, value_name = "N", default_value_t = 3, allow_hyphen_values = true, value_parser = |text: &str| parse_number(text, 1_000_000))]
    retain: u64,
    /// Memory for keyed state, all workers together; what does not fit goes to disk: 64MB, 2GB.
    #[arg(long, value_name = "SIZE", default_value = "256MB", allow_hyphen_values = true, value_parser = parse_size)]
    memory: usize,
    /// The greatest parallelism the job can ever have; fixed by its first snapshot.
    #[arg(long, value_name = "N", default_value_t = 128, allow_hyphen_values = true, value_parser = |text: &str| parse_number(text, 32_768))]
    max_parallelism: u64,
    /// Serves metrics in Prometheus' text format at http://ADDR/metrics: 127.0.0.1:9399, localhost:9399.
    #[arg(long, value_name = "ADDR", allow_hyphen_values = true, value_parser = parse_address)]
    metrics: Option<String>,
    /// Writes the totals as JSON when the job has finished or was stopped; removes an older file at the start.
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Sends batches between workers as bytes, as between processes; for tests.
    #[arg(long, hide = true)]
    over_the_wire: bool,
    /// Prints what the job consists of as JSON (operators, types of state, sources with their partitions, sinks), and exits.
    #[arg(long)]
    plan: bool,
    /// Lists the points at which FAILPOINTS can make the process die, and exits.
    #[arg(long)]
    list_failpoints: bool,
}

/// A job's own flags, with those of the runtime.
#[derive(Parser)]
struct Cli<A: Args> {
    #[command(flatten)]
    job: A,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

/// Runs a job from the command line: the whole `main` function of a job's program.
///
/// `A` are the job's own flags, described with [`clap::Args`]; the runtime adds its own. `build` describes the dataflow;
/// it is called on every worker, and once before to check the job.
///
/// # Errors
/// An invalid flag, an address that cannot be bound or a file that cannot be written; returned from `main`, it is printed and makes the exit
/// code 1. An error that ends the job itself is not returned: it is printed and the process exits with code 1 at once,
/// because a worker may be stuck in user code.
pub fn main<A>(
    name: &'static str,
    build: impl Fn(&mut Job, &A) -> Result<()> + Send + Sync + 'static,
) -> Result<()>
where
    A: Args + Send + Sync + 'static,
{
    let own = A::augment_args(clap::Command::new(name));
    let about = own.get_about().cloned().unwrap_or_else(|| format!("The Tidegate job {name}").into());
    let command = Cli::<A>::command().name(name).about(about).long_about(None);
    // Not `args`, which panics at an argument that is not UTF-8: a path need not be.
    if std::env::args_os().any(|arg| arg == "--list-failpoints") {
        let points: String = tidegate_failpoint::POINTS.iter().map(|point| format!("{point}\n")).collect();
        let _ = std::io::stdout().write_all(points.as_bytes());
        return Ok(());
    }
    let matches = command.get_matches();
    let cli = Cli::<A>::from_arg_matches(&matches).map_err(|e| Error::job(e.to_string()))?;
    let (runtime, args) = (cli.runtime, cli.job);
    let run = runtime.to_run(name, arguments_to_keep::<A>(&matches));
    let build: BuildJob = Arc::new(move |job: &mut Job| build(job, &args));
    crate::panics::remember_panics();
    if runtime.plan {
        return print_plan(&run, &build, warnings(&matches));
    }
    match TaskManager::of_this_process()? {
        Some(taskmanager) => run_on_cluster(&run, build, &taskmanager),
        None => run_job(&runtime, &run, build),
    }
}

/// Runs the workers that a taskmanager has started this process for.
fn run_on_cluster(run: &Run, build: BuildJob, taskmanager: &TaskManager) -> ! {
    let started = tidegate_failpoint::from_environment().map_err(Error::job);
    let ended = started.and_then(|()| {
        crate::shell::logging::start(None)?;
        cluster::run(run, build, taskmanager, crate::shell::logging::log)
    });
    match ended {
        Ok(()) => exit::at_once(0),
        Err(error) => {
            say(format_args!("Error: {error}"));
            exit::at_once(if error.kind() == ErrorKind::Environment { TEMPORARY } else { 1 })
        }
    }
}

impl RuntimeArgs {
    fn to_run(&self, job: &str, arguments: BTreeMap<String, Vec<String>>) -> Run {
        let directory = self.checkpoint_dir.clone();
        Run {
            job: job.to_owned(),
            checkpoint_dir: directory.unwrap_or_else(|| PathBuf::from("checkpoints").join(job)),
            parallelism: self.parallelism.map(|n| n as usize),
            interval: Some(self.checkpoint_interval),
            retain: self.retain as usize,
            memory: self.memory,
            follow: self.follow,
            max_parallelism: self.max_parallelism as u16,
            over_the_wire: self.over_the_wire,
            arguments,
            clock: Arc::new(SystemClock),
            metrics: Arc::new(Metrics::default()),
            link: Arc::new(Direct),
        }
    }
}

fn run_job(runtime: &RuntimeArgs, run: &Run, build: BuildJob) -> Result<()> {
    if let Some(path) = &runtime.summary {
        prepare_summary(path)?;
    }
    tidegate_failpoint::from_environment().map_err(Error::job)?;
    let mailbox = Mailbox::new();
    stop_on_signals(mailbox.sender.clone())?;
    if let Some(address) = &runtime.metrics {
        crate::shell::metrics_server::serve(address, &run.job, run.metrics.clone())?;
    }
    let mut terminal = crate::shell::terminal::Terminal::new(run.metrics.clone());
    crate::shell::logging::start(terminal.bar())?;
    let result = local::run(run, build, mailbox, &mut terminal);
    terminal.close();
    let summary = match result {
        Ok(summary) => summary,
        // A worker may be stuck in user code: the process ends without it.
        Err(error) => {
            say(format_args!("Error: {error}"));
            exit::at_once(1)
        }
    };
    say(&summary);
    if let Some(path) = &runtime.summary {
        let text = serde_json::to_vec_pretty(&summary)?;
        std::fs::write(path, text).map_err(|e| no_summary(path, e))?;
    }
    Ok(())
}

fn print_plan(run: &Run, build: &BuildJob, warnings: Vec<String>) -> Result<()> {
    crate::shell::logging::start(None)?;
    let mut plan = local::plan(run, build)?;
    plan.settings.warnings = warnings;
    let mut text = serde_json::to_string_pretty(&plan)?;
    text.push('\n');
    // A reader that has closed the pipe needs no more.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// Checks before the job runs whether its totals can be written at the end. Leaves no file behind, not even one of an
/// earlier run: after this job has failed, that would be taken for its totals.
fn prepare_summary(path: &Path) -> Result<()> {
    // A pipe, say, may not be opened twice.
    let is_special = std::fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir());
    if is_special {
        return Ok(());
    }
    let opened = File::options().create(true).append(true).open(path);
    opened.map_err(|e| no_summary(path, e))?;
    std::fs::remove_file(path).map_err(|e| no_summary(path, e))
}

fn no_summary(path: &Path, error: std::io::Error) -> Error {
    Error::from(error).context(format!("--summary {} cannot be written", path.display()))
}

/// The first signal asks for a stop with a last snapshot, the second ends the process.
fn stop_on_signals(events: std::sync::mpsc::Sender<Event>) -> Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut asked = false;
        for signal in signals.forever() {
            if std::mem::replace(&mut asked, true) || events.send(Event::StopRequested).is_err() {
                exit::at_once(128 + signal)
            }
        }
    })?;
    Ok(())
}

/// The flags that say what the job does, as they were given, to notice what changes at a restart: its own, and --follow.
fn arguments_to_keep<A: Args>(matches: &ArgMatches) -> BTreeMap<String, Vec<String>> {
    let own = A::augment_args(clap::Command::new("job"));
    let ids = own.get_arguments().map(|arg| arg.get_id().as_str().to_owned());
    let ids = ids.chain(["follow".to_owned()]);
    let given = ids.filter(|id| matches.value_source(id).is_some_and(|s| s != ValueSource::DefaultValue));
    given
        .filter_map(|id| {
            let values = matches.try_get_raw(&id).ok()??;
            let values = values.map(|v| v.to_string_lossy().into_owned()).collect();
            Some((id, values))
        })
        .collect()
}

/// What the flags ask for and a cluster does not do.
fn warnings(matches: &ArgMatches) -> Vec<String> {
    let alone = [
        (
            "checkpoint_dir",
            "--checkpoint-dir",
            "its snapshots are in the checkpoint store; 'tidegate info' says where",
        ),
        (
            "metrics",
            "--metrics",
            "its taskmanagers serve its metrics, at the addresses of their own --metrics",
        ),
        ("summary", "--summary", "'tidegate info' shows the totals, with -o json as JSON"),
    ];
    let is_given =
        |id: &str| matches.value_source(id).is_some_and(|source| source != ValueSource::DefaultValue);
    let given = alone.iter().filter(|(id, ..)| is_given(id));
    given.map(|(_, flag, instead)| format!("{flag} has no effect on a job of a cluster: {instead}")).collect()
}

/// Refuses the next flag where a value is missing. Flags take values with a hyphen, so that the error for a negative number
/// says what is wrong with it.
fn check_is_no_flag(text: &str) -> Result<(), String> {
    let is_flag =
        text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c == '-' || c.is_alphabetic()));
    if is_flag { Err(format!("the value is missing; '{text}' is the next flag")) } else { Ok(()) }
}

/// A whole number from 1 on.
fn parse_number(text: &str, most: u64) -> Result<u64, String> {
    check_is_no_flag(text)?;
    let is_negative = text.strip_prefix('-').is_some_and(|digits| digits.parse::<f64>().is_ok());
    match text.parse::<u64>() {
        Ok(0) => Err("it must be at least 1".to_owned()),
        _ if is_negative => Err("it must be at least 1".to_owned()),
        Ok(number) if number <= most => Ok(number),
        Err(e) if *e.kind() != std::num::IntErrorKind::PosOverflow => {
            Err(format!("'{text}' is not a whole number"))
        }
        _ => Err(format!("it must be at most {most}")),
    }
}

/// An address to listen at: a host's name or its IP address, and a port.
fn parse_address(text: &str) -> Result<String, String> {
    check_is_no_flag(text)?;
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => Err("it must be a host and a port from 0 to 65535, such as 127.0.0.1:9399, localhost:9399 or [::1]:9399".to_owned()),
    }
}

/// A time such as `250ms`, `1s`, `1.5m`; a number without a unit is one of seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    check_is_no_flag(text)?;
    let is_number = text.parse::<f64>().is_ok();
    let with_unit = if is_number { format!("{text}s") } else { text.to_owned() };
    let duration: SignedDuration = with_unit.parse().map_err(|_| {
        format!(
            "'{text}' is not a time; it must be a number with the unit ms, s, m or h, such as 500ms, 1s or 2m, or a number of \
             seconds"
        )
    })?;
    if duration < SignedDuration::from_millis(1) {
        return Err("it must be at least 1ms".to_owned());
    }
    if duration > SignedDuration::from_hours(1_000_000) {
        return Err("it must be at most 1000000h".to_owned());
    }
    Ok(duration.unsigned_abs())
}

/// A size such as `64MB`, `2GB`, `512MiB`.
fn parse_size(text: &str) -> Result<usize, String> {
    check_is_no_flag(text)?;
    if text.starts_with('-') {
        return Err("it must be at least 1MB".to_owned());
    }
    let size: ByteSize = text.parse().map_err(|_| {
        format!("'{text}' is not a size; it must be a number with the unit KB, MB, GB, KiB, MiB or GiB, such as 256MB, or a number of bytes")
    })?;
    match size {
        size if size < ByteSize::mb(1) => Err("it must be at least 1MB".to_owned()),
        size if size < ByteSize::pb(1) => Ok(size.as_u64() as usize),
        _ => Err("it must be less than 1000000GB".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_as_people_write_them() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert!(parse_duration("3 weeks").is_err());
        assert!(parse_duration("-1s").is_err());
        assert_eq!(parse_duration("5"), Ok(Duration::from_secs(5)));
        assert!(parse_duration("0s").is_err());
        assert_eq!(parse_size("64MB"), Ok(64_000_000));
        assert_eq!(parse_size("2GiB"), Ok(2 << 30));
        assert_eq!(parse_size("1.5 gb"), Ok(1_500_000_000));
        assert!(parse_size("12").is_err());
        for text in ["", "MB", "5x", "1e9GB"] {
            assert!(parse_size(text).unwrap_err().contains("such as 256MB"), "{text}");
        }
        for text in ["", "s", "5x", "1e18s"] {
            assert!(parse_duration(text).unwrap_err().contains("such as 500ms"), "{text}");
        }
    }

    #[test]
    fn numbers_and_addresses_are_read_or_refused_with_what_is_possible() {
        assert_eq!(parse_number("7", 10), Ok(7));
        for text in ["0", "-1", "-1.5"] {
            assert_eq!(parse_number(text, 10).unwrap_err(), "it must be at least 1", "{text}");
        }
        for text in ["11", "99999999999999999999999"] {
            assert_eq!(parse_number(text, 10).unwrap_err(), "it must be at most 10", "{text}");
        }
        for text in ["1.5", "", "-", "many"] {
            assert_eq!(parse_number(text, 10).unwrap_err(), format!("'{text}' is not a whole number"));
        }
        for text in ["127.0.0.1:9399", "localhost:0", "[::1]:9399", "host.example:65535"] {
            assert_eq!(parse_address(text), Ok(text.to_owned()));
        }
        for text in ["9399", ":9399", "localhost", "localhost:", "localhost:65536", "http://localhost"] {
            assert!(parse_address(text).unwrap_err().contains("such as 127.0.0.1:9399"), "{text}");
        }
        for missing in [
            parse_number("--follow", 10).map(|_| ()),
            parse_address("--follow").map(|_| ()),
            parse_size("--follow").map(|_| ()),
            parse_duration("-h").map(|_| ()),
        ] {
            assert!(missing.unwrap_err().starts_with("the value is missing; '-"));
        }
    }

    #[test]
    fn a_number_out_of_range_is_refused_with_the_limit() {
        assert_eq!(parse_size("-5MB").unwrap_err(), "it must be at least 1MB");
        assert_eq!(parse_duration("-1s").unwrap_err(), "it must be at least 1ms");
        assert_eq!(parse_size("1KB").unwrap_err(), "it must be at least 1MB");
        for text in ["1000000GB", "1000000000000000", "99999999999999999999GB"] {
            assert_eq!(parse_size(text).unwrap_err(), "it must be less than 1000000GB", "{text}");
        }
        assert_eq!(parse_duration("0.5ms").unwrap_err(), "it must be at least 1ms");
        for text in ["2000000000h", "1000001h"] {
            assert_eq!(parse_duration(text).unwrap_err(), "it must be at most 1000000h", "{text}");
        }
        assert_eq!(parse_duration("1000000h"), Ok(Duration::from_secs(3_600_000_000)));
    }
}
