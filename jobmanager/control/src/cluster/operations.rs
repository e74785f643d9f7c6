//! Savepoints and stops of a job, which users ask for and ask after.

use std::collections::BTreeMap;

use tidegate_protocol::{Epoch, Error};

use super::ledger::JobFacts;
use super::record::Ending;
use super::view::OperationView;

/// Operations that are remembered.
const REMEMBERED: usize = 50;

/// The operations of a job, by their numbers.
#[derive(Clone, Debug)]
pub(super) struct Operations(BTreeMap<u64, Operation>);

/// A savepoint or a stop.
#[derive(Clone, Debug)]
struct Operation {
    /// The directory of a savepoint.
    directory: Option<String>,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// A checkpoint is to be requested once the job runs.
    Wanted,
    /// A checkpoint is requested, and the first one after this epoch is the savepoint.
    After(Epoch),
    /// The savepoint is being written, of the snapshot of this epoch.
    Writing(Epoch),
    /// The job is to stop.
    Stopping,
    Over(OperationView),
}

impl Operations {
    /// Those of a job that the ledger has: its stop.
    pub(super) fn new(facts: &JobFacts) -> Self {
        let stop = facts.stop.as_ref().filter(|_| facts.ended.is_none());
        let stop = stop.map(|stop| {
            (stop.operation, Operation { directory: stop.savepoint.clone(), state: State::Stopping })
        });
        Self(stop.into_iter().collect())
    }

    pub(super) fn add_stop(&mut self, number: u64, savepoint: Option<String>) -> Result<(), Error> {
        self.add(number, Operation { directory: savepoint, state: State::Stopping })
    }

    pub(super) fn add_savepoint(&mut self, number: u64, directory: String) -> Result<(), Error> {
        self.add(number, Operation { directory: Some(directory), state: State::Wanted })
    }

    /// The oldest operation that is over is forgotten.
    fn add(&mut self, number: u64, operation: Operation) -> Result<(), Error> {
        if self.0.len() >= REMEMBERED {
            let over = self.0.iter().find(|(_, operation)| matches!(operation.state, State::Over(_)));
            let over = over.map(|(number, _)| *number).ok_or_else(|| {
                Error::environment(format!(
                    "{REMEMBERED} savepoints and stops of the job are under way already"
                ))
            })?;
            self.0.remove(&over);
        }
        self.0.insert(number, operation);
        Ok(())
    }

    /// Whether a savepoint waits for its checkpoint.
    pub(super) fn is_any_waiting(&self) -> bool {
        self.0.values().any(|operation| matches!(operation.state, State::Wanted | State::After(_)))
    }

    /// Whether a checkpoint is to be requested.
    pub(super) fn want_checkpoint(&self) -> bool {
        self.0.values().any(|operation| matches!(operation.state, State::Wanted))
    }

    /// A checkpoint is requested; its epoch comes after this one.
    pub(super) fn checkpoint_requested(&mut self, after: Epoch) {
        let wanted = self.0.values_mut().filter(|operation| matches!(operation.state, State::Wanted));
        wanted.for_each(|operation| operation.state = State::After(after));
    }

    /// An attempt is over, and the checkpoints that were requested of it with it.
    pub(super) fn attempt_is_over(&mut self) {
        let waiting = self.0.values_mut().filter(|operation| matches!(operation.state, State::After(_)));
        waiting.for_each(|operation| operation.state = State::Wanted);
    }

    /// The next savepoint to write, if the newest snapshot is one that it waits for and no other one is being written: its
    /// number and directory.
    pub(super) fn next_to_write(&mut self, newest: Epoch) -> Option<(u64, String)> {
        if self.pinned().is_some() {
            return None;
        }
        let is_made =
            |operation: &Operation| matches!(operation.state, State::After(after) if newest > after);
        let (number, operation) = self.0.iter_mut().find(|(_, operation)| is_made(operation))?;
        operation.state = State::Writing(newest);
        Some((*number, operation.directory.clone().unwrap_or_default()))
    }

    /// The snapshot that a savepoint is being made of.
    pub(super) fn pinned(&self) -> Option<Epoch> {
        self.0.values().find_map(|operation| match operation.state {
            State::Writing(epoch) => Some(epoch),
            _ => None,
        })
    }

    /// The savepoint of a stop is being written, of this snapshot.
    pub(super) fn writes_last(&mut self, number: u64, epoch: Epoch) {
        self.set(number, State::Writing(epoch));
    }

    /// The savepoint of a stop is written; what remains is the end of the job.
    pub(super) fn is_written(&mut self, number: u64) {
        self.set(number, State::Stopping);
    }

    /// An operation is over.
    pub(super) fn finish(&mut self, number: u64, how: OperationView) {
        self.set(number, State::Over(how));
    }

    fn set(&mut self, number: u64, state: State) {
        let operation = self.0.get_mut(&number);
        if let Some(operation) = operation.filter(|operation| !matches!(operation.state, State::Over(_))) {
            operation.state = state;
        }
    }

    /// The job has ended; `stop` is the operation that it has ended with.
    pub(super) fn job_has_ended(&mut self, ending: &Ending, stop: Option<u64>) {
        for (number, operation) in &mut self.0 {
            match (&operation.state, ending) {
                (State::Over(_), _) => {}
                // It does not need the job any more.
                (State::Writing(_), _) if stop != Some(*number) => {}
                (State::Wanted | State::After(_), Ending::Finished { .. }) => {
                    let text = "the job ended before the savepoint was made".to_owned();
                    operation.state = State::Over(OperationView::Failed(text));
                }
                _ => {
                    let over = OperationView::of_stop(ending, operation.directory.is_some());
                    operation.state = State::Over(over);
                }
            }
        }
    }

    /// How far an operation is. What keeps its job from a checkpoint is part of what it waits for.
    pub(super) fn view(
        &self,
        number: u64,
        drains: bool,
        hindrances: impl FnOnce() -> String,
    ) -> Option<OperationView> {
        let operation = self.0.get(&number)?;
        let last =
            if drains { "the end of the input, and the last checkpoint" } else { "the last checkpoint" };
        let waits = |what: String| OperationView::InProgress(what + &hindrances());
        Some(match &operation.state {
            State::Wanted => waits("the job is not running yet".to_owned()),
            State::After(epoch) => waits(format!("a checkpoint after epoch {epoch}")),
            State::Writing(_) => OperationView::InProgress("the savepoint is being written".to_owned()),
            State::Stopping => waits(last.to_owned()),
            State::Over(view) => view.clone(),
        })
    }
}
