//! How a job gets another number of workers: it was asked for, or the job's parallelism is automatic.

use tidegate_protocol::Error;

use super::{Job, Phase};
use crate::cluster::action::{Answer, ClusterAction};
use crate::cluster::attempt::Context;
use crate::cluster::auto_parallelism::Suits;
use crate::cluster::record::Record;

impl Job {
    pub(in crate::cluster) fn request_rescale(
        &mut self,
        cx: &mut Context<'_>,
        (parallelism, auto): (u32, bool),
        free: u32,
    ) -> Result<Answer, Error> {
        self.refuse_if_over(cx)?;
        let most = u32::from(cx.facts.spec.key_groups.count);
        if parallelism == 0 || parallelism > most {
            return Err(Error::job(format!(
                "a parallelism of {parallelism} is invalid: it must be at least 1 and at most {most}, the number of the job's \
                 key groups (--max-parallelism of its first start)"
            )));
        }
        let own: u32 = self.taken(cx.facts).iter().map(|(_, slots)| slots).sum();
        if parallelism > cx.facts.parallelism && parallelism > own + free {
            return Err(Error::job(format!(
                "a parallelism of {parallelism} needs {parallelism} slots; the job has {own}, and {free} more {are} free: it \
                 would wait for slots. Start another taskmanager first, or choose at most {}",
                own + free,
                are = if free == 1 { "is" } else { "are" },
            )));
        }
        // Also if it is the number of now: an earlier request may be on its way to the ledger.
        cx.out.push(ClusterAction::Propose(Record::Rescaled { job: self.id, parallelism, auto }));
        Ok(Answer::Done)
    }

    pub(in crate::cluster) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting { .. })
    }

    /// Rescales the job if its parallelism is automatic, and another one has suited it for long enough. `free` is the number of
    /// slots that nobody has or claims; returned is how many of them the job is to get.
    pub(in crate::cluster) fn look_at_parallelism(&mut self, cx: &mut Context<'_>, free: u32) -> u32 {
        let may_change = cx.facts.auto_parallelism && !cx.facts.is_ending && !cx.facts.finished;
        let own = match &self.phase {
            Phase::Waiting { .. } if may_change => 0,
            Phase::Active(run)
                if may_change && run.is_running() && run.parallelism == cx.facts.parallelism =>
            {
                // Of an attempt that was adopted that is known after its next checkpoints.
                let Some(partitions) = run.most_partitions() else { return 0 };
                self.partitions = partitions;
                run.parallelism
            }
            _ => return 0,
        };
        let suits = Suits {
            present: cx.facts.parallelism,
            partitions: self.partitions,
            slots: own + free,
            most: cx.facts.spec.key_groups.count.into(),
            is_waiting: self.is_waiting(),
        };
        let Some(parallelism) = self.auto.look(cx.now.time, &suits) else { return 0 };
        let job = self.id;
        cx.out.push(ClusterAction::Note { job, warning: false, text: suits.reason() });
        cx.out.push(ClusterAction::Propose(Record::Rescaled { job, parallelism, auto: true }));
        parallelism.saturating_sub(own)
    }

    pub(super) fn rescale(&mut self, cx: &mut Context<'_>) {
        let Phase::Active(run) = &mut self.phase else { return };
        let is_stopping = self.rescaling || cx.facts.stop.as_ref().is_some_and(|stop| !stop.drain);
        if is_stopping || run.parallelism == cx.facts.parallelism {
            return;
        }
        if !run.is_running() {
            return self.restart(cx);
        }
        self.rescaling = true;
        self.pause.begins(run.attempt, cx.now.time);
        let outcome = run.stop(cx);
        self.follow(cx, outcome);
    }
}
