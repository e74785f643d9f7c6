//! A source on one worker: the partitions that were assigned to it, read in turns.
//!
//! Partitions that are too far ahead of the others in event time miss their turns ([`crate::dataflow::drift`]). A partition
//! holds others back as long as it is known to have more to read. So nothing waits for one that has ended, or was read to its
//! present end, whether it counts as idle or not; and one that misses its turns does not become idle, because idle is only
//! what was polled and had nothing to read.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use tidegate_connector_api::{
    DeadLetter, Malformed, PartitionStatus, Polled, RecordId, Source, SourceReader,
};

use serde_json::Value;
use tidegate_protocol::Epoch;
use tidegate_protocol::manifest;

use crate::activity::{PartitionActivity, SourceActivity};
use crate::checkpoint::collector::SnapshotParts;
use crate::dataflow::drift::Drift;
use crate::dataflow::operator::{OpenContext, OpenedPartition, Operator};
use crate::dataflow::operator_chain::OperatorChain;
use crate::dataflow::outlet::Outlet;
use crate::dataflow::pace::BATCH_RECORDS;
use crate::dataflow::pacing::{Poll, SourceLoop};
use crate::dataflow::step_context::StepContext;
use crate::metrics::descriptors;
use crate::metrics::{Counter, Gauge};
use crate::operators::error_route::ErrorRoute;
use crate::panics::catch;
use crate::step::Step;
use crate::watermark::{Watermark, WatermarkUpdate};
use tidegate_protocol::{Error, ErrorContext, Result};

/// See [`crate::Job::source`].
pub(crate) struct SourceStep<S: Source> {
    cx: StepContext,
    step: Arc<Step>,
    source: Arc<S>,
    reader: Option<Box<dyn SourceReader<S::Item>>>,
    /// The partitions of the reader, in its order.
    open: Vec<Open>,
    /// What the restored snapshot holds of partitions, assigned to this worker or not.
    restored: BTreeMap<String, manifest::PartitionSnapshot>,
    next: usize,
    polled: Polled<S::Item>,
    outlet: Outlet<S::Item>,
    route: Rc<ErrorRoute>,
    rows: Counter,
    /// Bytes read since the start of the attempt; no part of a snapshot.
    bytes: Counter,
    activity: Arc<SourceActivity>,
    /// How far partitions may be read; None if that is not limited.
    drift: Option<Drift>,
    drift_gauge: Gauge,
    paused_gauge: Gauge,
    /// The number of partitions that were assigned to this worker, and of assignments to any, when it last looked.
    assigned_seen: usize,
    assignments_seen: Option<u64>,
}

struct Open {
    name: String,
    /// Where other threads see how far it is.
    activity: Arc<PartitionActivity>,
    ended: bool,
    /// Since when (ms of processing time) there was nothing to read, and when that was last observed. It is not known
    /// whether more has arrived since then: a source that is held up does not poll.
    quiet: Option<(i64, i64)>,
    /// True if it was not known at the last poll whether there is more to read: that time counts for nothing.
    is_unavailable: bool,
    /// The least watermark that any step makes of its records.
    watermark: i64,
    /// True if it missed its last turn because it is too far ahead.
    is_paused: bool,
}

impl Open {
    /// True if partitions that are further wait for this one.
    fn holds_others_back(&self) -> bool {
        !self.ended && self.quiet.is_none()
    }

    fn set_paused(&mut self, is_paused: bool) {
        if self.is_paused != is_paused {
            self.is_paused = is_paused;
            self.activity.set_paused(is_paused);
        }
    }
}

impl<S: Source> SourceStep<S> {
    pub(crate) fn new(
        source: Arc<S>,
        step: &Arc<Step>,
        chain: Rc<OperatorChain>,
        outlet: Outlet<S::Item>,
        route: Rc<ErrorRoute>,
    ) -> Self {
        Self {
            rows: chain.counter(step, descriptors::RECORDS_IN),
            bytes: chain.worker.process.metrics.counter(step, descriptors::BYTES_IN, chain.worker.slot),
            activity: {
                let lag = chain.gauge(step, descriptors::SOURCE_LAG_MS);
                chain.worker.process.activities.source(step, lag)
            },
            drift: None,
            drift_gauge: chain.gauge(step, descriptors::WATERMARK_DRIFT_MS),
            paused_gauge: chain.gauge(step, descriptors::PAUSED_PARTITIONS),
            cx: StepContext::new(&chain, step),
            step: step.clone(),
            source,
            reader: None,
            open: Vec::new(),
            restored: BTreeMap::new(),
            next: 0,
            polled: Polled::with_capacity(BATCH_RECORDS),
            outlet,
            route,
            assigned_seen: 0,
            assignments_seen: None,
        }
    }

