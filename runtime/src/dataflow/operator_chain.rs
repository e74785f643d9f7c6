//! One operator chain: the stages, operators and sinks between two exchanges, run as one timely operator.
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

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_protocol::Epoch;
use timely::dataflow::operators::Capability;
use timely::progress::frontier::MutableAntichain;

use super::alarm::Alarm;
use super::error_site::ErrorSite;
use super::pace::Pace;
use super::port::{InputPort, OutputPort};
use super::timestamp::{Timestamp, start_of};
use crate::activity::Alignment;
use crate::dataflow::operator::{OpenContext, Operator, WatermarkGenerator};
use crate::dataflow::worker_context::WorkerContext;
use crate::metrics::descriptors::{self, Descriptor};
use crate::metrics::{Counter, Gauge, Stopwatch};
use crate::panics::panic_text;
use crate::step::{Step, StepKind};
use tidegate_protocol::{Error, ErrorContext, Result};

/// The least time for which an operator chain copies rows of the last barrier before it processes records again.
const COPY_TIME: Duration = Duration::from_millis(1);
/// The time for which an operator chain processes records before other operators of the worker are scheduled.
const PULL_TIME: Duration = Duration::from_millis(5);
/// How long to wait for the receivers to process what was sent.
const WAIT_FOR_RECEIVERS: Duration = Duration::from_micros(100);

/// The state that everything inside one operator chain shares.
pub(crate) struct OperatorChain {
    pub(crate) id: usize,
    /// The name of the source that it reads, or of the step with state that it begins with.
    name: String,
    pub(crate) worker: Rc<WorkerContext>,
    pub(crate) site: ErrorSite,
    operators: RefCell<Vec<Rc<RefCell<dyn Operator>>>>,
    counters: RefCell<Vec<Counter>>,
    /// In microseconds: the time that the operator chain has worked, the time that it has waited for its records to be
    /// processed downstream, and the time from the last trigger to the chain's barrier.
    busy: Stopwatch,
    blocked: Gauge,
    alignment: Arc<Alignment>,
    /// The watermark generators of this operator chain's source; None for an operator chain without a source.
    generators: Option<RefCell<Vec<Rc<RefCell<dyn WatermarkGenerator>>>>>,
}

impl OperatorChain {
    pub(crate) fn new(id: usize, name: &str, worker: Rc<WorkerContext>, reads_source: bool) -> Self {
        let step = Step::new(StepKind::Chain, name);
        let (slot, process) = (worker.slot, &worker.process);
        let gauge = |metric| process.metrics.gauge(&step, metric, slot);
        let blocked = gauge(descriptors::BLOCKED_MICROSECONDS);
        if reads_source {
            blocked.set(0);
        }
        let before_first = process.setup.epoch_before();
        let alignment = Alignment::new(gauge(descriptors::ALIGNMENT_MICROSECONDS), before_first);
        process.activities.add_alignment(slot, alignment.clone());
        Self {
            busy: process.metrics.stopwatch(&step, descriptors::BUSY_MICROSECONDS, slot),
            blocked,
            alignment,
            site: ErrorSite::new(process.activities.activity(slot)),
            generators: reads_source.then(RefCell::default),
            id,
            name: name.to_owned(),
            worker,
            operators: RefCell::default(),
            counters: RefCell::default(),
        }
    }

    pub(crate) fn add(&self, operator: Rc<RefCell<dyn Operator>>) {
        self.operators.borrow_mut().push(operator);
    }

    /// Adds a watermark generator; false if this operator chain does not read a source.
    pub(crate) fn add_generator(&self, generator: Rc<RefCell<dyn WatermarkGenerator>>) -> bool {
        let Some(generators) = &self.generators else { return false };
        generators.borrow_mut().push(generator);
        true
    }

    /// Calls `each` with every watermark generator.
    pub(crate) fn generators(&self, mut each: impl FnMut(&mut dyn WatermarkGenerator)) {
        for generator in self.generators.iter().flat_map(|g| g.borrow().clone()) {
            each(&mut *generator.borrow_mut());
        }
    }

    /// A counter of a step; its value is part of the snapshot.
    pub(crate) fn counter(&self, step: &Arc<Step>, metric: Descriptor) -> Counter {
        let counter = self.worker.process.metrics.counter(step, metric, self.worker.slot);
        self.counters.borrow_mut().push(counter.clone());
        counter
    }

    /// A gauge of a step.
    pub(crate) fn gauge(&self, step: &Arc<Step>, metric: Descriptor) -> Gauge {
        self.worker.process.metrics.gauge(step, metric, self.worker.slot)
    }

    /// Ends the job with an error that user code returned.
    #[cold]
    pub(crate) fn fail(&self, error: Error) {
        self.worker.process.driver.fail(error);
    }

