//! What a job consists of, found by describing it once without running it: its plan and, because a plan cannot hold them,
//! the sources and sinks themselves.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use tidegate_connector_api::{Position, PositionCommitter};
use tidegate_control::rules::{check_places, restored_partitions};
use tidegate_protocol::manifest::OperatorEntry;
use tidegate_protocol::plan::PLAN_VERSION;
use tidegate_protocol::{Error, ErrorContext, Manifest, Plan, Result, SourcePlan};

use crate::api::Job;
use crate::api::job::{BuildJob, Declared, End, Listed};
use crate::api::outline::Outline;
use crate::checkpoint::job_sink::JobSink;
use crate::dataflow::process::Process;
use crate::dataflow::worker_context::WorkerContext;
use crate::panics::{catch, catch_in_build};
use crate::step::Step;

/// A job as it was described.
pub(crate) struct Description {
    /// The part of the description that other programs can read. The partitions of sources are not listed yet; see
    /// [`Description::list_partitions`].
    pub(crate) plan: Plan,
    pub(crate) sources: Vec<(String, Arc<dyn Listed>)>,
    pub(crate) sinks: Vec<JobSink>,
    pub(crate) steps: Vec<Arc<Step>>,
    /// The whole dataflow; every worker must describe the same.
    pub(crate) outline: Outline,
    /// Warnings about what is valid, but probably unintended.
    pub(crate) warnings: Vec<String>,
}

impl Description {
    /// Describes the job `name`, started with these arguments, on the calling thread, as a worker of a process that never
    /// runs.
    pub(crate) fn of(
        name: &str,
        arguments: &BTreeMap<String, Vec<String>>,
        build: &BuildJob,
        process: Process,
    ) -> Result<Self> {
        let max_parallelism = process.setup.settings.key_groups.count;
        let worker = Rc::new(WorkerContext::new(process.workers.first, Arc::new(process)));
        let mut job = Job::new(worker);
        catch_in_build(|| build(&mut job))?;
        job.check()?;
        let outline = job.outline();
        let plan = Plan {
            plan_version: PLAN_VERSION,
            job: name.to_owned(),
            max_parallelism,
            arguments: arguments.clone(),
            dataflow: outline.parts().to_vec(),
            ..Plan::default()
        };
        let (steps, warnings) = (job.steps(), job.warnings());
        let mut description = Self { plan, sources: Vec::new(), sinks: Vec::new(), steps, outline, warnings };
        job.take_declared().into_iter().try_for_each(|declared| description.add(declared))?;
        check_places(&description.plan)?;
        Ok(description)
    }

    fn add(&mut self, declared: Declared) -> Result<()> {
        let uid = format!("{}{}", declared.step.uid(), declared.suffix);
        let kind = declared.step.kind().name().to_owned();
        let uri = match declared.end {
            End::Inner => None,
            End::Source(source) => {
                let uri = catch(|| source.uri()).context(|| format!("source '{uid}'"))?;
                let plan = SourcePlan { bounded: source.bounded(), partitions: Vec::new() };
                self.plan.sources.insert(uid.clone(), plan);
                self.sources.push((uid.clone(), source));
                Some(uri)
            }
            End::Sink(sink) => {
                let uri = catch(|| sink.uri()).context(|| format!("sink '{uid}'"))?;
                self.sinks.push(JobSink { step: declared.step, sink });
                Some(uri)
            }
        };
        let operator = OperatorEntry { kind, store_id: 0, state: declared.state, uri };
        self.plan.operators.insert(uid, operator);
        Ok(())
    }

    /// Fills in the partitions that every source has now.
    pub(crate) fn list_partitions(&mut self) -> Result<()> {
        for (uid, source) in &self.sources {
            let partitions = partitions(uid, &**source)?;
            if let Some(plan) = self.plan.sources.get_mut(uid) {
                plan.partitions = partitions;
            }
        }
        Ok(())
    }

    /// What commits how far sources are read, of those that do so, by their uids.
    pub(crate) fn committers(&self) -> Result<Vec<(String, Box<dyn PositionCommitter>)>> {
        let mut committers = Vec::new();
        for (uid, source) in &self.sources {
            let made = catch(|| source.committer()).context(|| format!("source '{uid}'"))?;
            committers.extend(made.map(|committer| (uid.clone(), committer)));
        }
        Ok(committers)
    }

    /// Refuses a source that reads, or a sink that writes, where snapshots are: a start and a collection remove files there.
    pub(crate) fn check_is_apart_from(&self, checkpoint_dir: &Path) -> Result<()> {
        let belongs_to_it = |path: &Path| {
            path == checkpoint_dir
                || ["files", "staged", "local"].iter().any(|name| path.starts_with(checkpoint_dir.join(name)))
        };
        for (uid, operator) in &self.plan.operators {
            let Some(place) = &operator.uri else { continue };
            if belongs_to_it(Path::new(place)) {
                let does = if self.plan.sources.contains_key(uid) { "reads from" } else { "writes to" };
                return Err(Error::job(format!(
                    "the {} '{uid}' {does} {place}, which belongs to the checkpoint directory {}; give it another directory, \
                     or the job another --checkpoint-dir",
                    operator.kind,
                    checkpoint_dir.display()
                )));
            }
        }
        Ok(())
    }

    /// Partitions that hold more than the snapshot has read, each with its position; None if it is not in the snapshot.
    pub(crate) fn unread(&self, manifest: &Manifest) -> Result<Vec<(String, Option<Position>)>> {
        let mut unread = Vec::new();
        for (uid, source) in &self.sources {
            let known: BTreeMap<_, _> = restored_partitions(Some(manifest), uid).collect();
            for name in partitions(uid, &**source)? {
                let Some(position) = known.get(&name).map(|p| &p.position) else {
                    unread.push((name, None));
                    continue;
                };
                let more = catch(|| source.has_more(&name, position));
                if more.context(|| format!("source '{uid}', partition '{name}'"))? {
                    unread.push((name, Some(position.clone())));
                }
            }
        }
        Ok(unread)
    }

    /// What to say when a finished job is started again.
    pub(crate) fn describe_finished(&self, manifest: &Manifest) -> String {
        let how = |position: Option<_>| if position.is_some() { "longer" } else { "new" };
        let done = format!(
            "the job has finished already, at epoch {} of attempt {}: nothing to do",
            manifest.epoch, manifest.attempt
        );
        let unread = match self.unread(manifest) {
            Ok(unread) => unread.into_iter(),
            // An input that was read to its end may have been cleared away.
            Err(error) => {
                return format!("{done}; whether its input has grown since is not known: {error}");
            }
        };
        let grown: Vec<String> = unread.map(|(name, at)| format!("{name} ({})", how(at))).collect();
        if grown.is_empty() {
            return done;
        }
        format!(
            "{done}. But its input has grown since: {}; to read that too, start the job with an empty \
             --checkpoint-dir and empty output directories; a job that is to go on as its input grows needs --follow from its \
             very first start on",
            grown.join(", ")
        )
    }
}

/// The partitions that a source has now; the error for a failure or a panic names the source.
pub(crate) fn partitions(uid: &str, source: &dyn Listed) -> Result<Vec<String>> {
    catch(|| source.partitions()).context(|| format!("source '{uid}', list of partitions"))
}