    /// True if the partitions end where their input ends now: the source is bounded, or the job drains.
    fn is_bounded(&self) -> bool {
        self.source.bounded() || self.cx.chain.worker.instructions().is_to_drain()
    }

    /// Opens partitions that were assigned to this worker since the last call.
    fn open_assigned(&mut self, at_start: bool) -> Result<()> {
        let worker = self.cx.chain.worker.clone();
        let assignments = worker.instructions().assignments();
        if self.assignments_seen == Some(assignments) {
            return Ok(());
        }
        self.assignments_seen = Some(assignments);
        let assigned = worker.instructions().assigned(&self.step.uid(), worker.index(), self.assigned_seen);
        self.assigned_seen += assigned.len();
        assigned.into_iter().try_for_each(|name| self.open_partition(name, at_start))
    }

    fn open_partition(&mut self, name: String, at_start: bool) -> Result<()> {
        let kept = self.restored.remove(&name);
        let number = self.open.len();
        self.cx.enter();
        self.cx.chain.site.partition(number, &name);
        let is_first_start = at_start && self.cx.chain.worker.process.setup.restored.is_none();
        let position = match &kept {
            Some(kept) => Some(kept.position.clone()),
            None if is_first_start => {
                catch(|| self.source.initial(&name)).context(|| self.cx.chain.site.describe())?
            }
            None => None,
        };
        let position = position.as_ref();
        let reader = reader(&mut self.reader)?;
        catch(|| reader.open(&name, position)).context(|| self.cx.chain.site.describe())?;
        // A partition that an earlier drain has read to its end may have grown since.
        let ended = kept.as_ref().is_some_and(|p| p.ended) && self.source.bounded();
        let (metrics, slot) = (&self.cx.chain.worker.process.metrics, self.cx.chain.worker.slot);
        let records = metrics.partition_counter(&self.step, descriptors::PARTITION_RECORDS, slot, &name);
        let activity = self.activity.partition(&name, position, records);
        let mut opened = Ok(());
        self.cx.chain.generators(|generator| {
            let kept = kept.as_ref().and_then(|p| p.watermark.as_ref()).and_then(|w| w.get(generator.uid()));
            // Also of a job that drains: which times are plausible must not change with the way in which a job ends.
            let is_followed = !self.source.bounded();
            let partition = OpenedPartition { kept, counts: at_start, is_followed, activity: &activity };
            if let Err(error) = generator.open(number, &partition) {
                opened = Err(error);
            } else if ended {
                generator.end(number);
            }
        });
        if ended {
            activity.end();
        }
        let watermark = self.watermark(number);
        self.open.push(Open {
            name,
            activity,
            ended,
            quiet: None,
            is_unavailable: false,
            watermark,
            is_paused: false,
        });
        opened
    }

    /// How far the partitions may be from each other, as the steps of event time say: the greatest of them counts.
    fn max_drift(&self) -> Option<i64> {
        let mut all = Vec::new();
        self.cx.chain.generators(|generator| all.push(generator.max_drift()));
        all.into_iter().collect::<Option<Vec<i64>>>()?.into_iter().max()
    }

    /// The least watermark that any step makes of a partition's records. The slowest by this measure is the slowest for one of
    /// the steps, too, so no two partitions can wait for each other.
    fn watermark(&self, i: usize) -> i64 {
        let mut least = i64::MAX;
        self.cx.chain.generators(|generator| least = least.min(generator.watermark(i)));
        least
    }

    /// Learns how far partitions may be read, and reports to the other workers how far those of this one are.
    fn align(&mut self) {
        let Some(drift) = &mut self.drift else { return };
        let holding = self.open.iter().filter(|open| open.holds_others_back());
        if let Some(least) = drift.update(holding.map(|open| open.watermark).min()) {
            let chain = &self.cx.chain;
            drift.report(least, &chain.worker.process.shared, chain.id);
        }
    }

