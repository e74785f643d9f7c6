//! What a job wants, found out by describing it once without running it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use tidegate_protocol::manifest::OperatorEntry;
use tidegate_protocol::{Manifest, Slot};

use crate::connector::Position;
use crate::dataflow::worker::BuildJob;
use crate::metrics::{Metrics, Step};
use crate::panics::catch;
use crate::process::{Parts, Process};
use crate::stream::Job;
use crate::stream::event_time::EVENT_TIME;
use crate::stream::job::{End, Listed, Published};
use crate::stream::outline::Outline;
use crate::worker::WorkerContext;
use tidegate_protocol::{Error, ErrorContext, Result};

/// The operators, sources and sinks of a job.
pub(crate) struct Plan {
    /// What has a place in the snapshot, by uid, without store ids.
    pub(crate) operators: BTreeMap<String, OperatorEntry>,
    pub(crate) sources: Vec<(String, Box<dyn Listed>)>,
    pub(crate) sinks: Vec<(String, Box<dyn Published>)>,
    pub(crate) steps: Vec<Arc<Step>>,
    /// The whole dataflow; every worker must describe the same.
    pub(crate) outline: Outline,
    /// What is possible, and most likely not meant.
    pub(crate) warnings: Vec<String>,
}

impl Plan {
    /// Describes the job on the calling thread, for its plan alone.
    pub(crate) fn of(build: &BuildJob, mut parts: Parts, checkpoint_dir: &Path) -> Result<Self> {
        // What is described for the plan counts nothing.
        parts.metrics = Arc::new(Metrics::default());
        let worker = Rc::new(WorkerContext::new(Slot(0), Arc::new(Process::new(parts))));
        let mut job = Job::new(worker);
        build(&mut job)?;
        job.check()?;
        let mut plan = Self {
            operators: BTreeMap::new(),
            sources: Vec::new(),
            sinks: Vec::new(),
            steps: job.steps(),
            outline: job.outline(),
            warnings: job.warnings(),
        };
        for declared in job.take_declared() {
            plan.add(declared)?;
        }
        plan.check_sinks()?;
        plan.check_is_apart_from(checkpoint_dir)?;
        Ok(plan)
    }

    fn add(&mut self, declared: crate::stream::job::Declared) -> Result<()> {
        let uid = format!("{}{}", declared.step.uid(), declared.suffix);
        let kind = declared.step.kind().to_owned();
        let uri = match declared.end {
            End::Inner => None,
            End::Source(source) => {
                let uri = catch(|| source.uri()).context(|| format!("source '{uid}'"))?;
                self.sources.push((uid.clone(), source));
                Some(uri)
            }
            End::Sink(sink) => {
                let uri = catch(|| sink.uri()).context(|| format!("sink '{uid}'"))?;
                self.sinks.push((uid.clone(), sink));
                Some(uri)
            }
        };
        self.operators.insert(uid, OperatorEntry { kind, store_id: 0, state: declared.state, uri });
        Ok(())
    }

    /// Two sinks into one place would overwrite each other's output.
    fn check_sinks(&self) -> Result<()> {
        let mut places = BTreeMap::new();
        for (uid, _) in &self.sinks {
            let place = &self.operators[uid].uri;
            if let Some(other) = places.insert(place, uid) {
                return Err(Error::job(format!(
                    "the sinks '{other}' and '{uid}' both write to {}; give each a place of its own",
                    place.as_deref().unwrap_or("the same place")
                )));
            }
        }
        for (uid, _) in &self.sources {
            let place = &self.operators[uid].uri;
            if let Some(sink) = places.get(place) {
                return Err(Error::job(format!(
                    "the sink '{sink}' writes to where the source '{uid}' reads, {}; give it a place of its own",
                    place.as_deref().unwrap_or("the same place")
                )));
            }
        }
        Ok(())
    }

