//! What a process knows of the driver: the commands that it has received.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_protocol::{Attempt, Epoch, Slot};

use super::{Beginning, Command, ToProcess};

/// The last epoch is not known yet.
const NO_LAST: u64 = u64::MAX;

/// Everything that a process has received from the driver: the epoch to end, the last one, the last complete one, the
/// partitions.
///
/// None of it ever goes back: a message that is behind what is known already is an older one, and is dropped and counted,
/// like a message of another attempt.
pub(crate) struct Instructions {
    attempt: Attempt,
    /// The epoch that sources are asked to end, with all before it.
    trigger: AtomicU64,
    /// The epoch after which there is none.
    last: AtomicU64,
    /// The last epoch whose snapshot is known to be complete.
    completed: AtomicU64,
    /// Sources read no further.
    stop_reading: AtomicBool,
    /// Sources read to the present end of their input.
    drains: bool,
    /// The last epoch that is to be published.
    publish: AtomicU64,
    /// When the last trigger came. Triggers are taken under this lock.
    triggered_at: Mutex<Instant>,
    /// The partitions of each source, for every worker.
    assigned: Mutex<BTreeMap<String, Vec<Vec<String>>>>,
    /// How often partitions have been assigned since the start: whoever has seen that number needs no lock.
    assignments: AtomicU64,
    dropped: AtomicU64,
}

