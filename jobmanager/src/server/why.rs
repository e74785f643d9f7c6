//! What holds a job back: all processes of its attempt are asked, and what follows from their answers is found here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Given;
use tidegate_control::cluster::{Brain, JobView, ProcessView};
use tidegate_protocol::taskmanager::ProcessId;
use tidegate_protocol::why::{Doing, PartitionState, ProcessWhy};
use tidegate_protocol::{Slot, TaskManagerId};
use tidegate_rest::jobs::{JobState, JobSummary};
use tidegate_rest::why::{
    AwaitedWhy, ChainWhy, CheckpointWhy, DoingWhy, Holder, KeyedWhy, OperatorWhy, PartitionWhy, Place,
    SilentProcess, WatermarkWhy, Why,
};

use super::State;
use super::answer::Answered;
use super::extract::{Json, Path};
use super::jobs::{OfJob, look, summary};
use crate::driver::wall_ms;

/// How long processes may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says what holds event time or the checkpoint of a job back.
#[utoipa::path(
    get,
    path = "/why",
    params(OfJob),
    responses((status = 200, description = "What holds the job back", body = Why))
)]
pub(super) async fn why(Given(state): Given<Arc<State>>, Path(of): Path<OfJob>) -> Answered<Why> {
    let (view, summary) = look(&state, &of, |view, facts| (view.clone(), summary(view, facts))).await?;
    let all = state.driver.look(Brain::taskmanagers).await?;
    let hosts = all.into_iter().map(|t| (t.id, t.address)).collect();
    let mut cluster = Seen { view, summary, hosts, answers: BTreeMap::new() };
    if !cluster.runs() {
        return Ok(Json(cluster.explain(wall_ms())));
    }
    let asked: Vec<_> = cluster
        .view
        .processes
        .iter()
        .filter_map(|process| {
            let (job, attempt, first) = (cluster.view.job, cluster.view.attempt, *process.slots.first()?);
            let id = ProcessId { job, attempt, first };
            Some((first, state.driver.why(process.taskmanager.clone(), id)))
        })
        .collect();
    let until = tokio::time::Instant::now() + PATIENCE;
    for (first, told) in asked {
        if let Ok(Ok(Ok(why))) = tokio::time::timeout_at(until, told).await {
            cluster.answers.insert(first, why);
        }
    }
    // A checkpoint may have ended meanwhile: what it waited for is not what it waits for now.
    cluster.view = look(&state, &of, |view, _| view.clone()).await?;
    Ok(Json(cluster.explain(wall_ms())))
}

/// A job, and what its processes have answered.
struct Seen {
    view: JobView,
    summary: JobSummary,
    /// The addresses of taskmanagers.
    hosts: BTreeMap<TaskManagerId, String>,
    /// By the first slot of the process.
    answers: BTreeMap<Slot, ProcessWhy>,
}

impl Seen {
    fn runs(&self) -> bool {
        matches!(self.summary.state, JobState::Running | JobState::Stopping)
    }

    fn explain(&self, now_ms: u64) -> Why {
        let runs = self.runs();
        let JobSummary { jid, name, state, attempt, .. } = self.summary.clone();
        let checkpoint = if runs { self.checkpoint() } else { None };
        let partitions = self.partitions();
        let silent = if runs { self.silent() } else { Vec::new() };
        let watermark = self.watermark(&partitions, !silent.is_empty());
        let operators = self.operators(&partitions, checkpoint.as_ref());
        let waits_for = self.view.waits_for.clone().filter(|_| !runs);
        Why {
            jid,
            name,
            state,
            attempt,
            timestamp: now_ms,
            waits_for,
            silent,
            watermark,
            checkpoint,
            operators,
            partitions: partitions.into_iter().map(|(_, partition)| partition).collect(),
            awaited: self.awaited(),
            keyed: self.keyed(),
        }
    }

    /// What processes wait for, each once, with what has been waited for longest first.
    fn awaited(&self) -> Vec<AwaitedWhy> {
        let mut all: Vec<AwaitedWhy> = Vec::new();
        for (first, why) in &self.answers {
            let process = self.view.processes.iter().find(|process| process.slots.first() == Some(first));
            let workers = process.iter().flat_map(|process| process.slots.iter().map(|slot| slot.0));
            for it in &why.awaited {
                let known = all.iter_mut().find(|known| known.what == it.what);
                match known {
                    Some(known) => {
                        known.duration = known.duration.max(it.for_ms);
                        known.workers.extend(workers.clone());
                    }
                    None => all.push(AwaitedWhy {
                        what: it.what.clone(),
                        duration: it.for_ms,
                        workers: workers.clone().collect(),
                    }),
                }
            }
        }
        all.iter_mut().for_each(|it| it.workers.dedup());
        all.sort_by_key(|it| std::cmp::Reverse(it.duration));
        all
    }

    fn keyed(&self) -> Vec<KeyedWhy> {
        let all = self.answers.values().flat_map(|why| &why.keyed).map(|it| KeyedWhy {
            operator: it.operator.clone(),
            place: self.place(it.worker),
            records: it.records,
            key_groups: it.key_groups,
            hottest_key_group: it.hottest,
        });
        let mut all: Vec<_> = all.collect();
        all.sort_by(|a, b| (&a.operator, a.place.worker).cmp(&(&b.operator, b.place.worker)));
        all
    }

    fn host(&self, taskmanager: &TaskManagerId) -> String {
        self.hosts.get(taskmanager).cloned().unwrap_or_default()
    }

