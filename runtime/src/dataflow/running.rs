//! An operator chain as one timely operator.
//!
//! Timers and windows that a watermark, the clock or the end of the input makes due fire slice by slice
//! ([`Operator::fire`]), and no faster than the receivers process the output. While any of event time are due, records
//! wait, and so do the sources by backpressure. Only if a barrier has been triggered are the records before it processed
//! first, and what is due waits for the barrier. What the clock makes due alternates with records, because the clock
//! advances however long records wait.
//!
//! An operator chain has inputs and outputs ([`super::port`]), and one capability per output, which follows the input
//! frontier. Batches of the running epoch go through the chain as they arrive, for a few milliseconds at a time, because
//! the sources of the worker have to be scheduled too; those of later epochs wait in a stash. When the frontier passes the
//! end of the epoch, that is the barrier: every operator adds its part to the snapshot, the capabilities move to the next
//! epoch, and the batches in the stash are processed next. An empty frontier is a barrier too. Rows of state are copied
//! step by step after the barrier, between batches of the next epoch.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tidegate_protocol::{Epoch, Result};
use timely::dataflow::operators::Capability;
use timely::progress::frontier::MutableAntichain;

use super::alarm::Alarm;
use super::operator_chain::{OperatorChain, guarded};
use super::pace::Pace;
use super::port::{InputPort, OutputPort};
use super::timestamp::{Timestamp, start_of};

/// The least time for which an operator chain copies rows of the last barrier before it processes records again.
const COPY_TIME: Duration = Duration::from_millis(1);
/// The time for which an operator chain processes records before other operators of the worker are scheduled.
const PULL_TIME: Duration = Duration::from_millis(5);
/// How long to wait for the receivers to process what was sent.
const WAIT_FOR_RECEIVERS: Duration = Duration::from_micros(100);

/// An operator chain at run time, with its ports and capabilities.
pub(crate) struct Running {
    pub(crate) chain: Rc<OperatorChain>,
    pub(crate) inputs: Vec<Box<dyn InputPort>>,
    pub(crate) outputs: Vec<Box<dyn OutputPort>>,
    /// One an output; empty after the last epoch.
    pub(crate) capabilities: Vec<Capability<Timestamp>>,
    pub(crate) alarm: Alarm,
    /// The running epoch, counted from the start of the attempt.
    pub(crate) epoch: u64,
    /// How long the last round's records took.
    pub(crate) took: Duration,
    /// How many records of what is due are fired at a time.
    pub(crate) pace: Pace,
    /// True once its input has ended and nothing is due any more.
    pub(crate) has_ended: bool,
}

impl Running {
    /// Sends what the chain has emitted; with `close` also what waits for more records, unless a combiner may hold it longer.
    pub(crate) fn flush(&mut self, close: bool) {
        if close {
            self.chain.combiners(|combiner| combiner.emit_due());
        }
        for (output, capability) in self.outputs.iter_mut().zip(&self.capabilities) {
            output.flush(capability, close);
        }
    }

    pub(crate) fn downgrade(&mut self, to: Timestamp) {
        for capability in &mut self.capabilities {
            if *capability.time() < to {
                capability.downgrade(&to);
            }
        }
    }

    /// The running epoch as the job counts it.
    pub(crate) fn job_epoch(&self) -> Epoch {
        Epoch(self.chain.worker.process.setup.first_epoch.0 + self.epoch)
    }

    /// Ends the running epoch: sends all batches, adds the chain's part to the snapshot and moves the capabilities to the
    /// next epoch.
    pub(crate) fn end_epoch(&mut self) -> Result<()> {
        self.chain.combiners(|combiner| combiner.emit_all());
        self.flush(true);
        let epoch = self.job_epoch();
        self.chain.barrier(epoch)?;
        if self.chain.worker.instructions().last_epoch() == Some(epoch) {
            // No records follow that would have to wait for the copying.
            self.chain.copy(None)?;
            self.capabilities.clear();
        }
        self.go_on_copying()?;
        self.epoch += 1;
        self.downgrade(start_of(self.epoch));
        Ok(())
    }

