//! A verification from its first row to its report.

use std::time::{Duration, Instant};

use tidegate_protocol::{Error, JobId, Result};
use tidegate_rest::jobs::{JobDetails, JobState, StopRequest, Triggered};

use super::audit::{Audit, Findings};
use super::fault::Faults;
use super::generator::{Generator, Sent};
use super::interrupt::Interrupt;
use super::reader::Reader;
use super::report::Report;
use super::stable_offsets::StableOffsets;
use super::topics::Topics;
use crate::options::ExactlyOnceOptions;
use crate::verbs::Session;
use crate::verbs::stop::{canceled, stopped, unexpected_end};
use crate::verbs::watch::Watch;

/// For how long no row may come while some are missing: longer than it takes to notice that a host is lost, or that a broker is, and
/// to go on.
const PATIENCE: Duration = Duration::from_secs(180);

/// A verification whose job is submitted.
pub(super) struct Verification<'a> {
    pub(super) session: &'a Session,
    pub(super) options: &'a ExactlyOnceOptions,
    pub(super) topics: &'a Topics,
    pub(super) job: JobId,
    pub(super) interrupt: &'a Interrupt,
    pub(super) seed: u64,
}

/// What goes on beside the job.
struct Running {
    began: Instant,
    generator: Generator,
    reader: Reader,
    stable: StableOffsets,
}

impl Running {
    fn start(topics: &Topics, options: &ExactlyOnceOptions) -> Result<Self> {
        let (reader, stable) = (Reader::start(topics)?, StableOffsets::start(topics)?);
        Ok(Self { began: Instant::now(), generator: Generator::start(topics, options)?, reader, stable })
    }

    fn rows(&self) -> String {
        format!(", {} in, {} out", self.generator.acknowledged(), self.reader.rows())
    }
}