    /// Refuses a sink that writes where snapshots are: a start and a collection remove what they do not know there.
    fn check_is_apart_from(&self, checkpoint_dir: &Path) -> Result<()> {
        let belongs_to_it = |path: &Path| {
            path == checkpoint_dir
                || ["files", "local"].iter().any(|name| path.starts_with(checkpoint_dir.join(name)))
        };
        for (uid, _) in &self.sinks {
            let place = self.operators[uid].uri.as_deref().unwrap_or_default();
            if belongs_to_it(Path::new(place)) {
                return Err(Error::job(format!(
                    "the sink '{uid}' writes to {place}, which belongs to the checkpoint directory {}; give the sink another \
                     directory, or the job another --checkpoint-dir",
                    checkpoint_dir.display()
                )));
            }
        }
        Ok(())
    }

    /// Refuses a snapshot that is not this job's.
    pub(crate) fn check_fits(&self, manifest: &Manifest, job: &str) -> Result<()> {
        if manifest.job != job {
            return Err(Error::job(format!(
                "the checkpoint directory holds snapshots of the job '{}', and this is '{job}'; give this job a \
                 directory of its own with --checkpoint-dir",
                manifest.job
            )));
        }
        manifest.operators.iter().try_for_each(|(uid, old)| self.check_operator(uid, old))?;
        self.check_numbered(manifest)
    }

    /// Steps without a name of their own are called by their number, and one more gives its number to another step: the
    /// watermarks of partitions would be taken for those of the wrong one.
    fn check_numbered(&self, manifest: &Manifest) -> Result<()> {
        let mut before = manifest.operators.iter().filter(|(uid, operator)| is_numbered(uid, operator));
        let Some((old, _)) = before.next() else { return Ok(()) };
        let mut now = self.operators.iter().filter(|(uid, operator)| is_numbered(uid, operator));
        let Some((new, _)) = now.find(|(uid, _)| !manifest.operators.contains_key(*uid)) else {
            return Ok(());
        };
        Err(Error::job(format!(
            "the snapshot does not fit the job: there is one step more without a name, '{new}', and numbers do not tell \
             which one is new; give the new one .named(\"..\"), and the others the uids that they had, \
             .uid(\"{old}\") and so on"
        )))
    }

    fn check_operator(&self, uid: &str, old: &OperatorEntry) -> Result<()> {
        let refuse = |what: String| {
            Err(Error::job(format!(
                "the snapshot does not fit the job: {what}; to start anew, give the job an empty --checkpoint-dir and empty \
                 output directories"
            )))
        };
        let Some(new) = self.operators.get(uid) else {
            return refuse(format!(
                "it holds a {} with the uid '{uid}', which the job does not have (if it was renamed, give it \
                 .uid(\"{uid}\"))",
                old.kind
            ));
        };
        if old.kind != new.kind {
            return refuse(format!("'{uid}' was a {} and is a {} now", old.kind, new.kind));
        }
        if let (Some(before), Some(now)) = (&old.state, &new.state)
            && before.fingerprint != now.fingerprint
        {
            return refuse(format!(
                "the state of '{uid}' was of type {} ({}) and is of type {} ({}) now",
                before.name, before.fingerprint, now.name, now.fingerprint
            ));
        }
        if old.uri != new.uri {
            let place = |o: &OperatorEntry| o.uri.clone().unwrap_or_default();
            let verb = if new.kind == "source" { "read from" } else { "wrote to" };
            return refuse(format!("'{uid}' {verb} {} and is given {} now", place(old), place(new)));
        }
        Ok(())
    }

    /// The prefix of every operator's keys in the store: those of the snapshot stay, new ones follow.
    pub(crate) fn store_ids(&self, restored: Option<&Manifest>) -> Result<BTreeMap<String, u16>> {
        let old = |uid: &String| restored.and_then(|m| m.operators.get(uid)).map(|o| o.store_id);
        let mut next = restored.iter().flat_map(|m| m.operators.values()).map(|o| o.store_id + 1).max();
        let mut ids = BTreeMap::new();
        for (uid, _) in self.operators.iter().filter(|(_, o)| o.state.is_some()) {
            let id = old(uid).unwrap_or_else(|| {
                let id = next.unwrap_or(1);
                next = Some(id + 1);
                id
            });
            ids.insert(uid.clone(), id);
        }
        Ok(ids)
    }

