//! Windows by key: one table a window, which fires as a whole when the watermark passes its end.
//!
//! The window that the last record belonged to is at hand, so that most records cost one look-up. A window that opens and
//! closes between two barriers reaches the store only for want of memory; one that was stored is deleted there as a whole.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tidegate_protocol::Epoch;

use crate::chain::{Outlet, Receiver};
use crate::dataflow::batch::BATCH_RECORDS;
use crate::dataflow::host::Host;
use crate::element::{Element, Opening, Parts};
use crate::error::{Error, Result};
use crate::key::{Key, KeyFn};
use crate::metrics::{Counter, Gauge, Step};
use crate::operators::stateless::Here;
use crate::record::{Mark, Rec};
use crate::state::store::{Rows, Store};
use crate::state::table::{Place, Table};
use crate::window::{Aggregate, Windowed, Windows};

/// What a snapshot calls the latest processing time that a worker has seen; not there in windows of event time.
const NEWEST_TIME: &str = "newest_time";

/// See [`crate::stream::WindowedStream::aggregate`].
pub(crate) struct WindowStep<K, T, A: Aggregate<T>> {
    here: Here,
    step: Arc<Step>,
    key: KeyFn<T, K>,
    windows: Windows,
    lateness_ms: i64,
    aggregate: A,
    panes: Vec<Pane<K, A::Acc>>,
    /// Windows that have fired since the last barrier and of which the store has rows.
    gone: Vec<i64>,
    spare: Option<Table<K, A::Acc>>,
    /// Rows of the last barrier, of windows that have gone before all of theirs were asked for.
    left_behind: Rows,
    watermark: i64,
    /// The event time that a snapshot remembers: the watermark, and at the end of everything the end of the last window,
    /// because a job that is started again may find more to read.
    event_time: i64,
    /// The latest processing time seen, by any worker before a restart.
    newest_time: i64,
    store: Option<(Rc<Store>, u16)>,
    epoch: u64,
    out: Vec<Rec<Windowed<K, A::Out>>>,
    next: Outlet<Windowed<K, A::Out>>,
    late_to: Option<Outlet<T>>,
    late: Counter,
    records: Counter,
    emitted: Counter,
    watermark_gauge: Gauge,
    entries: Gauge,
}

/// One window.
struct Pane<K, V> {
    start: i64,
    table: Table<K, V>,
    /// True if the store has rows of it.
    stored: bool,
    /// True if it has fired and waits for late records.
    fired: bool,
}

/// What a window step is made of besides what the job knows.
pub(crate) struct WindowDef<K, T, A: Aggregate<T>> {
    pub(crate) key: KeyFn<T, K>,
    pub(crate) windows: Windows,
    pub(crate) lateness_ms: i64,
    pub(crate) aggregate: A,
    pub(crate) next: Outlet<Windowed<K, A::Out>>,
    pub(crate) late_to: Option<Outlet<T>>,
}

