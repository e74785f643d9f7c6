//! One operator chain: the stages, operators and sinks between two exchanges, and the state that they share. How it runs as one
//! timely operator is in [`super::running`].

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_protocol::Epoch;

use super::error_site::ErrorSite;
use crate::activity::Alignment;
use crate::dataflow::operator::{Combiner, OpenContext, Operator, WatermarkGenerator};
use crate::dataflow::worker_context::WorkerContext;
use crate::metrics::descriptors::{self, Descriptor};
use crate::metrics::{Counter, Gauge, Stopwatch};
use crate::step::{Step, StepKind};
use tidegate_protocol::{Error, ErrorContext, Result};

/// The state that everything inside one operator chain shares.
pub(crate) struct OperatorChain {
    pub(crate) id: usize,
    /// The name of the source that it reads, or of the step with state that it begins with.
    name: String,
    pub(crate) worker: Rc<WorkerContext>,
    pub(crate) site: ErrorSite,
    operators: RefCell<Vec<Rc<RefCell<dyn Operator>>>>,
    combiners: RefCell<Vec<Rc<RefCell<dyn Combiner>>>>,
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
        let activity = process.activities.activity(slot);
        let alignment =
            Alignment::new(gauge(descriptors::ALIGNMENT_MICROSECONDS), activity.clone(), before_first);
        process.activities.add_alignment(alignment.clone());
        Self {
            busy: process.metrics.stopwatch(&step, descriptors::BUSY_MICROSECONDS, slot),
            blocked,
            alignment,
            site: ErrorSite::new(activity),
            generators: reads_source.then(RefCell::default),
            id,
            name: name.to_owned(),
            worker,
            operators: RefCell::default(),
            combiners: RefCell::default(),
            counters: RefCell::default(),
        }
    }

    pub(crate) fn add(&self, operator: Rc<RefCell<dyn Operator>>) {
        self.operators.borrow_mut().push(operator);
    }

    pub(crate) fn add_combiner(&self, combiner: Rc<RefCell<dyn Combiner>>) {
        self.combiners.borrow_mut().push(combiner);
    }

    /// Calls `each` with every combiner.
    pub(super) fn combiners(&self, mut each: impl FnMut(&mut dyn Combiner)) {
        for combiner in self.combiners.borrow().iter() {
            each(&mut *combiner.borrow_mut());
        }
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

    /// Drops all operators, combiners and generators. They hold references to the operator chain: without this neither would ever be
    /// freed, and the worker's store would not be closed.
    pub(crate) fn close(&self) {
        self.operators.take();
        self.combiners.take();
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
    pub(super) fn is_copying(&self) -> bool {
        self.worker.barriers.is_copying(self.id)
    }

    /// Copies rows of the last barrier until it is time to stop.
    pub(super) fn copy(&self, until: Option<Instant>) -> Result<()> {
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
    pub(super) fn is_due(&self) -> bool {
        self.operators.borrow().iter().any(|operator| operator.borrow().is_due())
    }

    /// True if records have to wait for what is due.
    pub(super) fn holds_records_back(&self) -> bool {
        self.operators.borrow().iter().any(|operator| operator.borrow().holds_records_back())
    }

    /// Fires what is due for about `most` records; returns for how many user code was called.
    pub(super) fn fire(&self, most: usize) -> usize {
        let operators = self.operators.borrow();
        let due = operators.iter().find(|operator| operator.borrow().is_due());
        due.map_or(0, |operator| operator.borrow_mut().fire(most))
    }

    /// Adds time in which the operator chain has waited for its records to be processed downstream.
    pub(crate) fn add_blocked(&self, time: Duration) {
        self.blocked.add(time.as_micros() as i64);
    }

    pub(super) fn maintain(&self) -> Result<()> {
        self.site.leave();
        let operators = self.operators.borrow();
        operators.iter().try_for_each(|e| e.borrow_mut().maintain().context(|| self.with_state()))
    }

    /// Names the step of this operator chain that has state, for errors that occur while no record is being processed.
    pub(super) fn with_state(&self) -> String {
        format!("step '{}'", self.name)
    }

    /// Runs timers of processing time that are due; returns how long until the next one.
    pub(super) fn run_timers(&self) -> Option<Duration> {
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

/// Runs user code; an error or a panic becomes the end of the job.
pub(crate) fn guarded(chain: &OperatorChain, work: impl FnOnce() -> Result<()>) {
    chain.busy.start(Instant::now());
    let result = catch_unwind(AssertUnwindSafe(work));
    chain.busy.stop(Instant::now());
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => chain.fail(error),
        Err(panic) => chain.fail(chain.site.error_of_panic(&*panic)),
    }
    chain.site.leave();
}
