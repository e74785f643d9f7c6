//! How records get their event time, and how watermarks follow from it.
//!
//! A watermark is made for every partition of a source on its own, because order means something only within a partition.
//! How a worker summarizes its partitions, and how receivers join these summaries, is in [`crate::watermark`].

use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::activity::PartitionWatermark;
use crate::dataflow::operator::{OpenedPartition, WatermarkGenerator};
use crate::dataflow::operator_chain::OperatorChain;
use crate::dataflow::outlet::{Outlet, Receiver};
use crate::dataflow::step_context::StepContext;
use crate::metrics::Gauge;
use crate::metrics::descriptors;
use crate::operators::error_route::ErrorRoute;
use crate::step::Step;
use crate::watermark::{Watermark, WatermarkUpdate};
use tidegate_connector_api::DeadLetter;
use tidegate_connector_api::Record;
use tidegate_protocol::Result;

/// How watermarks follow from the event times of a partition.
#[derive(Clone)]
pub struct Watermarks {
    rule: Rule,
    idle_after: Option<Duration>,
    /// The earliest event time that is plausible, if the author has set it.
    from: Option<i64>,
    /// How far ahead of the clock an event time is plausible, if the author has set it.
    ahead: Option<Duration>,
    max_drift: Duration,
}

/// Event times beyond this, in either direction, are invalid: 36 million years. Sums with the sizes of windows do not
/// overflow.
const WIDEST: i64 = 1 << 60;
/// How far ahead of the clock an event time of a followed source is plausible.
const AHEAD: Duration = Duration::from_secs(24 * 3600);
/// By how much a partition may be ahead of the others, unless the author has set it.
const MAX_DRIFT: Duration = Duration::from_secs(3600);

#[derive(Clone)]
enum Rule {
    /// So many milliseconds behind the highest event time, and one more.
    Bounded(i64),
    /// From the highest event time so far and the event time of the record at hand.
    Own(Rc<dyn Fn(i64, i64) -> i64>),
}