impl Verification<'_> {
    /// Runs it; None if it was interrupted.
    pub(super) fn run(&self) -> Result<Option<Report>> {
        let mut watch = Watch::new();
        let running = Running::start(self.topics, self.options)?;
        if !self.until_first_row(&mut watch, &running)? {
            return Ok(None);
        }
        let mut faults = Faults::begin(self.options, self.seed, self.job, &self.topics.rows);
        if !self.under_faults(&mut watch, &running, &mut faults)? {
            return Ok(None);
        }
        if running.generator.is_finished() {
            let ended = || Error::internal("the generator of rows has ended before it was stopped");
            return Err(running.generator.sent().err().unwrap_or_else(ended));
        }
        running.generator.stop();
        running.reader.all_written();
        let written_for = running.began.elapsed();
        let Some((is_complete, restarts)) = self.until_all_out(&mut watch, &running)? else {
            return Ok(None);
        };
        drop(watch);
        let Running { began, generator, reader, stable } = running;
        let sent = generator.sent()?;
        let first = reader.first();
        let (longest_block, longest_transaction) = (reader.longest_block(is_complete)?, stable.longest()?);
        if !is_complete {
            canceled(self.session, self.job)?;
        } else if !self.drain()? {
            return Ok(None);
        }
        let findings = self.audit(&sent)?;
        let ms = |duration: Duration| duration.as_millis() as u64;
        let exactly_once = findings.is_exactly_once();
        Ok(Some(Report {
            exactly_once,
            job: self.job,
            topics: [self.topics.rows.clone(), self.topics.counted.clone()],
            topics_kept: self.options.keep || !exactly_once,
            seed: self.seed,
            findings,
            unacknowledged: sent.refused.len() as u64,
            gave_up: !is_complete,
            faults: faults.made,
            restarts,
            first_row_after: first.map(|first| ms(first - began)),
            written_for: ms(written_for),
            longest_block: ms(longest_block.duration),
            longest_block_at: longest_block.since.zip(first).map(|(since, first)| ms(since - first)),
            longest_transaction: ms(longest_transaction),
        }))
    }

    /// Asks for the job again and again until a step says that the phase is over; false if it was interrupted.
    fn phase(
        &self,
        watch: &mut Watch,
        what: &str,
        running: &Running,
        mut is_over: impl FnMut(&JobDetails) -> Result<bool>,
    ) -> Result<bool> {
        watch.until(|progress| {
            if self.interrupt.is_requested() {
                return Ok(Some(false));
            }
            let details = self.session.details(self.job)?;
            if details.summary.state.is_over() {
                return Err(Error::job(unexpected_end(&details)));
            }
            let what = format!("{what}: job {}, attempt {}", details.summary.state, details.summary.attempt);
            let why = details.waits_for.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            progress.show(&what, &why, &running.rows());
            Ok(is_over(&details)?.then_some(true))
        })
    }

    fn until_first_row(&self, watch: &mut Watch, running: &Running) -> Result<bool> {
        self.phase(watch, "waiting for the first row", running, |details| {
            if running.began.elapsed() > PATIENCE {
                return Err(Error::job(no_row(details)));
            }
            Ok(running.generator.is_finished() || running.reader.first().is_some())
        })
    }

    fn under_faults(&self, watch: &mut Watch, running: &Running, faults: &mut Faults<'_>) -> Result<bool> {
        let until = Instant::now() + Duration::from_secs(self.options.seconds.into());
        self.phase(watch, "writing rows", running, |details| {
            // A generator that has ended by itself has failed.
            if running.generator.is_finished() || Instant::now() >= until {
                return Ok(true);
            }
            faults.make_due(details, self.interrupt).map(|()| false)
        })
    }

    /// Waits until all rows are out, or none has come for too long: whether all are, and how often the job has been restarted up to now.
    /// None if it was interrupted.
    fn until_all_out(&self, watch: &mut Watch, running: &Running) -> Result<Option<(bool, u32)>> {
        let (mut rows, mut last, mut is_complete, mut restarts) = (0, Instant::now(), false, 0);
        let goes_on = self.phase(watch, "waiting until all rows are out", running, |details| {
            restarts = details.restarts;
            let (written, out) = (running.generator.acknowledged(), running.reader.rows());
            is_complete = running.generator.is_finished() && out >= written;
            if out != rows || !running.generator.is_finished() {
                (rows, last) = (out, Instant::now());
            }
            Ok(is_complete || last.elapsed() > PATIENCE)
        })?;
        Ok(goes_on.then_some((is_complete, restarts)))
    }

    /// Has the job read its input to the end, and publish everything; for that it is restarted. False if it was interrupted.
    fn drain(&self) -> Result<bool> {
        let request = StopRequest { drain: true, target_directory: None };
        let mut watch = Watch::new();
        let triggered: Triggered = watch.until(|_| {
            self.session.client.post(&format!("/v1/jobs/{}/stop", self.job), &request).map(Some)
        })?;
        let details = watch.until(|progress| {
            if self.interrupt.is_requested() {
                return Ok(Some(None));
            }
            let over = stopped(self.session, self.job, &triggered, progress)?;
            Ok(over.map(|(details, _)| Some(details)))
        })?;
        match details {
            Some(details) if details.summary.state != JobState::Finished => {
                Err(Error::job(unexpected_end(&details)))
            }
            details => Ok(details.is_some()),
        }
    }

    fn audit(&self, sent: &Sent) -> Result<Findings> {
        let mut audit = Audit::default();
        self.topics.read(&self.topics.rows, |message| audit.went_in(message))?;
        self.topics.read(&self.topics.counted, |message| audit.came_out(message))?;
        Ok(audit.findings(sent.rows, &sent.refused))
    }
}

/// What to say about a job that has written nothing.
fn no_row(details: &JobDetails) -> String {
    let (id, state) = (details.summary.jid, details.summary.state);
    let why = match (&details.failure, &details.waits_for) {
        (Some(failure), _) => format!("; attempt {} has failed: {}", failure.attempt, failure.cause),
        (None, Some(waits_for)) => format!(": {waits_for}"),
        (None, None) => String::new(),
    };
    format!(
        "no row has come out in {} s; the job is {state}{why}\n'tidegate logs {id}' prints its log",
        PATIENCE.as_secs()
    )
}
