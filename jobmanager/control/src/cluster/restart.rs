//! When the next attempt follows a failed one, if it does.
//!
//! The first failure is followed by a restart at once. Without a checkpoint in between, the next ones wait: the delay that is
//! set for the job, then twice as long every time up to the longest one, each a little more or less by chance, so that many
//! jobs that have failed together do not come back together. Failures of the environment (a disk, a network, a killed process) are
//! followed by a restart however many there are: they heal. A job that fails with the same error of its own three times in
//! a row, each within an hour of the one before, fails for good, whether it has taken checkpoints in between or not: it
//! stumbles over one record. So does one that has failed with errors of its own as often as its limit says, without a
//! checkpoint in between.

use tidegate_protocol::{Attempt, Error, ErrorKind, JobId};

use super::record::JobSettings;
use crate::time::Time;

/// How often the same error of a job in a row ends it.
const SAME: u32 = 3;

/// An error that comes again after so long is not one over the same record.
const FORGOTTEN_MS: u64 = 3_600_000;

/// The failures of a job in a row.
#[derive(Clone, Debug, Default)]
pub(super) struct Failures {
    /// Failures since the last checkpoint.
    in_a_row: u32,
    /// Those with an error of the job.
    of_job: u32,
    /// The last error of the job, how often it came in a row, and when.
    last: Option<(String, u32, Time)>,
}

/// What follows a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another attempt, after so many milliseconds.
    Restart(u64),
    /// The job has failed for good, for this cause.
    Fail(String),
}

impl Failures {
    /// A checkpoint was completed.
    pub(super) fn has_progressed(&mut self) {
        (self.in_a_row, self.of_job) = (0, 0);
    }

    /// Whether no checkpoint was completed since the last failure.
    pub(super) fn is_any(&self) -> bool {
        self.in_a_row > 0
    }

    /// An attempt has failed.
    pub(super) fn add(
        &mut self,
        now: Time,
        (job, attempt): (JobId, Attempt),
        error: &Error,
        set: &JobSettings,
    ) -> Next {
        self.in_a_row += 1;
        if error.kind() == ErrorKind::Environment {
            return Next::Restart(self.delay_ms(job, attempt, set));
        }
        self.of_job += 1;
        let text = error.to_string();
        let times = match self.last.take() {
            Some((last, times, at)) if last == text && now.since_ms(at) < FORGOTTEN_MS => times + 1,
            _ => 1,
        };
        self.last = Some((text.clone(), times, now));
        if times >= SAME {
            return Next::Fail(format!("{text} (the same error ended {times} attempts in a row)"));
        }
        if self.of_job >= set.restart_limit.max(1) {
            let attempts = self.of_job;
            return Next::Fail(format!(
                "{text} ({attempts} attempts in a row have failed without a checkpoint in between)"
            ));
        }
        Next::Restart(self.delay_ms(job, attempt, set))
    }

    fn delay_ms(&self, job: JobId, attempt: Attempt, set: &JobSettings) -> u64 {
        let Some(doublings) = self.in_a_row.checked_sub(2) else { return 0 };
        let delay = set.restart_delay_ms.saturating_mul(1 << doublings.min(20)).min(set.restart_delay_max_ms);
        // Between 80 and 120 percent, by the identity of the attempt: the brain knows no chance.
        let bytes = job.0.iter().copied().chain(attempt.0.to_le_bytes());
        let mixed = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        delay.saturating_mul(80 + mixed % 41) / 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobId = JobId([1; 16]);

    fn fail(failures: &mut Failures, attempt: u32, error: &Error) -> Next {
        failures.add(Time(0), (JOB, Attempt(attempt)), error, &JobSettings::default())
    }

    #[test]
    fn the_first_restart_is_at_once_and_later_ones_wait_ever_longer() {
        let mut failures = Failures::default();
        let killed = Error::environment("killed");
        let delays: Vec<u64> = (1..20)
            .map(|attempt| match fail(&mut failures, attempt, &killed) {
                Next::Restart(delay) => delay,
                Next::Fail(cause) => panic!("{cause}"),
            })
            .collect();
        assert_eq!(delays[0], 0);
        for (i, delay) in delays.iter().enumerate().skip(1) {
            let middle = (100 << (i - 1)).min(30_000);
            assert!((middle * 8 / 10..=middle * 12 / 10).contains(delay), "{i}: {delay}");
        }
        failures.has_progressed();
        assert_eq!(fail(&mut failures, 30, &killed), Next::Restart(0));
    }

    #[test]
    fn delays_are_what_is_set_for_the_job() {
        let set =
            JobSettings { restart_delay_ms: 1_000, restart_delay_max_ms: 3_000, ..JobSettings::default() };
        let mut failures = Failures::default();
        for (number, middle) in [(1, 0), (2, 1_000), (3, 2_000), (4, 3_000), (5, 3_000)] {
            let next = failures.add(Time(0), (JOB, Attempt(number)), &Error::environment("killed"), &set);
            let Next::Restart(delay) = next else { panic!("{next:?}") };
            assert!((middle * 8 / 10..=middle * 12 / 10).contains(&delay), "{number}: {delay}");
        }
    }

    #[test]
    fn a_job_that_stumbles_over_one_record_fails_though_it_takes_checkpoints() {
        let mut failures = Failures::default();
        let error = Error::job("step 'x', offset 17: no");
        for attempt in 1..3 {
            assert!(matches!(fail(&mut failures, attempt, &error), Next::Restart(_)));
            failures.has_progressed();
        }
        let Next::Fail(cause) = fail(&mut failures, 3, &error) else { panic!("a third time") };
        assert!(cause.contains("offset 17") && cause.contains("3 attempts"), "{cause}");
    }

    #[test]
    fn an_error_that_comes_again_after_long_is_not_counted() {
        let mut failures = Failures::default();
        let error = Error::job("a process of the job was killed by signal 11 (SIGSEGV)");
        for number in 1..10_u32 {
            let now = Time(u64::from(number) * FORGOTTEN_MS);
            let next = failures.add(now, (JOB, Attempt(number)), &error, &JobSettings::default());
            assert!(matches!(next, Next::Restart(_)), "{number}: {next:?}");
            failures.has_progressed();
        }
    }

    #[test]
    fn other_errors_of_a_job_have_a_limit_and_kills_in_between_change_nothing() {
        let mut failures = Failures::default();
        for attempt in 1..10 {
            let error = Error::job(format!("error {attempt}"));
            assert!(matches!(fail(&mut failures, attempt, &error), Next::Restart(_)));
            assert!(matches!(fail(&mut failures, attempt, &Error::environment("killed")), Next::Restart(_)));
        }
        assert!(matches!(fail(&mut failures, 10, &Error::job("error 10")), Next::Fail(_)));
    }
}