    /// Copies a few rows of the last barrier, if there are any left.
    pub(crate) fn go_on_copying(&mut self) -> Result<()> {
        if self.chain.is_copying() {
            // At least for as long as the last records took: the rows that they change are copied next and must not
            // accumulate.
            self.chain.copy(Some(Instant::now() + COPY_TIME.max(self.took)))?;
            if self.chain.is_copying() {
                self.alarm.now();
            }
        }
        Ok(())
    }

    /// One round of an operator's work.
    fn round(&mut self, frontier: Option<Timestamp>) -> Result<()> {
        self.go_on_copying()?;
        let began = Instant::now();
        let is_barrier_near = self.chain.worker.instructions().triggered() >= self.job_epoch();
        let mut is_behind = false;
        let has_pulled = is_barrier_near || !self.chain.holds_records_back();
        if has_pulled {
            for input in &mut self.inputs {
                is_behind |= !input.pull(self.epoch, began + PULL_TIME);
            }
        }
        self.took = began.elapsed();
        if is_behind {
            self.alarm.now();
        }
        if !is_barrier_near || self.chain.worker.instructions().last_epoch() == Some(self.job_epoch()) {
            // What is due waits for a barrier, but a barrier does not wait for what is due. The last barrier is an
            // exception: what is left after it would fire only when the job is started again.
            self.fire();
        }
        self.chain.maintain()?;
        self.flush(true);
        let before = self.epoch;
        while self.has_passed(frontier) {
            self.inputs.iter_mut().for_each(|input| input.announce());
            self.end_epoch()?;
            self.inputs.iter_mut().for_each(|input| input.pass_barrier());
            self.alarm.now();
        }
        if self.epoch > before && !self.capabilities.is_empty() {
            // However soon the next barrier is triggered, some of what is due fires in every epoch.
            self.fire();
        }
        if let Some(time) = frontier {
            self.downgrade(time);
        }
        // While records wait, the clock does not make anything due either.
        let next_timer = if has_pulled { self.chain.run_timers() } else { None };
        if self.chain.is_due() {
            self.alarm.after(WAIT_FOR_RECEIVERS);
            return Ok(());
        }
        if let Some(wait) = next_timer {
            self.alarm.after(wait);
        }
        if !has_pulled {
            self.alarm.now();
        } else if !self.has_ended && self.inputs.iter().all(|input| input.is_ended()) {
            self.has_ended = true;
            self.chain.worker.chain_ended();
        }
        Ok(())
    }

    /// Fires what is due for a limited time, as long as the receivers keep up.
    fn fire(&mut self) {
        let until = Instant::now() + PULL_TIME;
        let mut began = Instant::now();
        while began < until && self.chain.is_due() {
            let room = self.outputs.iter().map(|output| output.room()).min().unwrap_or(usize::MAX);
            let records = self.pace.records().min(room);
            if records == 0 {
                return;
            }
            self.outputs.iter_mut().for_each(|output| output.before_firing());
            let fired = self.chain.fire(records);
            self.outputs.iter_mut().for_each(|output| output.has_fired(fired));
            self.flush(false);
            let now = Instant::now();
            self.pace.took(fired, now - began);
            began = now;
        }
    }

    /// True if no more records of the running epoch can arrive, and the epoch ends with a barrier.
    fn has_passed(&self, frontier: Option<Timestamp>) -> bool {
        match frontier {
            Some(time) => time >= start_of(self.epoch + 1),
            // Sources drop their capabilities only in the last epoch that the driver triggered.
            None => {
                let last = self.chain.worker.instructions().last_epoch();
                !self.capabilities.is_empty() && last.is_some_and(|last| self.job_epoch() <= last)
            }
        }
    }

    /// What timely calls; a panic or an error ends the job.
    pub(crate) fn schedule(&mut self, frontiers: &[MutableAntichain<Timestamp>]) {
        if self.chain.worker.process.driver.is_aborted() || self.capabilities.is_empty() {
            return;
        }
        let frontier = frontiers.iter().filter_map(|f| f.frontier().first().copied()).min();
        let chain = self.chain.clone();
        guarded(&chain, || self.round(frontier));
    }
}
