//! Runs a function with state and timers on one worker.
//!
//! Timers fire in *sweeps*. A sweep begins when event time (or the clock) has advanced, and calls the function for every
//! timer that is due, in order, including timers that are set meanwhile for a time that the sweep has not reached. A timer
//! that is set for a time that the sweep has passed waits for the next sweep, so that a timer that sets itself again for a
//! time that is due does not keep the step busy for ever. A sweep runs slice by slice between batches of records and may be
//! cut by a barrier: timers that have not fired are in the snapshot, and the sweep continues after the barrier ([`Sweep`]).
//! The watermark of the output stays before the timers that have not fired.
//!
//! At the end of the input, event time first advances to the highest that any partition has reached, as by any watermark.
//! Then comes the *end*: every timer that is still set fires, those of event time first. Timers that are set at the end are
//! not kept, since there is no time left at which they could fire. So the end is the same whatever the parallelism, and
//! however often it is interrupted.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tidegate_connector_api::{Record, RecordId};

use tidegate_protocol::Epoch;

use crate::checkpoint::collector::SnapshotParts;
use crate::dataflow::operator::{OpenContext, Operator};
use crate::dataflow::operator_chain::OperatorChain;
use crate::dataflow::outlet::{Outlet, Receiver};
use crate::dataflow::step_context::StepContext;
use crate::key::KeyFn;
use crate::key_context::{KeyContext, KeyTimers, Output, Times, ValueState};
use crate::keyed_process::KeyedProcess;
use crate::metrics::descriptors;
use crate::metrics::{Counter, Gauge};
use crate::operators::sweep::{Cut, Sweep};
use crate::state::store::{Rows, Store};
use crate::state::table::{Namespace, Table};
use crate::state::timers::{Due, Popped, Timers};
use crate::step::Step;
use crate::timer::{TimeDomain, Timer};
use crate::watermark::{Watermark, WatermarkUpdate};
use crate::window::NO_TIME;
use tidegate_protocol::Result;

/// Suffixes of the uid for the timers of the step.
pub(crate) const EVENT_TIMERS: &str = "#event-timers";
/// See [`EVENT_TIMERS`].
pub(crate) const PROCESSING_TIMERS: &str = "#processing-timers";

/// The name in a snapshot of the sweeps over timers of event time that the barrier has cut: a list of [`Cut`].
const CUT_SWEEPS: &str = "cut_sweeps";

/// See [`crate::KeyedStream::process`].
pub(crate) struct ProcessStep<F: KeyedProcess> {
    cx: StepContext,
    step: Arc<Step>,
    key: KeyFn<F::In, F::Key>,
    f: F,
    /// The source that is followed and whose records come here without an event time, if there is one.
    without_time: Option<String>,
    kept: Option<Kept<F::Key, F::State>>,
    /// The last watermark of the input.
    input: Watermark,
    watermark: i64,
    sweep: Sweep,
    /// The sweep over timers of processing time, and the time up to which they are due.
    clock_sweep: Sweep,
    clock: i64,
    end: End,
    /// The event time up to which all timers have fired.
    fired: i64,
    /// The event time for the snapshot: the watermark and, at the end of all input, the highest event time that any
    /// partition has reached, because a job that is started again may find more to read.
    event_time: i64,
    out: (Vec<F::Out>, Vec<Record<F::Out>>),
    side: (Vec<F::Side>, Vec<Record<F::Side>>),
    next: Outlet<F::Out>,
    next_side: Outlet<F::Side>,
    records: Counter,
    emitted: Counter,
    entries: Gauge,
    watermark_gauge: Gauge,
}

struct Kept<K, S> {
    store: Rc<Store>,
    table: Table<K, S>,
    event_timers: Timers<K>,
    processing_timers: Timers<K>,
}

/// The progress of a step at the end of all input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Its input goes on.
    NotYet,
    /// Event time is advancing to the highest that any partition has reached.
    Coming,
    /// The remaining timers of this kind fire.
    Firing(TimeDomain),
    /// All timers have fired.
    Over,
}

/// What the function is called for.
enum Call<T> {
    Record(T),
    Timer(Timer),
}

