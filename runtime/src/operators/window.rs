//! Windows by key: one table a window, which fires as a whole when the watermark passes its end.
//!
//! The window of the last record is at the front of the list, so that most records cost one lookup. A window that opens and
//! closes between two barriers is written to the store only if memory is short; a window that was stored is deleted there
//! as a whole.
//!
//! A window that is due fires slice by slice, between batches of records, and a barrier may come in between: results that
//! have been emitted are no longer in the snapshot, and the rest fires after a restart. The watermark of the output stays
//! before the end of the windows that have not fired completely. With allowed lateness an entry that has fired moves to a
//! second table, which has an operator number of its own in the store, so that every single entry shows whether it has
//! fired, whichever worker its key group moves to.
//!
//! Not here: session windows. Theirs are windows of a key, which are merged; see `super::process` for state by key with timers.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tidegate_connector_api::{Record, RecordId};

use tidegate_protocol::Epoch;

use crate::aggregates::Aggregate;
use crate::checkpoint::collector::SnapshotParts;
use crate::dataflow::operator::{OpenContext, Operator};
use crate::dataflow::operator_chain::OperatorChain;
use crate::dataflow::outlet::{Outlet, Receiver};
use crate::dataflow::step_context::StepContext;
use crate::key::{Key, KeyFn};
use crate::metrics::descriptors;
use crate::metrics::{Counter, Gauge};
use crate::state::store::{Rows, Store};
use crate::state::table::{self, Table};
use crate::step::Step;
use crate::watermark::{Watermark, WatermarkUpdate};
use crate::window::{NO_TIME, Windowed, Windows};
use tidegate_protocol::{Error, Result};

/// Suffix of the uid for entries that have fired and wait for late records.
pub(crate) const FIRED: &str = "#fired";
/// The names in a snapshot of the windows with entries that have not fired, and of the windows with entries that have.
const UNFIRED_WINDOWS: &str = "unfired";
/// See [`UNFIRED_WINDOWS`].
const FIRED_WINDOWS: &str = "fired";
/// The name of the windows in a snapshot of the first version, which holds whether each of them had fired as a whole.
const WINDOWS_V1: &str = "windows";
/// The name in a snapshot of the latest processing time that a worker has seen; absent for windows of event time.
const NEWEST_TIME: &str = "newest_time";

/// See [`crate::api::WindowedStream::aggregate`].
pub(crate) struct WindowStep<K, T, A: Aggregate<T>> {
    cx: StepContext,
    step: Arc<Step>,
    key: KeyFn<T, K>,
    windows: Windows,
    lateness_ms: i64,
    aggregate: A,
    panes: Vec<Pane<K, A::Acc>>,
    /// Windows that have fired since the last barrier and of which the store has rows, with the operator in the store.
    gone: Vec<(u16, i64)>,
    /// True if a window is to be fired or dropped.
    has_due: bool,
    /// The event time or processing time up to which windows are due.
    due_to: i64,
    spare: Option<Table<K, A::Acc>>,
    /// Rows of the last barrier that belong to windows which were dropped before all of their rows were copied.
    left_behind: Rows,
    /// The last watermark of the input.
    input: Watermark,
    watermark: i64,
    /// The event time up to which all windows have fired.
    fired_to: i64,
    /// The event time for the snapshot: the watermark and, at the end of all input, the time at which the last window
    /// closes that a record of the input can be in, because a job that is started again may find more to read.
    event_time: i64,
    /// The latest processing time seen, by any worker before a restart.
    newest_time: i64,
    store: Option<(Rc<Store>, u16)>,
    /// The operator number in the store of entries that have fired, with allowed lateness.
    fired_operator: u16,
    epoch: u64,
    out: Vec<Record<Windowed<K, A::Out>>>,
    next: Outlet<Windowed<K, A::Out>>,
    late_to: Option<Outlet<T>>,
    late: Counter,
    records: Counter,
    partials: Option<Partials<T>>,
    emitted: Counter,
    watermark_gauge: Gauge,
    entries: Gauge,
}

/// One window.
struct Pane<K, V> {
    start: i64,
    phase: PanePhase,
    /// The entries that have not fired; None in the phase `Waiting`.
    unfired: Option<Part<K, V>>,
    /// The entries that have fired and wait for late records.
    fired: Option<Part<K, V>>,
}

impl<K, V> Pane<K, V> {
    fn parts(&mut self) -> impl Iterator<Item = &mut Part<K, V>> {
        self.unfired.iter_mut().chain(&mut self.fired)
    }
}