impl Watermarks {
    /// Records are at most this much out of order: a watermark is the highest event time so far, less the bound, less one
    /// millisecond (a record right at the bound is not late).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::aggregates::Count;
    /// use tidegate::testing::{VecSource, collect};
    /// use tidegate::{Tumbling, Watermarks};
    ///
    /// let out = collect(|job| {
    ///     let times = job.source("times", VecSource::of([1_500, 400]));
    ///     let times = times.event_time(|t| *t, Watermarks::bounded(Duration::from_secs(2))).key_by_value(|_| 0u8);
    ///     Ok(times.window(Tumbling::of(Duration::from_secs(1))).aggregate("count", Count).map(|w| w.window.start))
    /// })?;
    /// assert_eq!(out, [0, 1_000]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn bounded(out_of_order: Duration) -> Self {
        Self::new(Rule::Bounded(millis(out_of_order)))
    }

    /// Event times never go back within a partition: a record that is older than one before it is late once a window of
    /// its time is over.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::aggregates::Count;
    /// use tidegate::testing::{VecSource, collect};
    /// use tidegate::{Tumbling, Watermarks};
    ///
    /// let out = collect(|job| {
    ///     let times = job.source("times", VecSource::of([100, 900, 1_200]));
    ///     let times = times.event_time(|t| *t, Watermarks::monotonous()).key_by_value(|_| 0u8);
    ///     Ok(times.window(Tumbling::of(Duration::from_secs(1))).aggregate("count", Count).map(|w| w.value))
    /// })?;
    /// assert_eq!(out, [2, 1]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn monotonous() -> Self {
        Self::bounded(Duration::ZERO)
    }

    /// A custom rule, which computes the watermark from the partition's highest event time so far and that of the current
    /// record (all in milliseconds). A watermark never goes back, whatever the rule says.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::aggregates::Count;
    /// use tidegate::testing::{TestJob, TestSource, VecSink};
    /// use tidegate::{Tumbling, Watermarks};
    ///
    /// let (times, out) = (TestSource::new(1), VecSink::new());
    /// let (source, sink) = (times.clone(), out.clone());
    /// let job = TestJob::new(move |job| {
    ///     // A record of a full second says that all before it is there; no other moves event time.
    ///     let marks = Watermarks::own(|_highest, at| if at % 1_000 == 0 { at - 1 } else { i64::MIN });
    ///     let times = job.source("times", source.clone()).event_time(|t| *t, marks).key_by_value(|_| 0u8);
    ///     let windows = times.window(Tumbling::of(Duration::from_secs(1)));
    ///     windows.aggregate("count", Count).map(|w| (w.window.start, w.value)).sink("out", sink.clone());
    ///     Ok(())
    /// });
    /// let running = job.start();
    /// times.extend(0, [100, 1_700, 200]);
    /// running.checkpoint();
    /// assert_eq!(out.records(), [], "no second was said to be over");
    /// times.push(0, 1_000);
    /// running.checkpoint();
    /// assert_eq!(out.records(), [(0, 2)]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn own(rule: impl Fn(i64, i64) -> i64 + 'static) -> Self {
        Self::new(Rule::Own(Rc::new(rule)))
    }

    /// A partition that is read to its end and has brought nothing for this long is idle: it no longer holds the watermark
    /// back. Without this setting, such a partition holds the watermark back for ever.
    ///
    /// A partition that brings records again holds the watermark back from the next checkpoint on, on all workers. The
    /// watermark does not go back for it: records whose windows have closed meanwhile are late. While all partitions are
    /// idle the watermark is that of the one that has come furthest. After a restart no partition is idle until it has
    /// brought nothing for this long.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use tidegate::aggregates::Count;
    /// use tidegate::clock::ManualClock;
    /// use tidegate::testing::{TestJob, TestSource, VecSink};
    /// use tidegate::{Tumbling, Watermarks};
    ///
    /// let (times, out, clock) = (TestSource::new(2), VecSink::new(), Arc::new(ManualClock::at(0)));
    /// let (source, sink) = (times.clone(), out.clone());
    /// let job = TestJob::new(move |job| {
    ///     let marks = Watermarks::monotonous().idle_after(Duration::from_secs(5));
    ///     let times = job.source("times", source.clone()).event_time(|t| *t, marks).key_by_value(|_| 0u8);
    ///     let windows = times.window(Tumbling::of(Duration::from_secs(1)));
    ///     windows.aggregate("count", Count).map(|w| w.value).sink("out", sink.clone());
    ///     Ok(())
    /// })
    /// .clock(clock.clone());
    /// let running = job.start();
    /// times.extend(0, [100, 1_200]);
    /// running.checkpoint();
    /// clock.advance_ms(5_000);
    /// assert_eq!(out.wait_for(1), [1], "the second partition, without a record, is not waited for");
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    #[must_use]
    pub fn idle_after(mut self, quiet: Duration) -> Self {
        self.idle_after = Some(quiet);
        self
    }

    /// A partition whose watermark is more than this ahead of the slowest partition of the source, on any worker, is paused:
    /// it is not read until the others have caught up. Without this setting that is an hour, and with [`Duration::MAX`] no
    /// partition is ever paused.
    ///
    /// When a backlog is read, this bounds what windows and timers keep: everything between the slowest partition and the
    /// fastest. Only a partition that has more to read holds others back: not one that has ended, is idle, or is followed and
    /// was read to its end. The bound holds to within a batch of records (256) a partition. Results do not change by it;
    /// docs/event-time.md has the details.
    ///
    /// Where a source has several steps of event time, a partition counts as far as the one of its watermarks that is least,
    /// and the greatest of the drifts counts. Partitions of different sources do not wait for each other.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::aggregates::Count;
    /// use tidegate::testing::{VecSource, collect};
    /// use tidegate::{Tumbling, Watermarks};
    ///
    /// // Two days, a file each: the second is read when the first is nearly over, and few windows are open at a time.
    /// let days = VecSource::partitions([0, 86_400_000].map(|day| (0..2_880).map(move |n| day + n * 30_000)));
    /// let out = collect(move |job| {
    ///     let marks = Watermarks::monotonous().max_drift(Duration::from_secs(600));
    ///     let times = job.source("times", days.clone()).event_time(|t| *t, marks).key_by_value(|_| 0u8);
    ///     Ok(times.window(Tumbling::of(Duration::from_secs(60))).aggregate("count", Count).map(|w| w.value))
    /// })?;
    /// assert_eq!(out, [2; 2_880]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    #[must_use]
    pub fn max_drift(mut self, drift: Duration) -> Self {
        self.max_drift = drift;
        self
    }

    /// Event times before this one (milliseconds since the Unix epoch) are not plausible. Without it, that is 1970 for a
    /// source that is followed; one that is read to its end takes any time within 36 million years.
    ///
    /// A record whose event time is not plausible is malformed: it would have closed the windows of all others, or be
    /// beyond all windows. It goes where the source's malformed records go: it ends the job, is counted and dropped, or
    /// becomes a dead letter. [`crate::Stream::on_error`] and [`crate::Stream::dead_letters`] behind `event_time` set it
    /// for this step alone.
    ///
    /// ```
    /// use tidegate::aggregates::Count;
    /// use tidegate::testing::{TestJob, VecSink, VecSource};
    /// use tidegate::{OnError, Tumbling, Watermarks};
    /// use std::time::Duration;
    ///
    /// let out = VecSink::new();
    /// let sink = out.clone();
    /// let job = TestJob::new(move |job| {
    ///     let marks = Watermarks::monotonous().accept_from(1_000);
    ///     let times = job.source("times", VecSource::of([1_500, -1, 1_700]));
    ///     let times = times.event_time(|t| *t, marks).on_error(OnError::Skip).key_by_value(|_| 0u8);
    ///     let windows = times.window(Tumbling::of(Duration::from_secs(1)));
    ///     windows.aggregate("count", Count).map(|w| w.value).sink("out", sink.clone());
    ///     Ok(())
    /// });
    /// assert_eq!(job.run()?.malformed, 1);
    /// assert_eq!(out.records(), [2]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    #[must_use]
    pub fn accept_from(mut self, at: i64) -> Self {
        self.from = Some(at);
        self
    }

    /// Event times further ahead of the clock than this are not plausible; see [`Watermarks::accept_from`]. Without it, that
    /// is a day for a source that is followed; one that is read to its end takes any time within 36 million years.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use tidegate::clock::ManualClock;
    /// use tidegate::testing::{Discard, TestJob, VecSource};
    /// use tidegate::{OnError, Watermarks};
    ///
    /// let job = TestJob::new(|job| {
    ///     let marks = Watermarks::monotonous().accept_ahead(Duration::from_secs(1));
    ///     let times = job.source("times", VecSource::of([500, 1_000, 1_001]));
    ///     times.event_time(|t| *t, marks).on_error(OnError::Skip).sink("out", Discard::named("out"));
    ///     Ok(())
    /// });
    /// let summary = job.clock(Arc::new(ManualClock::at(0))).run()?;
    /// assert_eq!((summary.rows_out, summary.malformed), (2, 1));
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    #[must_use]
    pub fn accept_ahead(mut self, ahead: Duration) -> Self {
        self.ahead = Some(ahead);
        self
    }

    fn new(rule: Rule) -> Self {
        Self { rule, idle_after: None, from: None, ahead: None, max_drift: MAX_DRIFT }
    }

    /// The event times that are plausible at this time of the clock.
    fn plausible(&self, is_followed: bool, now: i64) -> RangeInclusive<i64> {
        let from = self.from.unwrap_or(if is_followed { 0 } else { -WIDEST });
        let ahead = self.ahead.or(is_followed.then_some(AHEAD));
        let to = ahead.map_or(WIDEST, |ahead| now.saturating_add(millis(ahead)));
        from.max(-WIDEST)..=to.min(WIDEST)
    }

    fn is_idle(&self, quiet_ms: u64) -> bool {
        self.idle_after.is_some_and(|after| u128::from(quiet_ms) >= after.as_millis())
    }
}