    /// The operators as a manifest lists them.
    pub(crate) fn manifest_operators(
        &self,
        store_ids: &BTreeMap<String, u16>,
    ) -> BTreeMap<String, OperatorEntry> {
        let mut operators = self.operators.clone();
        for (uid, operator) in &mut operators {
            operator.store_id = store_ids.get(uid).copied().unwrap_or(0);
        }
        operators
    }

    /// Assigns every source's partitions to the workers, those that are there and those that the snapshot knows.
    pub(crate) fn assign(
        &self,
        restored: Option<&Manifest>,
        workers: usize,
    ) -> Result<BTreeMap<String, Vec<Vec<String>>>> {
        let mut assignments = BTreeMap::new();
        for (uid, source) in &self.sources {
            let mut names: BTreeSet<String> = partitions(uid, &**source)?.into_iter().collect();
            names.extend(restored_partitions(restored, uid).map(|(name, _)| name.clone()));
            let mut workers_partitions = vec![Vec::new(); workers];
            for (i, name) in names.into_iter().enumerate() {
                workers_partitions[i % workers].push(name);
            }
            assignments.insert(uid.clone(), workers_partitions);
        }
        Ok(assignments)
    }

    /// Partitions that hold more than the snapshot has read, with its position in them; None if it does not know them.
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
                return format!("{done}; whether its input has grown since cannot be told: {error}");
            }
        };
        let grown: Vec<String> = unread.map(|(name, at)| format!("{name} ({})", how(at))).collect();
        if grown.is_empty() {
            return done;
        }
        format!(
            "{done}. But its input has grown since: {}; to read that too, start the job with an empty \
             --checkpoint-dir and empty output directories, or with --follow from the beginning",
            grown.join(", ")
        )
    }
}

/// The partitions that a source has now; an error or a panic of its says whose it is.
pub(crate) fn partitions(uid: &str, source: &dyn Listed) -> Result<Vec<String>> {
    catch(|| source.partitions()).context(|| format!("source '{uid}', list of partitions"))
}

/// True for a step that makes watermarks and was given no name.
fn is_numbered(uid: &str, operator: &OperatorEntry) -> bool {
    let number = uid.strip_prefix(EVENT_TIME).and_then(|rest| rest.strip_prefix('-'));
    operator.kind == EVENT_TIME && number.is_some_and(|number| number.parse::<usize>().is_ok())
}

/// The partitions of a source in a snapshot.
fn restored_partitions<'a>(
    restored: Option<&'a Manifest>,
    uid: &'a str,
) -> impl Iterator<Item = (&'a String, &'a tidegate_protocol::manifest::PartitionSnapshot)> {
    let slots = restored.into_iter().flat_map(|m| m.slots.values());
    slots.filter_map(move |slot| slot.operators.get(uid)).flat_map(|part| part.partitions.iter())
}

/// The arguments of the job that differ from those of the snapshot. They count from the restart on.
pub(crate) fn changed_arguments(
    manifest: &Manifest,
    arguments: &BTreeMap<String, Vec<String>>,
) -> Vec<String> {
    let show = |values: Option<&Vec<String>>| values.map_or("not given".to_owned(), |v| v.join(" "));
    let names: std::collections::BTreeSet<_> = manifest.arguments.keys().chain(arguments.keys()).collect();
    let changed = names.into_iter().filter(|name| manifest.arguments.get(*name) != arguments.get(*name));
    changed
        .map(|name| {
            format!(
                "--{} was {} and is {}; the new value counts from here on",
                name.replace('_', "-"),
                show(manifest.arguments.get(name)),
                show(arguments.get(name))
            )
        })
        .collect()
}