/// The entries of a window that have, or have not, fired.
struct Part<K, V> {
    table: Table<K, V>,
    operator: u16,
    /// True if the store has rows of it.
    stored: bool,
}

impl<K: Key, V: crate::state::table::Value> Part<K, V> {
    fn is_in_store(&self) -> bool {
        self.stored || self.table.is_in_store()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PanePhase {
    /// It is not due.
    Filling,
    /// It is due, and being emptied.
    Firing,
    /// It has fired and waits for late records.
    Waiting,
}

/// Where a record goes.
enum Target {
    /// Into the window at the front.
    Filling,
    /// Into the window at the front, which is due or has fired.
    Fired,
    /// Nowhere: the window is over.
    Nowhere,
}

/// The parameters of a window step.
pub(crate) struct WindowDef<K, T, A: Aggregate<T>> {
    pub(crate) key: KeyFn<T, K>,
    pub(crate) windows: Windows,
    pub(crate) lateness_ms: i64,
    pub(crate) aggregate: A,
    pub(crate) next: Outlet<Windowed<K, A::Out>>,
    pub(crate) late_to: Option<Outlet<T>>,
    /// How many records of the stream a record of this step stands for, if it is a partial result.
    pub(crate) records_of: Option<fn(&T) -> u64>,
}

/// For a step whose records are partial results: how many records each stands for, and the counter of partial results.
struct Partials<T> {
    records_of: fn(&T) -> u64,
    taken: Counter,
}

impl<K: Key, T: 'static, A: Aggregate<T>> WindowStep<K, T, A> {
    pub(crate) fn new(chain: &Rc<OperatorChain>, step: &Arc<Step>, def: WindowDef<K, T, A>) -> Self {
        Self {
            cx: StepContext::keyed(chain, step),
            step: step.clone(),
            key: def.key,
            windows: def.windows,
            lateness_ms: def.lateness_ms,
            aggregate: def.aggregate,
            panes: Vec::new(),
            gone: Vec::new(),
            has_due: false,
            due_to: i64::MIN,
            spare: None,
            left_behind: Rows::default(),
            input: Watermark::UNKNOWN,
            watermark: i64::MIN,
            fired_to: i64::MIN,
            event_time: i64::MIN,
            newest_time: i64::MIN,
            store: None,
            fired_operator: 0,
            epoch: 0,
            out: Vec::new(),
            next: def.next,
            late_to: def.late_to,
            late: chain.counter(step, descriptors::LATE),
            records: chain.counter(step, descriptors::RECORDS_IN),
            partials: def.records_of.map(|records_of| {
                let taken = chain.counter(step, descriptors::PARTIALS_IN);
                Partials { records_of, taken }
            }),
            emitted: chain.counter(step, descriptors::RECORDS_OUT),
            watermark_gauge: chain.gauge(step, descriptors::WATERMARK_MS),
            entries: chain.gauge(step, descriptors::STATE_ENTRIES),
        }
    }

    /// The watermark from which on a window ending at `end` takes no record any more.
    fn closes_at(&self, end: i64) -> i64 {
        (end - 1).saturating_add(self.lateness_ms)
    }

    fn is_late(&self, end: i64) -> bool {
        !self.windows.processing_time && self.closes_at(end) <= self.watermark
    }

    /// Brings the window that begins at `start` to the front.
    #[cold]
    #[inline(never)]
    fn bring(&mut self, start: i64) -> Result<Target> {
        let end = self.windows.window(start).end;
        if start == NO_TIME {
            return Err(Error::job(
                "a record has no event time; put .event_time(..) between the source and .key_by(..)",
            ));
        }
        if self.is_late(end) {
            return Ok(Target::Nowhere);
        }
        match self.panes.iter().position(|pane| pane.start == start) {
            Some(i) => self.panes.swap(0, i),
            None => {
                // This worker receives its first record of the window after the window has fired on the others.
                let has_fired = !self.windows.processing_time && end - 1 <= self.watermark;
                let phase = if has_fired { PanePhase::Waiting } else { PanePhase::Filling };
                let operator = self.store.as_ref().map_or(0, |(_, id)| *id);
                let unfired = (!has_fired).then(|| self.part(start, operator, false));
                self.panes.insert(0, Pane { start, phase, unfired, fired: None });
            }
        }
        Ok(if self.panes[0].phase == PanePhase::Filling { Target::Filling } else { Target::Fired })
    }

    fn part(&mut self, start: i64, operator: u16, cold: bool) -> Part<K, A::Acc> {
        let place = table::Namespace { operator, namespace: start };
        let table = match self.spare.take() {
            Some(mut table) => {
                table.reuse(place, self.epoch, cold);
                table
            }
            None => Table::new(place, self.epoch, cold),
        };
        Part { table, operator, stored: cold }
    }

    /// Adds a record to one window. False if the window is over.
    #[inline(always)]
    fn add_to(&mut self, store: &Store, start: i64, record: &Record<T>) -> Result<bool> {
        if self.panes.first().is_none_or(|pane| pane.start != start || pane.phase != PanePhase::Filling) {
            match self.bring(start)? {
                Target::Filling => {}
                Target::Fired => return self.add_to_fired(store, record).map(|()| true),
                Target::Nowhere => return Ok(false),
            }
        }
        let (pane, aggregate) = (&mut self.panes[0], &self.aggregate);
        self.key.with(&record.value, |key| -> Result<()> {
            let at = self.cx.key(key);
            if let Some(unfired) = &mut pane.unfired {
                let acc = unfired.table.entry(store, record.id.as_key_hash(), key, || aggregate.create())?;
                aggregate.add(acc, &record.value);
            }
            at.done();
            Ok(())
        })?;
        Ok(true)
    }

    /// Adds a record that is late, but within the allowed lateness, to the window at the front, and emits the key's result
    /// again. If the key has not fired yet, its result so far is emitted first.
    #[cold]
    fn add_to_fired(&mut self, store: &Store, record: &Record<T>) -> Result<()> {
        if self.panes[0].fired.is_none() {
            let part = self.part(self.panes[0].start, self.fired_operator, false);
            self.panes[0].fired = Some(part);
        }
        let (pane, aggregate) = (&mut self.panes[0], &self.aggregate);
        let Some(fired) = &mut pane.fired else { return Ok(()) };
        let window = self.windows.window(pane.start);
        let (out, timestamp, hash) = (&mut self.out, window.end - 1, record.id.as_key_hash());
        let mut emit = |key: &K, acc: &A::Acc| {
            let value = aggregate.finish(acc);
            out.push(Record {
                timestamp,
                id: RecordId::key_hash(hash),
                value: Windowed { key: key.clone(), window, value },
            });
        };
        self.key.with(&record.value, |key| -> Result<()> {
            let at = self.cx.key(key);
            let mut before = None;
            if let Some(unfired) = &mut pane.unfired {
                let (i, value) = unfired.table.take(store, hash, key)?;
                unfired.table.put_back(store, i, None, value.is_some())?;
                before = value.inspect(|acc| emit(key, acc));
            }
            let acc = fired.table.entry(store, hash, key, || before.unwrap_or_else(|| aggregate.create()))?;
            aggregate.add(acc, &record.value);
            emit(key, acc);
            at.done();
            Ok(())
        })
    }

    fn add(&mut self, batch: &mut Vec<Record<T>>) -> Result<()> {
        let Some((store, _)) = self.store.clone() else { return Ok(()) };
        let tumbling = self.windows.size_ms == self.windows.slide_ms;
        let now = self.windows.processing_time.then(|| self.processing_time());
        let mut late = Vec::new();
        for (i, record) in batch.iter().enumerate() {
            self.cx.record(record);
            let time = now.unwrap_or(record.timestamp);
            let taken = if tumbling {
                self.add_to(&store, self.windows.last_start(time), record)?
            } else {
                let mut taken = false;
                for start in self.windows.starts(time) {
                    taken |= self.add_to(&store, start, record)?;
                }
                taken
            };
            if !taken {
                late.push(i);
            }
        }
        self.records.add(self.records_of(batch.iter()));
        if let Some(partials) = &self.partials {
            partials.taken.add(batch.len() as u64);
        }
        if !late.is_empty() {
            self.drop_late(batch, &late);
        }
        if !self.out.is_empty() {
            self.emitted.add(self.out.len() as u64);
            self.next.records(&mut self.out);
        }
        Ok(())
    }

    /// The number of records of the stream that these records are, or stand for.
    fn records_of<'a>(&self, records: impl ExactSizeIterator<Item = &'a Record<T>>) -> u64 {
        match &self.partials {
            Some(partials) => records.map(|record| (partials.records_of)(&record.value)).sum(),
            None => records.len() as u64,
        }
    }