impl<F: KeyedProcess> ProcessStep<F> {
    pub(crate) fn new(
        chain: &Rc<OperatorChain>,
        step: &Arc<Step>,
        key: KeyFn<F::In, F::Key>,
        f: F,
        next: Outlet<F::Out>,
        next_side: Outlet<F::Side>,
    ) -> Self {
        Self {
            cx: StepContext::keyed(chain, step),
            step: step.clone(),
            key,
            f,
            without_time: None,
            kept: None,
            input: Watermark::UNKNOWN,
            watermark: i64::MIN,
            sweep: Sweep::default(),
            clock_sweep: Sweep::default(),
            clock: i64::MIN,
            end: End::NotYet,
            fired: i64::MIN,
            event_time: i64::MIN,
            out: Default::default(),
            side: Default::default(),
            next,
            next_side,
            records: chain.counter(step, descriptors::RECORDS_IN),
            emitted: chain.counter(step, descriptors::RECORDS_OUT),
            entries: chain.gauge(step, descriptors::STATE_ENTRIES),
            watermark_gauge: chain.gauge(step, descriptors::WATERMARK_MS),
        }
    }

    /// Records of this source, which is followed, come here without an event time.
    pub(crate) fn without_time(self, source: Option<String>) -> Self {
        Self { without_time: source, ..self }
    }

    fn call(&mut self, hash: u64, key: &F::Key, event_time: i64, now: i64, call: Call<F::In>) -> Result<()> {
        let Some(Kept { store, table, event_timers, processing_timers }) = &mut self.kept else {
            return Ok(());
        };
        let at = self.cx.key(key);
        let (slot, state) = table.take(store, hash, key)?;
        let has_ended = matches!(self.end, End::Firing(_) | End::Over);
        let (event, processing) = (event_timers, processing_timers);
        let watermark = (self.watermark > i64::MIN).then_some(self.watermark);
        let without_time = self.without_time.as_deref();
        let mut context = KeyContext {
            key,
            state: ValueState::new(state),
            out: Output::new(&mut self.out.0),
            side: Output::new(&mut self.side.0),
            timers: KeyTimers { key, hash, has_ended, without_time, event, processing, failed: None },
            time: Times { event_time, watermark, processing_time: now },
        };
        match call {
            Call::Record(record) => self.f.on_record(record, &mut context)?,
            Call::Timer(timer) => self.f.on_timer(timer, &mut context)?,
        }
        let KeyContext { state, timers: KeyTimers { failed, .. }, .. } = context;
        let (state, changed) = state.into_parts();
        table.put_back(store, slot, state, changed)?;
        let rec = |value| Record { timestamp: event_time, id: RecordId::key_hash(hash), value };
        self.out.1.extend(self.out.0.drain(..).map(rec));
        self.side.1.extend(self.side.0.drain(..).map(|value| Record {
            timestamp: event_time,
            id: RecordId::key_hash(hash),
            value,
        }));
        failed.map_or(Ok(()), Err)?;
        at.done();
        Ok(())
    }

    fn send(&mut self) {
        self.emitted.add(self.out.1.len() as u64);
        self.next.records(&mut self.out.1);
        self.next_side.records(&mut self.side.1);
    }

    fn process(&mut self, batch: &mut Vec<Record<F::In>>) -> Result<()> {
        let now = self.cx.chain.worker.process.clock.now_ms();
        self.records.add(batch.len() as u64);
        for record in batch.drain(..) {
            self.cx.record(&record);
            let Record { timestamp, id, value } = record;
            let key = self.key.with(&value, F::Key::clone);
            self.call(id.as_key_hash(), &key, timestamp, now, Call::Record(value))?;
        }
        self.send();
        Ok(())
    }