/// A duration in whole milliseconds, at most [`WIDEST`].
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(WIDEST).min(WIDEST)
}

/// The state of one partition.
struct Progress {
    highest: i64,
    watermark: i64,
    /// True if it does not count in this epoch.
    idle: bool,
    ended: bool,
    /// Where other threads see it, as of the last tick.
    seen: Arc<PartitionWatermark>,
}

impl Progress {
    /// What is known of the partition's event time.
    fn said(&self) -> Watermark {
        // The greatest time is that of the end.
        let time = self.watermark.min(i64::MAX - 1);
        if self.ended {
            // Nothing older can follow.
            Watermark::ended(time.max(self.highest.min(i64::MAX - 1)))
        } else if self.idle {
            Watermark::idle(time)
        } else {
            Watermark::active(time)
        }
    }
}

/// See [`crate::Stream::event_time`].
pub(crate) struct EventTime<T, F> {
    cx: StepContext,
    step: Arc<Step>,
    at: F,
    watermarks: Watermarks,
    partitions: Vec<Progress>,
    said: Watermark,
    is_followed: bool,
    /// Where records go whose event time is not plausible.
    route: Rc<ErrorRoute>,
    watermark_gauge: Gauge,
    next: Outlet<T>,
}

impl<T, F> EventTime<T, F> {
    pub(crate) fn new(
        chain: &Rc<OperatorChain>,
        step: &Arc<Step>,
        at: F,
        watermarks: Watermarks,
        route: Rc<ErrorRoute>,
        next: Outlet<T>,
    ) -> Self {
        let cx = StepContext::new(chain, step);
        let watermark_gauge = chain.gauge(step, descriptors::WATERMARK_MS);
        let (step, partitions) = (step.clone(), Vec::new());
        Self {
            cx,
            step,
            at,
            watermarks,
            partitions,
            said: Watermark::UNKNOWN,
            is_followed: false,
            route,
            watermark_gauge,
            next,
        }
    }