    /// Processing time, which does not go back with the clock: a window that has fired is over.
    fn processing_time(&mut self) -> i64 {
        self.newest_time = self.newest_time.max(self.cx.chain.worker.process.clock.now_ms());
        self.newest_time
    }

    /// Counts late records, and emits them if the job reads the stream of late records. `late` holds their positions in
    /// ascending order.
    #[cold]
    fn drop_late(&mut self, batch: &mut Vec<Record<T>>, late: &[usize]) {
        self.late.add(self.records_of(late.iter().map(|&i| &batch[i])));
        if let Some(late_to) = &self.late_to {
            let mut records: Vec<Record<T>> = late.iter().rev().map(|&i| batch.swap_remove(i)).collect();
            records.reverse();
            late_to.records(&mut records);
        }
    }

    /// Sets the time up to which windows are due.
    fn set_due(&mut self, due_to: i64) {
        self.due_to = due_to;
        for pane in &mut self.panes {
            if pane.phase == PanePhase::Filling && self.windows.window(pane.start).end - 1 <= due_to {
                pane.phase = PanePhase::Firing;
            }
        }
        self.has_due = self.due().is_some();
    }

    /// The earliest window that is to be fired or dropped.
    fn due(&self) -> Option<usize> {
        let to_do = |pane: &Pane<K, A::Acc>| {
            let closes = self.closes_at(self.windows.window(pane.start).end);
            pane.phase == PanePhase::Firing || (pane.phase == PanePhase::Waiting && closes <= self.due_to)
        };
        let due = self.panes.iter().enumerate().filter(|(_, pane)| to_do(pane));
        due.min_by_key(|(_, pane)| pane.start).map(|(i, _)| i)
    }