impl Instructions {
    /// The instructions at the start of an attempt: no epoch is to be ended, and these partitions are assigned.
    pub(crate) fn new(beginning: Beginning) -> Self {
        let Beginning { attempt, first_epoch, assigned, drains } = beginning;
        Self {
            attempt,
            trigger: AtomicU64::new(first_epoch.0 - 1),
            last: AtomicU64::new(NO_LAST),
            completed: AtomicU64::new(0),
            stop_reading: AtomicBool::new(false),
            drains,
            publish: AtomicU64::new(0),
            triggered_at: Mutex::new(Instant::now()),
            assigned: Mutex::new(assigned),
            assignments: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Takes a message and returns its command. A message of another attempt, or one that brings nothing new, is dropped
    /// and counted. Handling an abort is left to the caller, and so is publishing: the command to publish an epoch may come
    /// again, from a driver that has lost the answer.
    pub(crate) fn take(&self, message: ToProcess) -> Option<Command> {
        let ToProcess { attempt, command } = message;
        let news = attempt == self.attempt
            && match &command {
                Command::Trigger { epoch, last } => self.trigger(*epoch, *last),
                Command::StopReading => !self.stop_reading.swap(true, Ordering::AcqRel),
                Command::Publish(epoch) => self.publish.fetch_max(epoch.0, Ordering::AcqRel) <= epoch.0,
                Command::Completed(epoch) => self.completed.fetch_max(epoch.0, Ordering::AcqRel) < epoch.0,
                Command::Assigned { source, slot, partitions } => self.assign(source, *slot, partitions),
                Command::Abort => true,
            };
        if !news {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        news.then_some(command)
    }

    fn trigger(&self, epoch: Epoch, last: bool) -> bool {
        let mut at = self.triggered_at.lock().unwrap_or_else(PoisonError::into_inner);
        if epoch <= self.triggered() {
            return false;
        }
        *at = Instant::now();
        // A thread that sees the epoch must also see whether it is the last one.
        if last {
            self.last.store(epoch.0, Ordering::Release);
        }
        self.trigger.store(epoch.0, Ordering::Release);
        true
    }

    fn assign(&self, source: &str, slot: Slot, partitions: &[String]) -> bool {
        let mut assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = assigned.get_mut(source);
        let Some(known) = slots.and_then(|slots| slots.get_mut(slot.0 as usize)) else { return false };
        if partitions.len() <= known.len() {
            return false;
        }
        // Readers count the partitions that they have seen.
        known.extend_from_slice(&partitions[known.len()..]);
        self.assignments.fetch_add(1, Ordering::Release);
        true
    }

    /// The epoch that sources are asked to end, with all before it.
    #[inline]
    pub(crate) fn triggered(&self) -> Epoch {
        Epoch(self.trigger.load(Ordering::Acquire))
    }

    /// How long ago the last epoch was triggered, for measuring.
    pub(crate) fn since_trigger(&self) -> Duration {
        self.triggered_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// The epoch after which there is none, if that is known.
    pub(crate) fn last_epoch(&self) -> Option<Epoch> {
        Some(self.last.load(Ordering::Acquire)).filter(|epoch| *epoch != NO_LAST).map(Epoch)
    }

    /// True if sources are to read no further.
    #[inline]
    pub(crate) fn is_to_stop_reading(&self) -> bool {
        self.stop_reading.load(Ordering::Acquire)
    }

    /// True if sources are to read to the present end of their input, and to end there.
    #[inline]
    pub(crate) fn is_to_drain(&self) -> bool {
        self.drains
    }

    /// The last epoch whose snapshot is known to be complete.
    pub(crate) fn completed(&self) -> Epoch {
        Epoch(self.completed.load(Ordering::Acquire))
    }

    /// The partitions of a source that are assigned to a worker, from the `seen`-th on.
    pub(crate) fn assigned(&self, source: &str, worker: usize, seen: usize) -> Vec<String> {
        let assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        let of_worker = assigned.get(source).and_then(|workers| workers.get(worker));
        of_worker.map(|names| names[seen.min(names.len())..].to_vec()).unwrap_or_default()
    }

    /// How often partitions have been assigned since the start.
    pub(crate) fn assignments(&self) -> u64 {
        self.assignments.load(Ordering::Acquire)
    }

    /// The number of messages dropped so far: repeated, or of another attempt.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTEMPT: Attempt = Attempt(2);

    fn new() -> Instructions {
        let assigned = BTreeMap::from([("source".to_owned(), vec![vec!["a".to_owned()], vec![]])]);
        let (attempt, first_epoch) = (ATTEMPT, Epoch(5));
        Instructions::new(Beginning { attempt, first_epoch, assigned, drains: false })
    }

    /// Takes a command; returns whether it was new.
    fn receive(instructions: &Instructions, command: Command) -> bool {
        instructions.take(ToProcess { attempt: ATTEMPT, command }).is_some()
    }

    fn trigger(epoch: u64, last: bool) -> Command {
        Command::Trigger { epoch: Epoch(epoch), last }
    }

    #[test]
    fn triggers_and_completions_that_come_again_change_nothing() {
        let instructions = new();
        assert_eq!(
            (instructions.triggered(), instructions.last_epoch(), instructions.completed()),
            (Epoch(4), None, Epoch(0))
        );
        assert!(
            receive(&instructions, trigger(5, false)) && receive(&instructions, Command::Completed(Epoch(5)))
        );
        assert!(receive(&instructions, trigger(6, true)));
        for command in [trigger(5, false), Command::Completed(Epoch(5)), trigger(6, true)] {
            assert!(!receive(&instructions, command));
        }
        assert_eq!((instructions.triggered(), instructions.last_epoch()), (Epoch(6), Some(Epoch(6))));
        assert_eq!((instructions.completed(), instructions.dropped()), (Epoch(5), 3));
    }

    #[test]
    fn reading_stops_once_and_for_good() {
        let instructions = new();
        assert!(!instructions.is_to_stop_reading());
        assert!(receive(&instructions, Command::StopReading) && instructions.is_to_stop_reading());
        assert!(!receive(&instructions, Command::StopReading) && instructions.is_to_stop_reading());
    }

    #[test]
    fn an_epoch_may_be_published_again_and_an_older_one_may_not() {
        let instructions = new();
        for (epoch, is_news) in [(5, true), (5, true), (6, true), (5, false)] {
            assert_eq!(receive(&instructions, Command::Publish(Epoch(epoch))), is_news);
        }
    }

    #[test]
    fn what_comes_from_another_attempt_is_dropped_and_counted() {
        let instructions = new();
        let partitions = vec!["a".to_owned(), "b".to_owned()];
        let assigned = Command::Assigned { source: "source".to_owned(), slot: Slot(0), partitions };
        for attempt in [Attempt(1), Attempt(3)] {
            for command in [trigger(7, true), Command::Completed(Epoch(7)), assigned.clone(), Command::Abort]
            {
                assert!(instructions.take(ToProcess { attempt, command }).is_none());
            }
        }
        assert_eq!(
            (instructions.triggered(), instructions.last_epoch(), instructions.completed()),
            (Epoch(4), None, Epoch(0))
        );
        assert_eq!(
            (instructions.assigned("source", 0, 0), instructions.dropped()),
            (vec!["a".to_owned()], 8)
        );
    }

    #[test]
    fn a_list_of_partitions_only_grows() {
        let instructions = new();
        let assign = |slot, names: &[&str]| {
            let partitions = names.iter().map(|&name| name.to_owned()).collect();
            receive(
                &instructions,
                Command::Assigned { source: "source".to_owned(), slot: Slot(slot), partitions },
            )
        };
        assert!(assign(0, &["a", "b"]) && assign(0, &["a", "b", "c"]) && assign(1, &["d"]));
        assert!(!assign(0, &["a", "b"]) && !assign(0, &["a", "b", "c"]), "they came before");
        assert!(!assign(2, &["e"]), "there is no such worker");
        assert_eq!(instructions.assigned("source", 0, 1), ["b", "c"]);
        assert_eq!(instructions.assigned("source", 1, 0), ["d"]);
    }
}
