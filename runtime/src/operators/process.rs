//! Runs a function with state and timers on one worker.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tidegate_protocol::Epoch;

use crate::chain::{Outlet, Receiver};
use crate::dataflow::host::Host;
use crate::element::{Element, Opening, Parts};
use crate::error::Result;
use crate::key::{Key, KeyFn};
use crate::metrics::{Counter, Gauge, Step};
use crate::operators::stateless::Here;
use crate::process_fn::{KeyContext, KeyedProcess, Time, Timer};
use crate::record::{Mark, Rec};
use crate::state::store::{Rows, Store};
use crate::state::table::{Place, Table};
use crate::state::timers::Timers;

/// Suffixes of the uid for what the step keeps besides its state.
pub(crate) const EVENT_TIMERS: &str = "#event-timers";
/// See [`EVENT_TIMERS`].
pub(crate) const PROCESSING_TIMERS: &str = "#processing-timers";

/// See [`crate::KeyedStream::process`].
pub(crate) struct ProcessStep<K, T, F: KeyedProcess<K, T>> {
    here: Here,
    step: Arc<Step>,
    key: KeyFn<T, K>,
    f: F,
    kept: Option<Kept<K, F::State>>,
    watermark: i64,
    /// The event time that a snapshot remembers: the watermark, and at the end of everything that of the last timer,
    /// because a job that is started again may find more to read.
    event_time: i64,
    out: (Vec<F::Out>, Vec<Rec<F::Out>>),
    side: (Vec<F::Side>, Vec<Rec<F::Side>>),
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

/// What the function is called for.
enum Call<T> {
    Record(T),
    Timer(Timer),
}

impl<K: Key, T: 'static, F: KeyedProcess<K, T>> ProcessStep<K, T, F> {
    pub(crate) fn new(
        host: &Rc<Host>,
        step: &Arc<Step>,
        key: KeyFn<T, K>,
        f: F,
        next: Outlet<F::Out>,
        next_side: Outlet<F::Side>,
    ) -> Self {
        Self {
            here: Here::new(host, step),
            step: step.clone(),
            key,
            f,
            kept: None,
            watermark: i64::MIN,
            event_time: i64::MIN,
            out: Default::default(),
            side: Default::default(),
            next,
            next_side,
            records: host.counter(step, "records_in"),
            emitted: host.counter(step, "records_out"),
            entries: host.gauge(step, "state_entries"),
            watermark_gauge: host.gauge(step, "watermark_ms"),
        }
    }

    /// True once all that could come has come.
    fn has_ended(&self) -> bool {
        self.watermark == i64::MAX
    }

    fn call(&mut self, hash: u64, key: &K, event_time: i64, now: i64, call: Call<T>) -> Result<()> {
        let Some(Kept { store, table, event_timers, processing_timers }) = &mut self.kept else {
            return Ok(());
        };
        let at = self.here.key(key);
        let (slot, state) = table.take(store, hash, key)?;
        let mut context = KeyContext {
            key,
            hash,
            event_time,
            watermark: self.watermark,
            now,
            state,
            changed: false,
            out: &mut self.out.0,
            side: &mut self.side.0,
            event_timers,
            processing_timers,
            failed: None,
        };
        match call {
            Call::Record(record) => self.f.on_record(record, &mut context)?,
            Call::Timer(timer) => self.f.on_timer(timer, &mut context)?,
        }
        let KeyContext { state, changed, failed, .. } = context;
        table.put_back(store, slot, state, changed)?;
        let rec = |val| Rec { ts: event_time, hash, val };
        self.out.1.extend(self.out.0.drain(..).map(rec));
        self.side.1.extend(self.side.0.drain(..).map(|val| Rec { ts: event_time, hash, val }));
        failed.map_or(Ok(()), Err)?;
        at.done();
        Ok(())
    }

    fn send(&mut self) {
        self.emitted.add(self.out.1.len() as u64);
        self.next.records(&mut self.out.1);
        self.next_side.records(&mut self.side.1);
    }

    fn process(&mut self, batch: &mut Vec<Rec<T>>) -> Result<()> {
        let now = self.here.host.worker.process.clock.now_ms();
        self.records.add(batch.len() as u64);
        for record in batch.drain(..) {
            self.here.record(&record);
            let Rec { ts, hash, val } = record;
            let key = self.key.with(&val, K::clone);
            self.call(hash, &key, ts, now, Call::Record(val))?;
        }
        self.send();
        Ok(())
    }