    /// Takes the next timer that is due, of either kind of time; None if there is none.
    fn next_due(&mut self) -> Result<Option<(TimeDomain, Popped)>> {
        let Some(kept) = &mut self.kept else { return Ok(None) };
        let (store, budget) = (&kept.store, &self.cx.chain.worker.budget);
        loop {
            if self.sweep.is_under_way() {
                let (last, waits) = (self.sweep.last(), |group, due: &Due| self.sweep.waits(group, due));
                if let Some(popped) = kept.event_timers.pop(store, budget, last, self.watermark, waits)? {
                    return Ok(Some((TimeDomain::Event, popped)));
                }
                self.sweep.end();
            } else if self.clock_sweep.is_under_way() {
                let last = self.clock_sweep.last();
                if let Some(popped) =
                    kept.processing_timers.pop(store, budget, last, self.clock, |_, _| false)?
                {
                    return Ok(Some((TimeDomain::Processing, popped)));
                }
                self.clock_sweep.end();
            } else {
                match self.end {
                    End::Coming => {
                        self.watermark = i64::MAX;
                        self.sweep.begin();
                        self.end = End::Firing(TimeDomain::Event);
                    }
                    End::Firing(TimeDomain::Event) => {
                        self.clock = i64::MAX;
                        self.clock_sweep.begin();
                        self.end = End::Firing(TimeDomain::Processing);
                    }
                    End::Firing(TimeDomain::Processing) => self.end = End::Over,
                    End::NotYet | End::Over => return Ok(None),
                }
            }
        }
    }

    /// Calls the function for up to `most` timers that are due, in order of time; returns for how many.
    fn run_timers(&mut self, most: usize) -> Result<usize> {
        let now = self.cx.chain.worker.process.clock.now_ms();
        let mut fired = 0;
        self.cx.enter();
        while fired < most {
            let Some((time, popped)) = self.next_due()? else { break };
            fired += 1;
            let due = match popped {
                Popped::Due(due) => due,
                Popped::Waits(due) => {
                    self.sweep.passed(due);
                    continue;
                }
            };
            let (at, hash) = (due.at, due.hash);
            self.cx.record(&Record { timestamp: at, id: RecordId::key_hash(hash), value: () });
            // The least of all times stands for no event time.
            let event_time = at.max(NO_TIME + 1);
            self.call(hash, &due.key()?, event_time, now, Call::Timer(Timer { at, domain: time }))?;
            match time {
                TimeDomain::Event => self.sweep.passed(due),
                TimeDomain::Processing => self.clock_sweep.passed(due),
            }
        }
        self.send();
        Ok(fired)
    }

    /// Advances event time to that of the input.
    fn advance(&mut self, input: Watermark) {
        let time = if input.is_ended() { input.furthest() } else { input.time() };
        if input.is_ended() && self.end == End::NotYet {
            self.end = End::Coming;
        }
        if time > self.watermark {
            (self.watermark, self.event_time) = (time, time);
            self.watermark_gauge.set(time);
            self.sweep.begin();
        }
    }

    /// The watermark of the output for a watermark of the input: it stays before the times of timers that have not fired
    /// yet.
    fn output(&mut self, input: Watermark) -> Watermark {
        if !self.is_due() {
            self.fired = self.event_time;
            return input.of_output(self.event_time);
        }
        if let Some(last) = self.sweep.last() {
            self.fired = self.fired.max(last.at.saturating_sub(1)).min(self.event_time);
        }
        Watermark::firing(self.fired)
    }

    fn say(&mut self) {
        let update = WatermarkUpdate::Now(self.output(self.input));
        self.next.watermark(update);
        self.next_side.watermark(update);
    }
}

impl<F: KeyedProcess> Receiver<F::In> for ProcessStep<F> {
    fn records(&mut self, batch: &mut Vec<Record<F::In>>) {
        self.cx.enter();
        let result = self.process(batch);
        self.cx.or_fail(result);
    }

    fn watermark(&mut self, update: WatermarkUpdate) {
        match update {
            WatermarkUpdate::Now(input) => {
                self.input = input;
                self.advance(input);
                self.say();
            }
            WatermarkUpdate::NextEpoch(input) => {
                let update = WatermarkUpdate::NextEpoch(self.output(input));
                self.next.watermark(update);
                self.next_side.watermark(update);
            }
        }
    }
}