    /// Opens all operators; before the first record.
    pub(crate) fn open(&self) -> Result<()> {
        let process = &*self.worker.process;
        let context = OpenContext { worker: &self.worker, process };
        for counter in self.counters.borrow().iter() {
            if self.worker.slot.0 == 0 {
                let uid = counter.step().uid();
                let parts = context.restored(&uid);
                counter.set(parts.filter_map(|part| part.counters.get(counter.name())).sum());
            }
        }
        let operators = self.operators.borrow().clone();
        let opened = operators.iter().try_for_each(|operator| operator.borrow_mut().open(&context));
        self.site.leave();
        opened
    }

    /// Drops all operators and generators. They hold references to the operator chain: without this neither would ever be
    /// freed, and the worker's store would not be closed.
    pub(crate) fn close(&self) {
        self.operators.take();
        if let Some(generators) = &self.generators {
            generators.take();
        }
    }

    /// Adds the operator chain's part to the snapshot that ends `epoch`.
    pub(crate) fn barrier(&self, epoch: Epoch) -> Result<()> {
        self.site.leave();
        self.alignment.passed(epoch, self.worker.instructions());
        let operators = self.operators.borrow().clone();
        self.worker.collector()?.arrive(self.id, epoch, |parts| {
            for counter in self.counters.borrow().iter() {
                let step = parts.operator(&counter.step().uid());
                step.counters.insert(counter.name().to_owned(), counter.get());
            }
            operators.iter().try_for_each(|operator| {
                let done = operator.borrow_mut().barrier(epoch, parts);
                self.site.leave();
                done
            })
        })
    }

    /// True if rows of the last barrier are still to be copied.
    fn is_copying(&self) -> bool {
        self.worker.barriers.is_copying(self.id)
    }

    /// Copies rows of the last barrier until it is time to stop.
    fn copy(&self, until: Option<Instant>) -> Result<()> {
        self.site.leave();
        let operators = self.operators.borrow().clone();
        self.worker.collector()?.copy(self.id, |rows| {
            for operator in &operators {
                if !operator.borrow_mut().copy(rows, until).context(|| self.with_state())? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// True if timers or windows are due that have not fired yet.
    fn is_due(&self) -> bool {
        self.operators.borrow().iter().any(|operator| operator.borrow().is_due())
    }

    /// True if records have to wait for what is due.
    fn holds_records_back(&self) -> bool {
        self.operators.borrow().iter().any(|operator| operator.borrow().holds_records_back())
    }

    /// Fires what is due for about `most` records; returns for how many user code was called.
    fn fire(&self, most: usize) -> usize {
        let operators = self.operators.borrow();
        let due = operators.iter().find(|operator| operator.borrow().is_due());
        due.map_or(0, |operator| operator.borrow_mut().fire(most))
    }

    /// Adds time in which the operator chain has waited for its records to be processed downstream.
    pub(crate) fn add_blocked(&self, time: Duration) {
        self.blocked.add(time.as_micros() as i64);
    }

    fn maintain(&self) -> Result<()> {
        self.site.leave();
        let operators = self.operators.borrow();
        operators.iter().try_for_each(|e| e.borrow_mut().maintain().context(|| self.with_state()))
    }

    /// Names the step of this operator chain that has state, for errors that occur while no record is being processed.
    fn with_state(&self) -> String {
        format!("step '{}'", self.name)
    }

    /// Runs timers of processing time that are due; returns how long until the next one.
    fn run_timers(&self) -> Option<Duration> {
        let next = || self.operators.borrow().iter().filter_map(|e| e.borrow().next_timer()).min();
        let first = next()?;
        let clock = &self.worker.process.clock;
        let now = clock.now_ms();
        if first <= now {
            for operator in self.operators.borrow().iter() {
                operator.borrow_mut().on_processing_time(now);
            }
        }
        // A clock that a test moves does not wake the worker: check again soon.
        let wait = if clock.ticks() { next()?.saturating_sub(now).clamp(1, 60_000) } else { 1 };
        Some(Duration::from_millis(wait as u64))
    }
}

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
    /// Sends what the chain has emitted.
    pub(crate) fn flush(&mut self, close: bool) {
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

/// Runs user code; an error or a panic becomes the end of the job.
pub(crate) fn guarded(chain: &OperatorChain, work: impl FnOnce() -> Result<()>) {
    chain.busy.start(Instant::now());
    let result = catch_unwind(AssertUnwindSafe(work));
    chain.busy.stop(Instant::now());
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => chain.fail(error),
        Err(panic) => {
            chain.fail(chain.site.error(panic_text(&*panic)));
        }
    }
    chain.site.leave();
}