    /// Calls the function for every timer that is due, in order of time.
    fn run_timers(&mut self, time: Time, until: i64) -> Result<()> {
        let now = self.here.host.worker.process.clock.now_ms();
        self.here.enter();
        // What a timer sets for a time that has passed fires in the same go.
        loop {
            let Some(kept) = &mut self.kept else { return Ok(()) };
            let timers = match time {
                Time::Event => &mut kept.event_timers,
                Time::Processing => &mut kept.processing_timers,
            };
            let Some((at, keys)) = timers.pop(until)? else { break };
            for (hash, key) in keys {
                self.here.record(&Rec { ts: at, hash, val: () });
                self.call(hash, &key, at, now, Call::Timer(Timer { at, time }))?;
            }
        }
        self.send();
        Ok(())
    }

    /// The end of everything: what waits for event time or for the clock would wait for ever.
    fn run_last_timers(&mut self) -> Result<()> {
        let last = self.last_timer(Time::Event);
        self.event_time = self.event_time.max(last);
        self.run_timers(Time::Event, last)?;
        self.run_timers(Time::Processing, self.last_timer(Time::Processing))?;
        // Those of the clock may have set others for an event time that has passed.
        self.run_timers(Time::Event, self.event_time)
    }

    /// The time to which the end of everything brings timers: a timer that sets itself again and again must not keep the
    /// job from its end.
    fn last_timer(&self, time: Time) -> i64 {
        let kept = self.kept.as_ref();
        let last = kept.and_then(|kept| match time {
            Time::Event => kept.event_timers.last(),
            Time::Processing => kept.processing_timers.last(),
        });
        last.unwrap_or(i64::MIN)
    }
}

impl<K: Key, T: 'static, F: KeyedProcess<K, T>> Receiver<T> for ProcessStep<K, T, F> {
    fn records(&mut self, batch: &mut Vec<Rec<T>>) {
        self.here.enter();
        let result = self.process(batch);
        self.here.or_fail(result);
    }

    fn watermark(&mut self, mark: Mark) {
        if mark.at > self.watermark {
            self.watermark = mark.at;
            let result = if mark.at < i64::MAX {
                self.watermark_gauge.set(mark.at);
                self.event_time = mark.at;
                self.run_timers(Time::Event, mark.at)
            } else {
                self.run_last_timers()
            };
            self.here.or_fail(result);
        }
        let mark = Mark { at: self.watermark, idle: mark.idle };
        self.next.watermark(mark);
        self.next_side.watermark(mark);
    }
}

impl<K: Key, T: 'static, F: KeyedProcess<K, T>> Element for ProcessStep<K, T, F> {
    fn open(&mut self, opening: &Opening<'_>) -> Result<()> {
        let uid = self.step.uid();
        let (store, operator) = opening.store(&uid)?;
        let timers = |suffix| -> Result<Timers<K>> {
            let (store, id) = opening.store(&format!("{uid}{suffix}"))?;
            let mut timers = Timers::new(id);
            timers.restore(&store)?;
            Ok(timers)
        };
        let place = Place { operator, namespace: 0 };
        self.kept = Some(Kept {
            table: Table::new(place, opening.process.first_epoch.0, opening.has_state(&uid)),
            event_timers: timers(EVENT_TIMERS)?,
            processing_timers: timers(PROCESSING_TIMERS)?,
            store,
        });
        self.watermark = opening.restored_watermark(&uid);
        self.event_time = self.watermark;
        Ok(())
    }

    fn barrier(&mut self, epoch: Epoch, parts: &mut Parts<'_>) -> Result<()> {
        if let Some(kept) = &mut self.kept {
            kept.table.barrier(&kept.store, epoch.0 + 1)?;
            kept.event_timers.barrier(&kept.store, parts.rows)?;
            kept.processing_timers.barrier(&kept.store, parts.rows)?;
        }
        parts.operator(&self.step.uid()).watermark = (self.event_time > i64::MIN).then_some(self.event_time);
        Ok(())
    }

    fn copy(&mut self, rows: &mut Rows, until: Option<Instant>) -> Result<bool> {
        let Some(kept) = &mut self.kept else { return Ok(true) };
        kept.table.copy(&kept.store, rows, until)
    }

    fn next_timer(&self) -> Option<i64> {
        // Beyond the end time does not go on.
        self.kept.as_ref().filter(|_| !self.has_ended()).and_then(|kept| kept.processing_timers.next())
    }

    fn on_processing_time(&mut self, now: i64) {
        let result = self.run_timers(Time::Processing, now);
        self.here.or_fail(result);
    }

    fn maintain(&mut self) -> Result<()> {
        if let Some(kept) = &mut self.kept {
            kept.table.keep_to(&self.here.host.worker.budget, &kept.store)?;
            self.entries.set(kept.table.in_memory() as i64);
        }
        Ok(())
    }
}