    /// True if a partition is too far ahead to be read now. What is known of the others may be old: `is_aligned` is false
    /// until they have been asked.
    fn pauses(&mut self, i: usize, is_aligned: &mut bool) -> bool {
        let watermark = self.open[i].watermark;
        let is_too_far = |this: &Self| this.drift.as_ref().is_some_and(|drift| drift.is_too_far(watermark));
        let mut pauses = is_too_far(self);
        if pauses && !*is_aligned {
            self.align();
            *is_aligned = true;
            pauses = is_too_far(self);
        }
        self.open[i].set_paused(pauses);
        pauses
    }

    /// Whether the worker reads nothing because all that it could read is too far ahead.
    fn set_waiting(&mut self, is_waiting: bool) {
        if let Some(drift) = &mut self.drift {
            drift.set_waiting(is_waiting);
        }
    }

    /// Sets the gauges of the drift.
    fn show_drift(&self) {
        let Some(drift) = &self.drift else { return };
        let furthest = self.open.iter().filter(|open| !open.ended).map(|open| open.watermark).max();
        self.drift_gauge.set(furthest.and_then(|watermark| drift.of(watermark)).unwrap_or(0));
        self.paused_gauge.set(self.open.iter().filter(|open| open.is_paused).count() as i64);
    }

    fn poll_partition(&mut self, i: usize, budget: usize) -> Result<PartitionStatus> {
        self.cx.enter();
        self.cx.chain.site.partition(i, &self.open[i].name);
        let status = reader(&mut self.reader)?.poll(i, &mut self.polled, budget);
        let status = status.context(|| self.cx.chain.site.describe())?;
        let records = self.polled.records_mut().len();
        let total = self.polled.len();
        if total > 0 {
            self.rows.add(total as u64);
            self.open[i].quiet = None;
            self.open[i].activity.set_quiet_since(None);
            self.open[i].activity.add_records(total as u64);
        }
        let malformed = self.polled.take_malformed();
        if !malformed.is_empty() {
            let name = self.open[i].name.clone();
            malformed.into_iter().try_for_each(|m| self.handle_malformed(&name, m))?;
        }
        if records > 0 {
            let records = self.polled.records_mut();
            self.outlet.records(records);
            if records.capacity() == 0 {
                records.reserve(BATCH_RECORDS);
            }
            if self.drift.is_some() {
                self.open[i].watermark = self.watermark(i);
            }
        }
        match status {
            PartitionStatus::More | PartitionStatus::Pending => {}
            PartitionStatus::Unavailable => self.open[i].is_unavailable = true,
            PartitionStatus::CaughtUp if !self.cx.chain.worker.instructions().is_to_drain() => self.quiet(i),
            PartitionStatus::CaughtUp | PartitionStatus::Ended => {
                self.open[i].ended = true;
                self.open[i].activity.end();
                self.cx.chain.generators(|generator| generator.end(i));
            }
        }
        Ok(status)
    }

    #[cold]
    fn handle_malformed(&self, partition: &str, malformed: Malformed) -> Result<()> {
        let chain = &self.cx.chain;
        self.cx.enter();
        self.cx.record(&tidegate_connector_api::Record {
            timestamp: i64::MIN,
            id: RecordId::offset(malformed.offset),
            value: (),
        });
        self.route.handle(chain, || letter(&self.step.name(), partition, malformed))
    }

    /// A partition is read to its end and may grow.
    fn quiet(&mut self, i: usize) {
        let now = self.cx.chain.worker.process.clock.now_ms();
        let was_unavailable = std::mem::take(&mut self.open[i].is_unavailable);
        let since = match self.open[i].quiet {
            Some((since, until)) if was_unavailable => now.saturating_sub(until.saturating_sub(since)),
            Some((since, _)) => since,
            None => now,
        };
        self.open[i].quiet = Some((since, now));
        self.open[i].activity.set_quiet_since(Some(since));
        if let Some(quiet_ms) = self.quiet_ms(i) {
            self.cx.chain.generators(|generator| generator.quiet(i, quiet_ms));
        }
    }

    /// For how long (ms) a partition is known to have had nothing to read; None if there is more to read.
    fn quiet_ms(&self, i: usize) -> Option<u64> {
        self.open[i].quiet.map(|(since, until)| u64::try_from(until.saturating_sub(since)).unwrap_or(0))
    }
}

