//! What a process has been told, by the rules of the runtime's `link::Instructions`: nothing of it goes back.

use std::collections::BTreeMap;

use tidegate_protocol::link::Command;
use tidegate_protocol::{Epoch, Slot};

/// What a process has been told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Instructions {
    pub(crate) trigger: Epoch,
    pub(crate) last: Option<Epoch>,
    pub(crate) completed: Epoch,
    pub(crate) stop_reading: bool,
    pub(crate) drain: bool,
    publish: Epoch,
    /// The partitions of every worker of the job.
    pub(crate) assigned: BTreeMap<Slot, Vec<String>>,
}

impl Instructions {
    /// Takes a command; false if it brings nothing new.
    pub(crate) fn take(&mut self, command: &Command) -> bool {
        match command {
            Command::Trigger { epoch, last } => {
                let is_news = *epoch > self.trigger;
                if is_news {
                    self.trigger = *epoch;
                    self.last = if *last { Some(*epoch) } else { self.last };
                }
                is_news
            }
            Command::StopReading => !std::mem::replace(&mut self.stop_reading, true),
            Command::Publish(epoch) => {
                let is_news = self.publish <= *epoch;
                self.publish = self.publish.max(*epoch);
                is_news
            }
            Command::Completed(epoch) => {
                let is_news = self.completed < *epoch;
                self.completed = self.completed.max(*epoch);
                is_news
            }
            Command::Assigned { slot, partitions, .. } => {
                let Some(known) = self.assigned.get_mut(slot) else { return false };
                let is_news = partitions.len() > known.len();
                if is_news {
                    known.extend_from_slice(&partitions[known.len()..]);
                }
                is_news
            }
            Command::Abort => true,
        }
    }
}
