//! `tidegate run`: uploads an executable, submits it as a job, and follows the job until it is over.

use std::path::Path;
use std::process;
use std::time::Duration;

use indicatif::ProgressBar;
use sha2::{Digest, Sha256};
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;
use tidegate_protocol::{Error, ErrorContext, ErrorKind, JobId, Result};
use tidegate_rest::executables::{Executable, RunReply, RunRequest};
use tidegate_rest::jobs::{JobDetails, JobState};

use super::info::totals;
use super::watch::{Watch, show_job};
use super::{Session, absolute_path};
use crate::options::RunOptions;
use crate::output::{answer, answer_json, bytes, say};
use crate::parse::Parallelism;
use crate::progress::Progress;

/// How long the look at the job may take: a taskmanager fetches the executable and runs it.
const TIMEOUT: Duration = Duration::from_secs(300);
/// The jobmanager takes an upload that has so many bytes a second.
const UPLOAD_BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// The exit code if the job was cancelled.
const CANCELED: u8 = 2;

/// The exit code after Ctrl-C, as shells have it.
const INTERRUPTED: i32 = 128 + SIGINT;

/// Submits a job. The exit code says how it has ended, if that is waited for.
pub(crate) fn run(session: Session, options: &RunOptions) -> Result<u8> {
    let session = &session.with_timeout(time_for(&options.executable));
    let job = submitted(session, options)?;
    if session.is_json() {
        answer_json(&serde_json::json!({"id": job}))?;
    } else {
        answer(format_args!("Job has been submitted with JobID {job}\n"))?;
    }
    if options.detached { Ok(0) } else { follow(session, job) }
}

/// Uploads the executable and submits the job; warnings go to standard error.
pub(super) fn submitted(session: &Session, options: &RunOptions) -> Result<JobId> {
    let job = new_id()?;
    let request = request(job, options)?;
    let progress = Progress::new();
    let executable = upload(session, &options.executable, &progress)?;
    progress.hint("the cluster looks at the job");
    let warnings = submit(session, &executable, &request)?;
    drop(progress);
    warnings.iter().for_each(|warning| say(format_args!("Warning: {warning}.")));
    Ok(job)
}

/// How long a request about an executable may take, its upload included.
pub(super) fn time_for(executable: &Path) -> Duration {
    // A file that is not there is reported when it is read.
    let bytes = std::fs::metadata(executable).map_or(0, |metadata| metadata.len());
    TIMEOUT + Duration::from_secs(bytes / UPLOAD_BYTES_PER_SECOND_MIN)
}

/// 16 random bytes.
fn new_id() -> Result<JobId> {
    tidegate_access::new_nonce().parse().map_err(Error::internal)
}

fn request(jobid: JobId, options: &RunOptions) -> Result<RunRequest> {
    Ok(RunRequest {
        jobid,
        executable: Some(called(&options.executable)),
        directory: Some(absolute_path(".")?),
        arguments: options.arguments.clone(),
        parallelism: match options.parallelism {
            Some(Parallelism::Of(parallelism)) => Some(parallelism),
            Some(Parallelism::Auto) | None => None,
        },
        auto_parallelism: options.parallelism == Some(Parallelism::Auto),
        snapshot: options.snapshot.as_deref().map(absolute_path).transpose()?,
        allow_non_restored_state: options.allow_non_restored_state,
        settings: options.settings.iter().cloned().collect(),
        name: options.name.clone(),
    })
}

/// What an executable is called in messages.
pub(super) fn called(executable: &Path) -> String {
    executable.file_name().unwrap_or(executable.as_os_str()).to_string_lossy().into_owned()
}

pub(super) fn upload(session: &Session, path: &Path, progress: &Progress) -> Result<Executable> {
    let content = std::fs::read(path)
        .context(|| format!("the executable {} cannot be read{}", path.display(), in_path(path)))?;
    progress.hint(&format!("uploading {}, {}", path.display(), bytes(content.len() as u64)));
    let digest: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    session.client.upload(&format!("/v1/executables?sha256={digest}"), &content)
}

/// Where a program is that a shell would find, if a name without a directory does not lead to a file.
fn in_path(name: &Path) -> String {
    let directories = std::env::var_os("PATH").filter(|_| name.components().count() == 1 && !name.exists());
    let places = directories.iter().flat_map(std::env::split_paths).map(|directory| directory.join(name));
    let found = places.into_iter().find(|place| place.is_file());
    found.map_or_else(String::new, |place| {
        format!(" (PATH is not searched; did you mean {}?)", place.display())
    })
}

/// The client has chosen the job's id: if the answer is lost, the job may be there nevertheless.
fn submit(session: &Session, executable: &Executable, request: &RunRequest) -> Result<Vec<String>> {
    let target = format!("/v1/executables/{}/run", executable.id);
    match session.client.post::<_, RunReply>(&target, request) {
        Ok(reply) => Ok(reply.warnings),
        Err(error) if error.kind() == ErrorKind::Environment => {
            session.details(request.jobid).map(|_| Vec::new()).map_err(|_| error)
        }
        Err(error) => Err(error),
    }
}

/// Waits until the job is over. Ctrl-C ends the waiting only.
fn follow(session: &Session, job: JobId) -> Result<u8> {
    let mut watch = Watch::new();
    leave_on_interrupt(job, watch.progress.bar())?;
    let details = watch.until(|progress| {
        let details = session.details(job)?;
        let is_over = details.summary.state.is_over();
        if !is_over {
            show_job(progress, &details);
        }
        Ok(is_over.then_some(details))
    })?;
    drop(watch);
    outcome(&details)
}

fn outcome(job: &JobDetails) -> Result<u8> {
    let (name, id) = (&job.summary.name, job.summary.jid);
    match job.summary.state {
        JobState::Failed => {
            let cause = job.failure.as_ref().map_or("the cause is not known", |failure| &failure.cause);
            Err(Error::job(format!(
                "the job {name} has failed: {cause}\n'tidegate logs {id}' prints its log"
            )))
        }
        JobState::Canceled => {
            say(format_args!("Job {name} was cancelled."));
            Ok(CANCELED)
        }
        _ => {
            say(format_args!("Job {name} has finished."));
            totals(&job.totals).for_each(|line| say(format_args!("  {line}")));
            Ok(0)
        }
    }
}

fn leave_on_interrupt(job: JobId, bar: Option<ProgressBar>) -> Result<()> {
    let mut signals = Signals::new([SIGINT])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if signals.forever().next().is_none() {
            return;
        }
        if let Some(bar) = &bar {
            bar.finish_and_clear();
        }
        say(format_args!(
            "The job goes on without this command. 'tidegate info {job}' shows it, 'tidegate stop {job}' stops it after a \
             last checkpoint, 'tidegate cancel {job}' ends it at once."
        ));
        process::exit(INTERRUPTED);
    })?;
    Ok(())
}