    /// The summary of all partitions of this worker. While partitions may be added, it includes one that could still bring
    /// records.
    fn joined(&self, more: bool) -> Watermark {
        let none = if more { Watermark::idle(i64::MIN) } else { Watermark::EMPTY };
        self.partitions.iter().map(Progress::said).fold(none, Watermark::join)
    }

    /// Removes records whose event time is not plausible from the batch, and handles them as malformed records.
    #[cold]
    fn refuse(&mut self, batch: &mut Vec<Record<T>>, plausible: &RangeInclusive<i64>) -> Result<()> {
        let (chain, name) = (&self.cx.chain, self.step.name());
        for record in batch.extract_if(.., |record| !plausible.contains(&record.timestamp)) {
            self.cx.enter();
            self.cx.record(&record);
            let letter = || DeadLetter {
                source: name.clone(),
                partition: chain.site.partition_name(),
                offset: Some(record.id.as_offset()),
                error: format!(
                    "the event time {} is not plausible: it is not from {} to {} (milliseconds since 1970); \
                     Watermarks::accept_from and accept_ahead change these limits",
                    record.timestamp,
                    plausible.start(),
                    plausible.end()
                ),
                raw: None,
                raw_base64: None,
            };
            self.route.handle(chain, letter)?;
        }
        self.cx.enter();
        Ok(())
    }

    /// Has other threads see the partitions as they are now.
    fn show(&self) {
        for Progress { seen, watermark, highest, idle, .. } in &self.partitions {
            seen.set(*watermark, *highest, *idle);
        }
    }

    fn say(&mut self, watermark: Watermark)
    where
        T: 'static,
    {
        if self.said != watermark {
            self.said = watermark;
            self.measure();
            self.next.watermark(WatermarkUpdate::Now(watermark));
        }
    }