    /// Emits up to `most` results of windows that are due, the earliest first; returns how many.
    fn fire_due(&mut self, most: usize) -> Result<usize> {
        let mut left = most;
        while left > 0
            && let Some(i) = self.due()
        {
            let closes = self.closes_at(self.windows.window(self.panes[i].start).end) <= self.due_to;
            if self.panes[i].phase == PanePhase::Firing {
                let before = self.out.len();
                if self.fire_window(i, left, !closes)? {
                    self.panes[i].phase = PanePhase::Waiting;
                    let (start, unfired) = (self.panes[i].start, self.panes[i].unfired.take());
                    self.drop_part(start, unfired)?;
                }
                left -= self.out.len() - before;
            }
            if closes && self.panes[i].phase == PanePhase::Waiting {
                self.drop_pane(i)?;
            }
        }
        self.has_due = self.due().is_some();
        self.send();
        Ok(most - left)
    }

    fn send(&mut self) {
        self.emitted.add(self.out.len() as u64);
        self.next.records(&mut self.out);
    }

    /// Emits up to `most` results of a window; true if those were its last.
    fn fire_window(&mut self, i: usize, most: usize, keep: bool) -> Result<bool> {
        let Some((store, _)) = self.store.clone() else { return Ok(true) };
        if keep && self.panes[i].fired.is_none() {
            let part = self.part(self.panes[i].start, self.fired_operator, false);
            self.panes[i].fired = Some(part);
        }
        let pane = &mut self.panes[i];
        let window = self.windows.window(pane.start);
        let (aggregate, out, cx, timestamp) = (&self.aggregate, &mut self.out, &self.cx, window.end - 1);
        let mut fired = pane.fired.as_mut().filter(|_| keep);
        let Some(unfired) = &mut pane.unfired else { return Ok(true) };
        cx.enter();
        unfired.table.drain(&store, most, |hash, key, acc| {
            cx.record(&Record { timestamp, id: RecordId::key_hash(hash), value: () });
            let at_key = cx.key(key);
            let value = Windowed { key: key.clone(), window, value: aggregate.finish(&acc) };
            out.push(Record { timestamp, id: RecordId::key_hash(hash), value });
            if let Some(fired) = &mut fired {
                fired.table.entry(&store, hash, key, || acc)?;
            }
            at_key.done();
            Ok(())
        })
    }

    /// The watermark of the output for a watermark of the input: it stays before the ends of windows that have not fired
    /// yet.
    fn output(&mut self, input: Watermark) -> Watermark {
        if !self.has_due {
            self.fired_to = self.event_time;
            return input.of_output(self.event_time);
        }
        let firing = self.panes.iter().filter(|pane| pane.phase == PanePhase::Firing);
        let first = firing.map(|pane| self.windows.window(pane.start).end - 2).min();
        self.fired_to = self.fired_to.max(first.unwrap_or(self.event_time).min(self.event_time));
        Watermark::firing(self.fired_to)
    }

