//! `tidegate verify exactly-once`: what a user runs against a cluster and brokers of the own, to accept an installation.
//!
//! [`topics`] makes two topics. [`generator`] writes numbered rows to the first one, a job of the cluster counts them by key and writes
//! them to the second one, and [`reader`] and [`stable_offsets`] watch when readers see that. Meanwhile [`fault`] makes the faults that the user
//! allows. When all rows are out, or are not waited for any more, the job is ended, both topics are read, and [`audit`] compares them:
//! it knows nothing of how the job has run. [`report`] is the answer.
//!
//! Topics of a verification that has failed are kept, for whoever looks into it; all others are deleted, after Ctrl-C too.
//!
//! Not here: the job, which is the program `verify-exactly-once` of the crate `tidegate-jobs`.

mod audit;
mod background;
mod fault;
mod generator;
mod interrupt;
mod reader;
mod report;
mod stable_offsets;
mod topics;
mod verification;

use std::path::PathBuf;
use std::time::Duration;

use tidegate_connectors::Kafka;
use tidegate_protocol::{Error, ErrorContext, JobId, Result};

pub(crate) use self::fault::Fault;
use self::interrupt::{INTERRUPTED, Interrupt};
use self::report::Report;
use self::topics::Topics;
use self::verification::Verification;
use super::Session;
use super::run::{submitted, time_for};
use super::stop::canceled;
use crate::options::{ExactlyOnceOptions, RunOptions};
use crate::output::{answer, answer_json, say};
use crate::parse::Parallelism;

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(10);
/// The job's program.
const PROGRAM: &str = "verify-exactly-once";

/// Verifies that every row counts exactly once. The exit code says whether it does.
pub(crate) fn exactly_once(session: Session, options: &ExactlyOnceOptions) -> Result<u8> {
    let program = program(options)?;
    let session = session.with_timeout(time_for(&program));
    let interrupt = Interrupt::watch()?;
    let seed = options.seed.map_or_else(random, Ok)?;
    let kafka = Kafka::new(options.kafka.kafka.clone());
    let topics = Topics::create(kafka, options.partitions as usize, options.replication_factor)?;
    let job =
        submitted(&session, &run_options(program, options, &topics)).inspect_err(|_| topics.delete())?;
    let session = session.with_timeout(REQUEST);
    say(format_args!("Job {job} counts rows of {} into {}; seed {seed}.", topics.rows, topics.counted));
    let verification =
        Verification { session: &session, options, topics: &topics, job, interrupt: &interrupt, seed };
    let verified = verification.run();
    if !matches!(verified, Ok(Some(_))) {
        end(&session, job);
    }
    match verified {
        Ok(Some(report)) => conclude(&session, &topics, report),
        Ok(None) => {
            remove(&topics, options.keep);
            say("The verification was interrupted: nothing is known.");
            Ok(INTERRUPTED)
        }
        Err(error) => {
            say(format_args!("The topics {} and {} are kept.", topics.rows, topics.counted));
            Err(error)
        }
    }
}

fn conclude(session: &Session, topics: &Topics, report: Report) -> Result<u8> {
    if !report.topics_kept {
        topics.delete();
    }
    if session.is_json() {
        answer_json(&report)?;
    } else {
        answer(&report)?;
    }
    Ok(u8::from(!report.exactly_once))
}

fn remove(topics: &Topics, keep: bool) {
    if keep {
        say(format_args!("The topics {} and {} are kept.", topics.rows, topics.counted));
    } else {
        topics.delete();
    }
}

/// Ends the job of a verification that has come to no result. An error of that is shown beside the cause.
fn end(session: &Session, job: JobId) {
    let is_over = session.details(job).is_ok_and(|details| details.summary.state.is_over());
    if is_over {
        return;
    }
    if let Err(error) = canceled(session, job) {
        say(format_args!("Warning: the job may run on, 'tidegate cancel {job}' ends it: {error}."));
    }
}

/// The job's program, which is installed beside this one.
fn program(options: &ExactlyOnceOptions) -> Result<PathBuf> {
    if let Some(path) = &options.job {
        return Ok(path.clone());
    }
    let this = std::env::current_exe().context(|| "cannot find the directory of this program")?;
    let program = this.with_file_name(PROGRAM);
    if program.is_file() {
        return Ok(program);
    }
    Err(Error::job(format!(
        "the job of this verification, {}, is missing: put the program {PROGRAM} there, or give --job FILE",
        program.display()
    )))
}

fn run_options(executable: PathBuf, options: &ExactlyOnceOptions, topics: &Topics) -> RunOptions {
    let mut arguments = ["--input", &topics.rows, "--output", &topics.counted].map(str::to_owned).to_vec();
    for setting in &options.kafka.kafka {
        arguments.extend(["--kafka".to_owned(), setting.to_string()]);
    }
    RunOptions {
        detached: true,
        parallelism: options.parallelism.map(Parallelism::Of),
        snapshot: None,
        allow_non_restored_state: false,
        settings: options.settings.clone(),
        name: None,
        executable,
        arguments,
    }
}

/// A seed that can be said again.
fn random() -> Result<u64> {
    let nonce = tidegate_access::new_nonce();
    let digits = nonce.get(..8).unwrap_or_default();
    u64::from_str_radix(digits, 16).map_err(|error| Error::internal(error.to_string()))
}
