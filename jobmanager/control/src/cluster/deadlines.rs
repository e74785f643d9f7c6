//! When which job has to be advanced: a step looks at the jobs whose time has come, and not at all of them.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::JobId;

use crate::time::Time;

/// The deadlines of jobs, one each at most.
#[derive(Clone, Debug, Default)]
pub(super) struct Deadlines {
    of: BTreeMap<JobId, Time>,
    in_order: BTreeSet<(Time, JobId)>,
}

impl Deadlines {
    /// Replaces the deadline of a job.
    pub(super) fn set(&mut self, job: JobId, deadline: Option<Time>) {
        let before = match deadline {
            Some(deadline) => self.of.insert(job, deadline),
            None => self.of.remove(&job),
        };
        if before != deadline {
            before.map(|before| self.in_order.remove(&(before, job)));
            deadline.map(|deadline| self.in_order.insert((deadline, job)));
        }
    }

    /// The first one.
    pub(super) fn first(&self) -> Option<Time> {
        self.in_order.first().map(|(deadline, _)| *deadline)
    }

    /// The jobs whose time has come.
    pub(super) fn due(&self, now: Time) -> impl Iterator<Item = JobId> {
        self.in_order.iter().take_while(move |(deadline, _)| *deadline <= now).map(|(_, job)| *job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_one_deadline() {
        let [a, b] = [JobId([1; 16]), JobId([2; 16])];
        let mut deadlines = Deadlines::default();
        deadlines.set(a, Some(Time(5)));
        deadlines.set(b, Some(Time(7)));
        deadlines.set(a, Some(Time(9)));
        assert_eq!((deadlines.first(), deadlines.due(Time(8)).collect()), (Some(Time(7)), vec![b]));
        deadlines.set(b, None);
        assert_eq!((deadlines.first(), deadlines.due(Time(9)).collect()), (Some(Time(9)), vec![a]));
        deadlines.set(a, None);
        assert_eq!(deadlines.first(), None);
    }
}