    fn measure(&self) {
        let time = self.said.time();
        if time > i64::MIN && time < i64::MAX {
            self.watermark_gauge.set(time);
        }
    }
}

impl<T: 'static, F: FnMut(&T) -> i64> Receiver<T> for EventTime<T, F> {
    fn records(&mut self, batch: &mut Vec<Record<T>>) {
        self.cx.enter();
        let (mut least, mut greatest) = (i64::MAX, i64::MIN);
        for record in batch.iter_mut() {
            self.cx.record(record);
            record.timestamp = (self.at)(&record.value);
            (least, greatest) = (least.min(record.timestamp), greatest.max(record.timestamp));
        }
        let now = self.cx.chain.worker.process.clock.now_ms();
        let plausible = self.watermarks.plausible(self.is_followed, now);
        let are_plausible = plausible.contains(&least) && plausible.contains(&greatest);
        if !are_plausible && !batch.is_empty() {
            let refused = self.refuse(batch, &plausible);
            if refused.is_err() {
                self.cx.or_fail(refused);
                return;
            }
        }
        let partition = &mut self.partitions[self.cx.chain.site.current_partition()];
        for record in batch.iter() {
            partition.highest = partition.highest.max(record.timestamp);
            if let Rule::Own(rule) = &self.watermarks.rule {
                self.cx.record(record);
                let watermark = rule(partition.highest, record.timestamp).min(*plausible.end());
                partition.watermark = partition.watermark.max(watermark);
            }
        }
        if let Rule::Bounded(bound) = &self.watermarks.rule
            && !batch.is_empty()
        {
            let watermark = partition.highest.saturating_sub(*bound).saturating_sub(1);
            partition.watermark = partition.watermark.max(watermark);
        }
        self.next.records(batch);
    }

    /// Watermarks are made here; the only update that arrives from the source is the end of the input.
    fn watermark(&mut self, update: WatermarkUpdate) {
        if let WatermarkUpdate::Now(watermark) = update
            && watermark.is_ended()
        {
            self.say(self.joined(false));
        }
    }
}

impl<T: 'static, F: FnMut(&T) -> i64> WatermarkGenerator for EventTime<T, F> {
    fn uid(&self) -> String {
        self.step.uid()
    }

    fn open(&mut self, partition: usize, opened: &OpenedPartition<'_>) -> Result<()> {
        self.is_followed = opened.is_followed;
        let (highest, watermark) = match opened.kept {
            Some(kept) => serde_json::from_value(kept.clone())?,
            None => (i64::MIN, i64::MIN),
        };
        debug_assert_eq!(partition, self.partitions.len());
        let seen = opened.activity.watermark(&self.step);
        self.partitions.push(Progress { highest, watermark, idle: !opened.counts, ended: false, seen });
        Ok(())
    }

    fn quiet(&mut self, partition: usize, quiet_ms: u64) {
        self.partitions[partition].idle |= self.watermarks.is_idle(quiet_ms);
    }

    fn judge(&mut self, partition: usize, quiet_ms: Option<u64>) {
        self.partitions[partition].idle = quiet_ms.is_some_and(|quiet_ms| self.watermarks.is_idle(quiet_ms));
    }

    fn end(&mut self, partition: usize) {
        self.partitions[partition].ended = true;
    }

    fn watermark(&self, partition: usize) -> i64 {
        self.partitions[partition].watermark
    }

    fn max_drift(&self) -> Option<i64> {
        Some(millis(self.watermarks.max_drift)).filter(|drift| *drift < WIDEST)
    }

    fn keep(&self, partition: usize) -> Value {
        let Progress { highest, watermark, .. } = self.partitions[partition];
        serde_json::json!([highest, watermark])
    }

    fn advance(&mut self, more: bool) {
        self.show();
        self.say(self.joined(more));
    }

    fn announce(&mut self, more: bool) {
        self.show();
        self.said = self.joined(more);
        self.measure();
        self.next.watermark(WatermarkUpdate::NextEpoch(self.said));
    }
}