    fn place(&self, worker: Slot) -> Place {
        let process = self.view.processes.iter().find(|process| process.slots.contains(&worker));
        let taskmanager = process.map(|process| process.taskmanager.clone());
        let host = taskmanager.as_ref().map(|id| self.host(id)).unwrap_or_default();
        Place { worker: worker.0, taskmanager: taskmanager.map(|id| id.0).unwrap_or_default(), host }
    }

    fn silent(&self) -> Vec<SilentProcess> {
        let has_answered = |process: &&ProcessView| {
            process.slots.first().is_some_and(|first| self.answers.contains_key(first))
        };
        let silent = self.view.processes.iter().filter(|process| !has_answered(process));
        silent
            .map(|process| SilentProcess {
                taskmanager: process.taskmanager.to_string(),
                host: self.host(&process.taskmanager),
                pid: process.pid,
                slots: process.slots.iter().map(|slot| slot.0).collect(),
            })
            .collect()
    }

    /// All partitions, each with the operator that makes its watermark.
    fn partitions(&self) -> Vec<(Option<String>, PartitionWhy)> {
        let all = self.answers.values().flat_map(|why| &why.partitions);
        all.map(|it| {
            let partition = PartitionWhy {
                source: it.source.clone(),
                partition: it.partition.clone(),
                place: self.place(it.worker),
                watermark: it.watermark_ms,
                state: it.state,
                quiet_since: it.quiet_since_ms,
                position: it.position.clone(),
                records: it.records,
            };
            (it.event_time.clone(), partition)
        })
        .collect()
    }

    fn operators(
        &self,
        partitions: &[(Option<String>, PartitionWhy)],
        checkpoint: Option<&CheckpointWhy>,
    ) -> Vec<OperatorWhy> {
        let all = self.answers.values().flat_map(|why| &why.watermarks);
        let operators = all.map(|it| {
            let holds = |(event_time, partition): &(Option<String>, PartitionWhy)| {
                event_time.as_ref() == Some(&it.operator)
                    && partition.place.worker == it.worker.0
                    && matches!(partition.state, PartitionState::Active | PartitionState::Paused)
            };
            let waits = |chain: &ChainWhy| chain.operator == it.operator && chain.place.worker == it.worker.0;
            OperatorWhy {
                operator: it.operator.clone(),
                place: self.place(it.worker),
                watermark: it.watermark_ms,
                idle: it.makes_watermarks && !partitions.iter().any(holds),
                passed: !checkpoint.is_some_and(|checkpoint| checkpoint.waiting.iter().any(waits)),
            }
        });
        let mut operators: Vec<_> = operators.collect();
        operators.sort_by(|a, b| (&a.operator, a.place.worker).cmp(&(&b.operator, b.place.worker)));
        operators
    }

    fn doing(&self, doing: &Doing) -> DoingWhy {
        DoingWhy {
            step: doing.step.clone(),
            place: self.place(doing.worker),
            record: doing.record.clone(),
            duration: doing.for_ms,
            waits_for_store: doing.waits_for_store,
        }
    }

    fn watermark(
        &self,
        partitions: &[(Option<String>, PartitionWhy)],
        is_silent: bool,
    ) -> Option<WatermarkWhy> {
        let of = |makes: bool| {
            let all = self.answers.values().flat_map(|why| &why.watermarks);
            // The order of options: what is not known comes first.
            all.filter(move |it| it.makes_watermarks == makes).min_by_key(|it| it.watermark_ms)
        };
        // What makes watermarks on a worker without partitions has none, and holds nothing back.
        let least = of(false).or_else(|| of(true))?;
        let with_time = || partitions.iter().filter(|(event_time, _)| event_time.is_some()).map(|(_, it)| it);
        let active = || with_time().filter(|it| it.state == PartitionState::Active);
        let first = active().map(|it| it.watermark).min();
        let holding: Vec<PartitionWhy> = active().filter(|it| Some(it.watermark) == first).cloned().collect();
        let doing =
            self.answers.values().flat_map(|why| why.chains.iter().filter_map(|chain| chain.doing.as_ref()));
        let mut standing: Vec<DoingWhy> =
            doing.filter(|doing| doing.for_ms.is_some()).map(|doing| self.doing(doing)).collect();
        standing.sort_by_key(|doing| std::cmp::Reverse(doing.duration));
        Some(WatermarkWhy {
            operator: least.operator.clone(),
            time: least.watermark_ms,
            furthest: with_time().filter_map(|it| it.watermark).max(),
            held_back_by: match () {
                () if is_silent => Holder::Process,
                () if !standing.is_empty() => Holder::Step,
                () if !holding.is_empty() => Holder::Partition,
                () => Holder::Nobody,
            },
            standing,
            partitions: holding,
        })
    }

    fn checkpoint(&self) -> Option<CheckpointWhy> {
        let (epoch, phase, duration, missing) = self.view.in_flight.clone()?;
        let chains = || self.answers.values().flat_map(|why| &why.chains);
        let waiting = chains().filter(|chain| chain.passed < epoch);
        Some(CheckpointWhy {
            epoch: epoch.0,
            phase,
            duration,
            missing: missing.iter().map(|slot| slot.0).collect(),
            passed: chains().filter(|chain| chain.passed >= epoch).count(),
            waiting: waiting
                .map(|chain| ChainWhy {
                    operator: chain.operator.clone(),
                    place: self.place(chain.worker),
                    doing: chain.doing.as_ref().map(|doing| self.doing(doing)),
                })
                .collect(),
            beside: self
                .answers
                .values()
                .flat_map(|why| &why.beside)
                .map(|doing| self.doing(doing))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests;