    fn say(&mut self) {
        let update = WatermarkUpdate::Now(self.output(self.input));
        self.pass_on(update);
    }

    fn pass_on(&self, update: WatermarkUpdate) {
        self.next.watermark(update);
        if let Some(late_to) = &self.late_to {
            late_to.watermark(update);
        }
    }

    /// Advances event time to that of the input.
    fn advance(&mut self, input: Watermark) {
        self.watermark = input.time();
        if input.is_ended() {
            self.event_time = self.event_time.max(self.last_close(input.furthest()));
        } else {
            self.watermark_gauge.set(self.watermark);
            self.event_time = self.watermark;
        }
        // At the end of the input windows of processing time fire too.
        if !self.windows.processing_time || input.is_ended() {
            self.set_due(self.watermark);
        }
    }

    /// The watermark at which the last window closes that a record of this event time can be in; the same on all workers.
    fn last_close(&self, furthest: i64) -> i64 {
        if self.windows.processing_time || furthest == i64::MIN {
            return furthest;
        }
        self.closes_at(self.windows.window(self.windows.last_start(furthest)).end).min(i64::MAX - 1)
    }

    fn drop_pane(&mut self, i: usize) -> Result<()> {
        let pane = self.panes.swap_remove(i);
        self.drop_part(pane.start, pane.unfired)?;
        self.drop_part(pane.start, pane.fired)
    }

    fn drop_part(&mut self, start: i64, part: Option<Part<K, A::Acc>>) -> Result<()> {
        let Some(mut part) = part else { return Ok(()) };
        if let Some((store, _)) = &self.store {
            part.table.copy(store, &mut self.left_behind, None)?;
        }
        if part.is_in_store() {
            self.gone.push((part.operator, start));
        }
        let budget = &self.cx.chain.worker.budget;
        part.table.discharge(budget);
        // A large table would hold memory that the budget does not count.
        if part.table.slab_bytes() <= budget.limit() / 16 {
            part.table.clear();
            self.spare = Some(part.table);
        }
        Ok(())
    }
}

impl<K: Key, T: 'static, A: Aggregate<T>> Receiver<T> for WindowStep<K, T, A> {
    fn records(&mut self, batch: &mut Vec<Record<T>>) {
        self.cx.enter();
        let result = self.add(batch);
        self.cx.or_fail(result);
    }

    fn watermark(&mut self, update: WatermarkUpdate) {
        match update {
            WatermarkUpdate::Now(input) => {
                self.input = input;
                if input.time() > self.watermark {
                    self.advance(input);
                }
                self.say();
            }
            WatermarkUpdate::NextEpoch(input) => {
                let update = WatermarkUpdate::NextEpoch(self.output(input));
                self.pass_on(update);
            }
        }
    }
}