fn reader<T>(reader: &mut Option<Box<dyn SourceReader<T>>>) -> Result<&mut Box<dyn SourceReader<T>>> {
    reader.as_mut().ok_or_else(|| Error::internal("a source is read before it is open"))
}

fn letter(source: &str, partition: &str, malformed: Malformed) -> DeadLetter {
    use base64::Engine;
    let (raw, raw_base64) = match String::from_utf8(malformed.raw) {
        Ok(text) => (Some(text), None),
        Err(bytes) => (None, Some(base64::engine::general_purpose::STANDARD.encode(bytes.as_bytes()))),
    };
    DeadLetter {
        source: source.to_owned(),
        partition: Some(partition.to_owned()),
        offset: Some(malformed.offset),
        error: malformed.error,
        raw,
        raw_base64,
    }
}

impl<S: Source> SourceLoop for Rc<RefCell<SourceStep<S>>> {
    fn poll(&mut self, budget: usize) -> Result<Poll> {
        let this = &mut *self.borrow_mut();
        this.open_assigned(false)?;
        let count = this.open.len();
        let mut is_aligned = false;
        this.set_waiting(false);
        for _ in 0..count {
            let i = this.next % count;
            this.next = i + 1;
            if this.open[i].ended || this.pauses(i, &mut is_aligned) {
                continue;
            }
            let before = this.rows.get();
            let status = this.poll_partition(i, budget)?;
            let records = (this.rows.get() - before) as usize;
            let bytes = this.polled.take_bytes();
            this.bytes.add(bytes as u64);
            if records > 0 || status == PartitionStatus::More {
                return Ok(Poll::Read { records, bytes });
            }
        }
        this.set_waiting(this.open.iter().any(|open| open.is_paused));
        let all_ended = this.is_bounded() && this.open.iter().all(|open| open.ended);
        Ok(if all_ended { Poll::Ended } else { Poll::CaughtUp })
    }

    fn advance_watermark(&mut self) {
        let (chain, more) = (self.borrow().cx.chain.clone(), !self.borrow().is_bounded());
        chain.generators(|generator| generator.advance(more));
        let this = &mut *self.borrow_mut();
        this.align();
        this.show_drift();
    }

    fn announce(&mut self) {
        let this = &*self.borrow();
        let (chain, more) = (&this.cx.chain, !this.is_bounded());
        for i in 0..this.open.len() {
            let quiet_ms = this.quiet_ms(i);
            chain.generators(|generator| generator.judge(i, quiet_ms));
        }
        chain.generators(|generator| generator.announce(more));
    }

    fn ended(&mut self) {
        self.borrow_mut().align();
        let outlet = self.borrow().outlet.clone();
        outlet.watermark(WatermarkUpdate::Now(Watermark::EMPTY));
    }
}

impl<S: Source> Operator for SourceStep<S> {
    fn open(&mut self, context: &OpenContext<'_>) -> Result<()> {
        let uid = self.step.uid();
        for part in context.restored(&uid) {
            self.restored.extend(part.partitions.clone());
        }
        self.cx.enter_apart();
        let reader = catch(|| self.source.reader()).context(|| format!("step '{}'", self.step.name()))?;
        self.reader = Some(reader);
        let worker = &self.cx.chain.worker;
        let known = worker.process.shared.drifts.of(self.cx.chain.id, worker.parallelism());
        self.drift = self.max_drift().map(|max| Drift::new(max, worker.index(), known));
        self.open_assigned(true)
    }

    fn barrier(&mut self, _: Epoch, parts: &mut SnapshotParts) -> Result<()> {
        let part = parts.operator(&self.step.uid());
        let reader = reader(&mut self.reader)?;
        for (i, open) in self.open.iter().enumerate() {
            let mut watermarks = serde_json::Map::new();
            self.cx.chain.generators(|generator| {
                watermarks.insert(generator.uid(), generator.keep(i));
            });
            let position = reader.position(i);
            open.activity.set_position(&position);
            let kept = manifest::PartitionSnapshot {
                position,
                watermark: Some(Value::Object(watermarks)),
                ended: open.ended,
            };
            part.partitions.insert(open.name.clone(), kept);
        }
        Ok(())
    }
}
