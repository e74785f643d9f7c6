//! What happens to the targets of sinks before an attempt starts: the output of the restored snapshot is published, and what
//! older attempts have left is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use tidegate_connector_api::{Owner, SinkTarget};
use tidegate_failpoint::point;
use tidegate_protocol::{Epoch, Error, ErrorContext, JobId, Manifest, Result, Slot};

use super::job_sink::{JobSink, Publication};
use super::staged_files::StagedFiles;
use crate::panics::catch;

/// How many publishers work at the same time before the start.
const AT_ONCE: usize = 64;
/// After this time a publisher that delays the start is named in the log, and again whenever the time has doubled.
const PATIENCE: Duration = Duration::from_secs(5);

/// The targets of all sinks, opened for a run of the job.
pub(crate) struct Targets(#[allow(dead_code, reason = "a target may hold a lock")] Vec<Box<dyn SinkTarget>>);

impl Targets {
    /// Publishes the output that the restored snapshot holds, and removes what older attempts have left. Output up to the
    /// epoch `published` is not published again, because its readers may have removed it. `last` is the last epoch that the job
    /// knows of, None if the user has chosen the snapshot. `note` is called with messages for the user.
    pub(crate) fn recover(
        (job, owner): (JobId, Owner),
        sinks: &[JobSink],
        restored: Option<&Arc<Manifest>>,
        (published, last): (Epoch, Option<Epoch>),
        files: &StagedFiles,
        note: &mut dyn FnMut(&str),
    ) -> Result<Self> {
        let mut targets = sinks.iter().map(|sink| sink.target(owner)).collect::<Result<Vec<_>>>()?;
        if let Some(manifest) = restored.filter(|m| m.epoch > published) {
            publish_restored(job, sinks, manifest, files, note)?;
        }
        for (sink, target) in sinks.iter().zip(&mut targets) {
            let uid = sink.uid();
            let taken_back = catch(|| target.recover(restored.map(|m| m.epoch), last));
            let taken_back = taken_back.context(|| format!("sink '{uid}'"))?;
            if !taken_back.is_empty() {
                note(&format!("sink '{uid}' has taken back {}", taken_back.join(", ")));
            }
        }
        Ok(Self(targets))
    }
}

/// Publishes all that a restored snapshot holds, many publishers at the same time.
fn publish_restored(
    job: JobId,
    sinks: &[JobSink],
    manifest: &Arc<Manifest>,
    files: &StagedFiles,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    point("publish.before");
    let known: BTreeSet<String> = sinks.iter().map(JobSink::uid).collect();
    if let Some((uid, _)) = manifest.staged().find(|(uid, _)| !known.contains(*uid)) {
        return Err(Error::internal(format!("the snapshot has output of the unknown sink '{uid}'")));
    }
    let slots: BTreeSet<Slot> =
        manifest.slots.keys().copied().chain(manifest.staged().map(|(_, s)| s.slot)).collect();
    let all: Vec<(&JobSink, Slot)> =
        sinks.iter().flat_map(|sink| slots.iter().map(move |slot| (sink, *slot))).collect();
    let staged = manifest.staged().map(|(uid, staged)| (uid.to_owned(), staged.clone())).collect();
    let publication = Publication { epoch: manifest.epoch, staged: Arc::new(staged), is_restored: true };
    all.chunks(AT_ONCE).try_for_each(|some| publish_at_once(job, some, &publication, files, note))?;
    point("publish.after");
    Ok(())
}

fn publish_at_once(
    job: JobId,
    publishers: &[(&JobSink, Slot)],
    publication: &Publication,
    files: &StagedFiles,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    let publish = |sink: &JobSink, slot: Slot| {
        let mut publisher = sink.publisher(job, slot)?;
        sink.publish(&mut *publisher, slot, publication, files)
    };
    let publish = &publish;
    std::thread::scope(|scope| {
        let (report, reports) = channel();
        let mut waiting = BTreeMap::new();
        for (number, &(sink, slot)) in publishers.iter().enumerate() {
            let report = report.clone();
            // The waiting thread receives until it has all reports.
            let run = move || drop(report.send((number, catch(|| publish(sink, slot)))));
            let thread = std::thread::Builder::new().name(format!("publisher-{slot}"));
            let started = thread.spawn_scoped(scope, run);
            started.map_err(|e| Error::environment("cannot start the thread of a publisher").caused_by(e))?;
            waiting.insert(number, format!("sink '{}', slot {slot}", sink.uid()));
        }
        let (began, mut patience) = (Instant::now(), PATIENCE);
        let mut failed = None;
        while let Some(first) = waiting.values().next() {
            match reports.recv_timeout(patience.saturating_sub(began.elapsed())) {
                Ok((number, result)) => {
                    waiting.remove(&number);
                    // The error is returned only when all publishers have reported, and one that hangs may take long.
                    if let (Err(error), false) = (&result, waiting.is_empty()) {
                        note(&error.to_string());
                    }
                    failed = failed.or(result.err());
                }
                Err(_) => {
                    let (epoch, seconds) = (publication.epoch, began.elapsed().as_secs());
                    note(&format!(
                        "publishing epoch {epoch} before the start has taken {seconds} s so far: {first}"
                    ));
                    patience *= 2;
                }
            }
        }
        failed.map_or(Ok(()), Err)
    })
}