impl<K: Key, T: 'static, A: Aggregate<T>> WindowStep<K, T, A> {
    pub(crate) fn new(host: &Rc<Host>, step: &Arc<Step>, def: WindowDef<K, T, A>) -> Self {
        Self {
            here: Here::new(host, step),
            step: step.clone(),
            key: def.key,
            windows: def.windows,
            lateness_ms: def.lateness_ms,
            aggregate: def.aggregate,
            panes: Vec::new(),
            gone: Vec::new(),
            spare: None,
            left_behind: Rows::default(),
            watermark: i64::MIN,
            event_time: i64::MIN,
            newest_time: i64::MIN,
            store: None,
            epoch: 0,
            out: Vec::new(),
            next: def.next,
            late_to: def.late_to,
            late: host.counter(step, "late"),
            records: host.counter(step, "records_in"),
            emitted: host.counter(step, "records_out"),
            watermark_gauge: host.gauge(step, "watermark_ms"),
            entries: host.gauge(step, "state_entries"),
        }
    }

    /// The watermark from which on a window ending at `end` takes no record any more.
    fn closes_at(&self, end: i64) -> i64 {
        (end - 1).saturating_add(self.lateness_ms)
    }

    fn is_late(&self, end: i64) -> bool {
        !self.windows.processing_time && self.closes_at(end) <= self.watermark
    }

    /// Brings the window that begins at `start` to the front; false if it is over.
    #[cold]
    #[inline(never)]
    fn bring(&mut self, start: i64) -> Result<bool> {
        if let Some(i) = self.panes.iter().position(|pane| pane.start == start) {
            self.panes.swap(0, i);
            return Ok(true);
        }
        if start < i64::MIN / 2 {
            return Err(Error::job(
                "a record has no event time; put .event_time(..) between the source and .key_by(..)",
            ));
        }
        if self.is_late(self.windows.window(start).end) {
            return Ok(false);
        }
        // A window of which this worker sees its first record only now has fired for the others.
        let fired = self.has_fired(start);
        let pane = self.pane(start, false);
        self.panes.insert(0, Pane { fired, ..pane });
        Ok(true)
    }

    /// True if a window of event time ends at or before the watermark.
    fn has_fired(&self, start: i64) -> bool {
        !self.windows.processing_time && self.windows.window(start).end - 1 <= self.watermark
    }

    fn pane(&mut self, start: i64, cold: bool) -> Pane<K, A::Acc> {
        let operator = self.store.as_ref().map_or(0, |(_, id)| *id);
        let place = Place { operator, namespace: start };
        let table = match self.spare.take() {
            Some(mut table) => {
                table.reuse(place, self.epoch, cold);
                table
            }
            None => Table::new(place, self.epoch, cold),
        };
        Pane { start, table, stored: cold, fired: false }
    }

    /// Adds a record to one window. False if the window is over.
    #[inline(always)]
    fn add_to(&mut self, store: &Store, start: i64, record: &Rec<T>) -> Result<bool> {
        if self.panes.first().is_none_or(|pane| pane.start != start) && !self.bring(start)? {
            return Ok(false);
        }
        let (pane, aggregate) = (&mut self.panes[0], &self.aggregate);
        let fired = pane.fired;
        self.key.with(&record.val, |key| -> Result<()> {
            let at = self.here.key(key);
            let acc = pane.table.entry(store, record.hash, key, || aggregate.create())?;
            aggregate.add(acc, &record.val);
            if fired {
                let window = self.windows.window(start);
                let value = aggregate.finish(acc);
                let val = Windowed { key: key.clone(), window, value };
                self.out.push(Rec { ts: window.end - 1, hash: record.hash, val });
            }
            at.done();
            Ok(())
        })?;
        Ok(true)
    }

    fn add(&mut self, batch: &mut Vec<Rec<T>>) -> Result<()> {
        let Some((store, _)) = self.store.clone() else { return Ok(()) };
        let tumbling = self.windows.size_ms == self.windows.slide_ms;
        let now = self.windows.processing_time.then(|| self.processing_time());
        let mut late = Vec::new();
        for (i, record) in batch.iter().enumerate() {
            self.here.record(record);
            let time = now.unwrap_or(record.ts);
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
        self.records.add(batch.len() as u64);
        if !late.is_empty() {
            self.drop_late(batch, &late);
        }
        if !self.out.is_empty() {
            self.emitted.add(self.out.len() as u64);
            self.next.records(&mut self.out);
        }
        Ok(())
    }

    /// Processing time, which does not go back with the clock: a window that has fired is over.
    fn processing_time(&mut self) -> i64 {
        self.newest_time = self.newest_time.max(self.here.host.worker.process.clock.now_ms());
        self.newest_time
    }

    /// Counts late records, and hands them on if somebody wants them. `late` holds their places in ascending order.
    #[cold]
    fn drop_late(&mut self, batch: &mut Vec<Rec<T>>, late: &[usize]) {
        self.late.add(late.len() as u64);
        if let Some(late_to) = &self.late_to {
            let mut records: Vec<Rec<T>> = late.iter().rev().map(|&i| batch.swap_remove(i)).collect();
            records.reverse();
            late_to.records(&mut records);
        }
    }

    /// Fires every window that ends at or before the watermark, the earliest first.
    fn fire(&mut self, watermark: i64) -> Result<()> {
        self.here.enter();
        while let Some(i) = self.due(watermark) {
            if !self.panes[i].fired {
                self.emit(i)?;
                self.panes[i].fired = true;
            }
            let end = self.windows.window(self.panes[i].start).end;
            if self.closes_at(end) <= watermark {
                self.drop_pane(i)?;
            }
        }
        Ok(())
    }

    /// The watermark at which the last window of event time is over; the least if there is none.
    fn last_close(&self) -> i64 {
        let panes = self.panes.iter().filter(|_| !self.windows.processing_time);
        panes.map(|p| self.closes_at(self.windows.window(p.start).end)).max().unwrap_or(i64::MIN)
    }

    /// The earliest window with something to do at this watermark.
    fn due(&self, watermark: i64) -> Option<usize> {
        let to_do = |pane: &Pane<K, A::Acc>| {
            let end = self.windows.window(pane.start).end;
            (!pane.fired && end - 1 <= watermark) || self.closes_at(end) <= watermark
        };
        let due = self.panes.iter().enumerate().filter(|(_, pane)| to_do(pane));
        due.min_by_key(|(_, pane)| pane.start).map(|(i, _)| i)
    }

    fn emit(&mut self, i: usize) -> Result<()> {
        let Some((store, _)) = &self.store else { return Ok(()) };
        let pane = &self.panes[i];
        let window = self.windows.window(pane.start);
        let (aggregate, out, next, at) = (&self.aggregate, &mut self.out, &self.next, &self.here);
        let ts = window.end - 1;
        let emitted = &self.emitted;
        pane.table.for_all(store, |hash, key, acc| {
            at.enter();
            at.record(&Rec { ts, hash, val: () });
            let at_key = at.key(key);
            let val = Windowed { key: key.clone(), window, value: aggregate.finish(acc) };
            at_key.done();
            out.push(Rec { ts, hash, val });
            if out.len() >= BATCH_RECORDS {
                emitted.add(out.len() as u64);
                next.records(out);
            }
        })?;
        emitted.add(out.len() as u64);
        next.records(out);
        Ok(())
    }

    fn drop_pane(&mut self, i: usize) -> Result<()> {
        let mut pane = self.panes.remove(i);
        if let Some((store, _)) = &self.store {
            pane.table.copy(store, &mut self.left_behind, None)?;
        }
        if pane.stored || pane.table.is_in_store() {
            self.gone.push(pane.start);
        }
        let budget = &self.here.host.worker.budget;
        pane.table.discharge(budget);
        // A large one would hold memory that nobody accounts for.
        if pane.table.slab_bytes() <= budget.limit() / 16 {
            pane.table.clear();
            self.spare = Some(pane.table);
        }
        Ok(())
    }
}

