//! Who is connected, and who was a moment ago.

use std::collections::BTreeMap;

use tidegate_protocol::TaskManagerId;
use tidegate_protocol::taskmanager::Registration;

use crate::time::Time;

/// A taskmanager that is connected, or that may come back.
#[derive(Clone, Debug)]
pub(super) struct TaskManager {
    pub(super) pid: u32,
    pub(super) slots: u32,
    pub(super) address: String,
    /// When it is taken for lost, if it is not connected.
    pub(super) lost_at: Option<Time>,
    /// Whether it is taken for lost.
    pub(super) is_lost: bool,
}

/// All taskmanagers that have been connected since the brain has begun.
#[derive(Clone, Debug, Default)]
pub(super) struct TaskManagers(pub(super) BTreeMap<TaskManagerId, TaskManager>);

impl TaskManagers {
    pub(super) fn connect(&mut self, registration: &Registration) {
        let Registration { id, pid, slots, address, .. } = registration.clone();
        self.0.insert(id, TaskManager { pid, slots, address, lost_at: None, is_lost: false });
    }

    /// A connection is over: the taskmanager has until then to come back.
    pub(super) fn disconnect(&mut self, id: &TaskManagerId, lost_at: Time) {
        if let Some(taskmanager) = self.0.get_mut(id) {
            taskmanager.lost_at.get_or_insert(lost_at);
        }
    }

    /// Those that have not come back in time.
    pub(super) fn take_lost(&mut self, now: Time) -> Vec<TaskManagerId> {
        let mut lost = Vec::new();
        for (id, taskmanager) in &mut self.0 {
            if !taskmanager.is_lost && taskmanager.lost_at.is_some_and(|at| at <= now) {
                taskmanager.is_lost = true;
                lost.push(id.clone());
            }
        }
        lost
    }

    /// When the next one is lost if it does not come back.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.0.values().filter(|taskmanager| !taskmanager.is_lost).filter_map(|t| t.lost_at).min()
    }

    pub(super) fn is_connected(&self, id: &TaskManagerId) -> bool {
        self.connected(id).is_some()
    }

    pub(super) fn connected(&self, id: &TaskManagerId) -> Option<&TaskManager> {
        self.0.get(id).filter(|taskmanager| taskmanager.lost_at.is_none())
    }

    /// All that are connected.
    pub(super) fn all_connected(&self) -> impl Iterator<Item = (&TaskManagerId, &TaskManager)> {
        self.0.iter().filter(|(_, taskmanager)| taskmanager.lost_at.is_none())
    }
}