impl<K: Key, T: 'static, A: Aggregate<T>> Operator for WindowStep<K, T, A> {
    fn open(&mut self, context: &OpenContext<'_>) -> Result<()> {
        let uid = self.step.uid();
        self.epoch = context.process.setup.first_epoch.0;
        self.store = Some(context.store(&uid)?);
        if self.lateness_ms > 0 {
            self.fired_operator = context.store(&format!("{uid}{FIRED}"))?.1;
        }
        self.watermark = context.restored_watermark(&uid);
        self.watermark_gauge.set(self.watermark);
        (self.event_time, self.fired_to) = (self.watermark, i64::MIN);
        let windows = self.restored_windows(context)?;
        for (start, (unfired, fired)) in windows {
            let mut open = |operator: Option<u16>| operator.map(|operator| self.part(start, operator, true));
            let (unfired, fired) = (open(unfired), open(fired));
            let phase = if unfired.is_some() { PanePhase::Filling } else { PanePhase::Waiting };
            self.panes.push(Pane { start, phase, unfired, fired });
        }
        if !self.windows.processing_time {
            // The barrier may have come while the windows fired.
            self.set_due(self.watermark);
        }
        Ok(())
    }

    fn barrier(&mut self, epoch: Epoch, parts: &mut SnapshotParts) -> Result<()> {
        let Some((store, _)) = self.store.clone() else { return Ok(()) };
        let uid = self.step.uid();
        self.epoch = epoch.0 + 1;
        for (operator, start) in self.gone.drain(..) {
            parts.rows.delete_namespace(operator, store.owned.clone(), start);
        }
        for part in self.panes.iter_mut().flat_map(Pane::parts) {
            part.table.delete_drained(&store, &mut parts.rows);
            part.table.barrier(&store, self.epoch)?;
            part.stored = true;
        }
        let windows = |has: fn(&Pane<K, A::Acc>) -> bool| -> Vec<i64> {
            self.panes.iter().filter(|pane| has(pane)).map(|pane| pane.start).collect()
        };
        parts.keep(&uid, UNFIRED_WINDOWS, windows(|pane| pane.unfired.is_some()).into());
        parts.keep(&uid, FIRED_WINDOWS, windows(|pane| pane.fired.is_some()).into());
        if self.newest_time > i64::MIN {
            parts.keep(&uid, NEWEST_TIME, self.newest_time.into());
        }
        parts.operator(&uid).watermark = (self.event_time > i64::MIN).then_some(self.event_time);
        Ok(())
    }

    fn copy(&mut self, rows: &mut Rows, until: Option<Instant>) -> Result<bool> {
        rows.append(std::mem::take(&mut self.left_behind));
        let Some((store, _)) = &self.store else { return Ok(true) };
        for part in self.panes.iter_mut().flat_map(Pane::parts) {
            if !part.table.copy(store, rows, until)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn next_timer(&self) -> Option<i64> {
        let filling = self.panes.iter().filter(|pane| pane.phase == PanePhase::Filling);
        let ends = filling.map(|pane| self.windows.window(pane.start).end);
        ends.min().filter(|_| self.windows.processing_time)
    }

    fn on_processing_time(&mut self, now: i64) {
        if self.windows.processing_time {
            self.newest_time = self.newest_time.max(now);
            self.set_due(self.due_to.max(self.newest_time.saturating_sub(1)));
        }
    }

    fn is_due(&self) -> bool {
        self.has_due
    }

    fn holds_records_back(&self) -> bool {
        self.has_due && !self.windows.processing_time
    }

    fn fire(&mut self, most: usize) -> usize {
        let fired = self.fire_due(most);
        let fired = self.cx.or_fail(fired).unwrap_or(0);
        self.say();
        fired
    }

    fn maintain(&mut self) -> Result<()> {
        let Some((store, _)) = &self.store else { return Ok(()) };
        let budget = self.cx.chain.worker.budget.clone();
        let mut entries = 0;
        for part in self.panes.iter_mut().flat_map(Pane::parts) {
            part.table.keep_to(&budget, store)?;
            entries += part.table.in_memory();
        }
        self.entries.set(entries as i64);
        Ok(())
    }
}

/// The operator numbers in the store of a window's entries that have not fired, and of those that have.
type Stored = (Option<u16>, Option<u16>);

impl<K: Key, T: 'static, A: Aggregate<T>> WindowStep<K, T, A> {
    /// The windows that any worker had at the barrier. It does no harm if a worker had no entry of a window.
    fn restored_windows(&mut self, context: &OpenContext<'_>) -> Result<BTreeMap<i64, Stored>> {
        let operator = self.store.as_ref().map_or(0, |(_, id)| *id);
        let mut windows: BTreeMap<i64, Stored> = BTreeMap::new();
        for part in context.restored(&self.step.uid()) {
            for start in kept::<i64>(&part.extra, UNFIRED_WINDOWS)? {
                windows.entry(start).or_default().0 = Some(operator);
            }
            for start in kept::<i64>(&part.extra, FIRED_WINDOWS)? {
                windows.entry(start).or_default().1 = Some(self.fired_operator);
            }
            // In the first version a window fired as a whole, and its entries stayed in their table.
            for (start, fired) in kept::<(i64, bool)>(&part.extra, WINDOWS_V1)? {
                let window = windows.entry(start).or_default();
                if fired {
                    *window = (None, Some(operator))
                } else if window.1.is_none() {
                    window.0 = Some(operator)
                }
            }
            let newest = part.extra.get(NEWEST_TIME).and_then(serde_json::Value::as_i64);
            self.newest_time = self.newest_time.max(newest.unwrap_or(i64::MIN));
        }
        Ok(windows)
    }
}

/// A list that a snapshot has under a name; empty if it has none.
fn kept<V: serde::de::DeserializeOwned>(extra: &serde_json::Value, name: &str) -> Result<Vec<V>> {
    Ok(extra.get(name).map(|list| serde_json::from_value(list.clone())).transpose()?.unwrap_or_default())
}