impl<K: Key, T: 'static, A: Aggregate<T>> Receiver<T> for WindowStep<K, T, A> {
    fn records(&mut self, batch: &mut Vec<Rec<T>>) {
        self.here.enter();
        let result = self.add(batch);
        self.here.or_fail(result);
    }

    fn watermark(&mut self, mark: Mark) {
        if mark.at > self.watermark {
            self.watermark = mark.at;
            if mark.at < i64::MAX {
                self.watermark_gauge.set(mark.at);
                self.event_time = mark.at;
            } else {
                self.event_time = self.event_time.max(self.last_close());
            }
            // At the end of everything windows of processing time fire too.
            if !self.windows.processing_time || mark == Mark::END {
                let result = self.fire(mark.at);
                self.here.or_fail(result);
            }
        }
        self.next.watermark(Mark { at: self.watermark, idle: mark.idle });
        if let Some(late_to) = &self.late_to {
            late_to.watermark(Mark { at: self.watermark, idle: mark.idle });
        }
    }
}

impl<K: Key, T: 'static, A: Aggregate<T>> Element for WindowStep<K, T, A> {
    fn open(&mut self, opening: &Opening<'_>) -> Result<()> {
        let uid = self.step.uid();
        self.epoch = opening.process.first_epoch.0;
        self.store = Some(opening.store(&uid)?);
        self.watermark = opening.restored_watermark(&uid);
        self.event_time = self.watermark;
        let mut panes = std::collections::BTreeMap::new();
        for part in opening.restored(&uid) {
            let kept: Vec<(i64, bool)> = match part.extra.get("windows") {
                Some(kept) => serde_json::from_value(kept.clone())?,
                None => Vec::new(),
            };
            panes.extend(kept);
            let newest = part.extra.get(NEWEST_TIME).and_then(serde_json::Value::as_i64);
            self.newest_time = self.newest_time.max(newest.unwrap_or(i64::MIN));
        }
        for (start, fired) in panes {
            let pane = self.pane(start, true);
            self.panes.push(Pane { fired, ..pane });
        }
        Ok(())
    }

    fn barrier(&mut self, epoch: Epoch, parts: &mut Parts<'_>) -> Result<()> {
        let Some((store, operator)) = self.store.clone() else { return Ok(()) };
        let uid = self.step.uid();
        self.epoch = epoch.0 + 1;
        for start in self.gone.drain(..) {
            parts.rows.delete_namespace(operator, store.owned.clone(), start);
        }
        for pane in &mut self.panes {
            pane.table.barrier(&store, self.epoch)?;
            pane.stored = true;
        }
        let windows: Vec<(i64, bool)> = self.panes.iter().map(|p| (p.start, p.fired)).collect();
        parts.keep(&uid, "windows", serde_json::to_value(windows)?);
        if self.newest_time > i64::MIN {
            parts.keep(&uid, NEWEST_TIME, self.newest_time.into());
        }
        parts.operator(&uid).watermark = (self.event_time > i64::MIN).then_some(self.event_time);
        Ok(())
    }

    fn copy(&mut self, rows: &mut Rows, until: Option<Instant>) -> Result<bool> {
        rows.append(std::mem::take(&mut self.left_behind));
        let Some((store, _)) = &self.store else { return Ok(true) };
        for pane in &mut self.panes {
            if !pane.table.copy(store, rows, until)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn next_timer(&self) -> Option<i64> {
        let ends = self.panes.iter().map(|pane| self.windows.window(pane.start).end);
        ends.min().filter(|_| self.windows.processing_time)
    }

    fn on_processing_time(&mut self, now: i64) {
        if self.windows.processing_time {
            self.newest_time = self.newest_time.max(now);
            let result = self.fire(self.newest_time - 1);
            self.here.or_fail(result);
        }
    }

    fn maintain(&mut self) -> Result<()> {
        let Some((store, _)) = &self.store else { return Ok(()) };
        let budget = self.here.host.worker.budget.clone();
        let mut entries = 0;
        for pane in &mut self.panes {
            pane.table.keep_to(&budget, store)?;
            entries += pane.table.in_memory();
        }
        self.entries.set(entries as i64);
        Ok(())
    }
}
