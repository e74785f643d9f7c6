//! After the storm: everything is well again, and must come to rest.

use tidegate_control::cluster::Ending;
use tidegate_protocol::{Epoch, JobId, JobState};

use crate::queue::Event;
use crate::users::{Progress, Want};
use crate::world::{Broken, World};

/// How long everything may take to come to rest.
const SETTLED_AFTER_MS: u64 = 240_000;
/// How long a job with automatic parallelism may be behind its partitions.
const RESCALED_AFTER_MS: u64 = 90_000;
/// Checkpoints that a running job has to complete.
const CHECKPOINTS: u64 = 3;

impl World {
    /// Steps with faults.
    pub(crate) fn storm(&mut self) -> Result<(), Broken> {
        (0..self.config.steps).try_for_each(|_| self.step())
    }

    /// From here on nothing goes wrong.
    pub(crate) fn heal(&mut self) {
        self.note(format_args!("---- everything is well again ----"));
        self.is_healed = true;
        self.jobmanager_stopped_until = 0;
        self.ledger_slow_until = 0;
        (self.store.slow_until, self.store.away_until) = (0, 0);
        self.after(0, Event::JobManagerStarts);
        for host in 0..self.hosts.len() {
            self.hosts[host].stopped_until = 0;
            self.after(0, Event::HostStarts { host });
        }
        self.processes.values_mut().for_each(|process| process.stopped_until = 0);
    }

    /// Steps until everything has come to rest.
    pub(crate) fn must_settle(&mut self) -> Result<(), Broken> {
        let until = self.now + SETTLED_AFTER_MS;
        let first: Vec<Epoch> = self.config.jobs.iter().map(|job| self.last_epoch(job.id)).collect();
        let mut next_look = self.now;
        loop {
            self.step()?;
            if self.now < next_look {
                continue;
            }
            next_look = self.now + 250;
            let restless = self.restless(&first);
            if restless.is_empty() {
                self.note(format_args!("---- everything has come to rest ----"));
                return Ok(());
            }
            if self.now > until {
                let what = format!("after {} s: {}", SETTLED_AFTER_MS / 1_000, restless.join("; "));
                return Err(Broken { invariant: "everything settles", what });
            }
        }
    }

    fn last_epoch(&self, job: JobId) -> Epoch {
        self.ledger.jobs.get(&job).map(|facts| facts.last_epoch).unwrap_or_default()
    }

    /// What has not come to rest.
    fn restless(&self, first: &[Epoch]) -> Vec<String> {
        let mut restless = Vec::new();
        for (number, first) in first.iter().enumerate() {
            restless.extend(self.restless_job(number, *first));
            restless.extend(self.restless_user(number));
        }
        restless.extend(self.restless_processes());
        restless
    }

    fn restless_job(&self, number: usize, first: Epoch) -> Option<String> {
        let (user, config) = (&self.users[number], &self.config.jobs[number]);
        let short = &config.id.to_string()[..2];
        let Some(facts) = self.ledger.jobs.get(&config.id) else {
            return user.is_submitted().then(|| format!("job {short} is not there"));
        };
        if let Some((ending, _)) = &facts.ended {
            let is_wanted = user.has_ended_it() || facts.finished;
            return match ending {
                Ending::Failed { cause } if !cause.contains("no older one") => {
                    Some(format!("job {short} has failed: {cause}"))
                }
                Ending::Finished { .. } | Ending::Canceled if !is_wanted => {
                    Some(format!("nobody has ended job {short}"))
                }
                _ => None,
            };
        }
        let view = self.jobmanager.as_ref().and_then(|j| j.brain.job(config.id))?;
        if user.has_ended_it() || config.bounded.is_some() {
            let waits = view.waits_for.unwrap_or_default();
            return Some(format!("job {short} has not ended, and is {} ({waits})", view.state));
        }
        let (state, parallelism) = (view.state, view.parallelism);
        let is_fresh = facts.last_epoch.0 >= first.0 + CHECKPOINTS;
        if state != JobState::Running || parallelism != facts.parallelism || !is_fresh {
            let waits = view.waits_for.unwrap_or_default();
            return Some(format!(
                "job {short} is {state} with {parallelism} of {} workers and epoch {} of {} ({waits})",
                facts.parallelism,
                facts.last_epoch,
                first.0 + CHECKPOINTS
            ));
        }
        self.unsuited(number, parallelism).filter(|_| facts.auto_parallelism)
    }

    /// Why a number of workers does not suit a job whose parallelism is automatic. It may be behind new partitions for as long as a
    /// job is left alone after a rescale.
    fn unsuited(&self, number: usize, parallelism: u32) -> Option<String> {
        let (id, slots) = (self.config.jobs[number].id, self.config.hosts.iter().sum::<u32>());
        let outside = &self.outsides[&id];
        let suits_at = |time| slots.min(outside.partitions(time).len() as u32);
        let (least, most) = (suits_at(self.now.saturating_sub(RESCALED_AFTER_MS)), suits_at(self.now));
        let is_suited = (least..=most).contains(&parallelism);
        (!is_suited).then(|| format!("a job has {parallelism} workers, and {least} to {most} suit it"))
    }

    fn restless_user(&self, number: usize) -> Vec<String> {
        let waits = |progress: &Progress| match progress {
            Progress::Wanted(_) | Progress::Asked(_) | Progress::Operation(_) => true,
            Progress::Done(_) | Progress::Refused | Progress::Forgotten => false,
        };
        let user = &self.users[number];
        let of_wishes = user.wishes.iter().filter(|(_, progress)| waits(progress));
        let of_wishes =
            of_wishes.map(|(want, progress)| format!("user {number} waits for {want:?}: {progress:?}"));
        let of_requests = user.requests.iter().map(|(request, (wish, _))| {
            let want = user.wishes.get(*wish).map(|(want, _)| want);
            format!("user {number} has no answer to request {} ({want:?})", request.0)
        });
        of_wishes.chain(of_requests).collect()
    }

    /// Processes of attempts that are over, and hosts with more workers than slots.
    fn restless_processes(&self) -> Vec<String> {
        let mut restless = Vec::new();
        let mut used: std::collections::BTreeMap<usize, u32> = std::collections::BTreeMap::new();
        for process in self.processes.values() {
            let facts = self.ledger.jobs.get(&process.id.job);
            let is_current = facts.is_some_and(|f| f.attempt == process.id.attempt && f.ended.is_none());
            if !is_current {
                restless.push(format!("process {} is left", process.name()));
            }
            let placed =
                facts.into_iter().flat_map(|f| &f.placed).find(|placed| placed.first == process.id.first);
            *used.entry(process.host).or_default() += placed.map_or(0, |placed| placed.workers);
        }
        let too_many = used.into_iter().filter(|(host, used)| *used > self.config.hosts[*host]);
        restless.extend(too_many.map(|(host, used)| format!("{used} workers run on tm-{host}")));
        restless
    }

    /// What has come of the wish to drain: a job that was only ever drained has read its input to the end.
    pub(crate) fn is_only_drained(&self, job: JobId) -> bool {
        let Some(number) = self.config.jobs.iter().position(|config| config.id == job) else { return false };
        let mut ends = self.users[number]
            .wishes
            .iter()
            .filter(|(want, _)| matches!(want, Want::Stop { .. } | Want::Cancel));
        ends.all(|(want, _)| matches!(want, Want::Stop { drain: true, .. }))
    }
}