impl<F: KeyedProcess> Operator for ProcessStep<F> {
    fn open(&mut self, context: &OpenContext<'_>) -> Result<()> {
        let uid = self.step.uid();
        let (store, operator) = context.store(&uid)?;
        let timers = |suffix| -> Result<Timers<F::Key>> {
            let uid = format!("{uid}{suffix}");
            Ok(Timers::new(context.store(&uid)?.1, context.has_state(&uid)))
        };
        let place = Namespace { operator, namespace: 0 };
        self.kept = Some(Kept {
            table: Table::new(place, context.process.setup.first_epoch.0, context.has_state(&uid)),
            event_timers: timers(EVENT_TIMERS)?,
            processing_timers: timers(PROCESSING_TIMERS)?,
            store,
        });
        self.watermark = context.restored_watermark(&uid);
        self.watermark_gauge.set(self.watermark);
        (self.event_time, self.fired) = (self.watermark, i64::MIN);
        self.resume_sweep(context)
    }

    fn barrier(&mut self, epoch: Epoch, parts: &mut SnapshotParts) -> Result<()> {
        if let Some(kept) = &mut self.kept {
            kept.table.barrier(&kept.store, epoch.0 + 1)?;
            kept.event_timers.barrier(&kept.store, epoch.0, &mut parts.rows)?;
            kept.processing_timers.barrier(&kept.store, epoch.0, &mut parts.rows)?;
        }
        // Timers that fire at the end of the input need no cut: those that are left fire at the end again after a restart,
        // and the sweep over timers that a watermark made due is finished by then.
        if let Some(kept) = self.kept.as_ref().filter(|_| !matches!(self.end, End::Firing(_))) {
            let cuts = self.sweep.cut(kept.store.owned.clone());
            if !cuts.is_empty() {
                parts.keep(&self.step.uid(), CUT_SWEEPS, serde_json::to_value(cuts)?);
            }
        }
        parts.operator(&self.step.uid()).watermark = (self.event_time > i64::MIN).then_some(self.event_time);
        Ok(())
    }

    fn copy(&mut self, rows: &mut Rows, until: Option<Instant>) -> Result<bool> {
        let Some(kept) = &mut self.kept else { return Ok(true) };
        kept.table.copy(&kept.store, rows, until)
    }

    fn next_timer(&self) -> Option<i64> {
        // After the end of the input time does not advance; timers that are due already fire without the clock.
        let waits = self.end == End::NotYet && !self.clock_sweep.is_under_way();
        self.kept.as_ref().filter(|_| waits).and_then(|kept| kept.processing_timers.next_at())
    }

    fn on_processing_time(&mut self, now: i64) {
        if self.next_timer().is_some_and(|at| at <= now) {
            self.clock = self.clock.max(now);
            self.clock_sweep.begin();
        }
    }

    fn is_due(&self) -> bool {
        self.clock_sweep.is_under_way() || self.holds_records_back()
    }

    fn holds_records_back(&self) -> bool {
        self.sweep.is_under_way() || matches!(self.end, End::Coming | End::Firing(_))
    }

    fn fire(&mut self, most: usize) -> usize {
        let fired = self.run_timers(most);
        let fired = self.cx.or_fail(fired).unwrap_or(0);
        self.say();
        fired
    }

    fn maintain(&mut self) -> Result<()> {
        if let Some(kept) = &mut self.kept {
            let budget = &self.cx.chain.worker.budget;
            kept.table.keep_to(budget, &kept.store)?;
            kept.event_timers.keep_to(budget, &kept.store)?;
            kept.processing_timers.keep_to(budget, &kept.store)?;
            self.entries.set(kept.table.in_memory() as i64);
        }
        Ok(())
    }
}

impl<F: KeyedProcess> ProcessStep<F> {
    /// Resumes a sweep that the barrier of the restored snapshot has cut on some worker.
    fn resume_sweep(&mut self, context: &OpenContext<'_>) -> Result<()> {
        let uid = self.step.uid();
        let mut cuts: Vec<Cut> = Vec::new();
        for list in context.restored(&uid).filter_map(|part| part.extra.get(CUT_SWEEPS)) {
            cuts.extend(serde_json::from_value::<Vec<Cut>>(list.clone())?);
        }
        if let Some(kept) = &self.kept {
            self.sweep.resume(&cuts, kept.store.owned.clone());
        }
        Ok(())
    }
}
