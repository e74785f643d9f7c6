//! How records get their event time, and how watermarks follow from it.
//!
//! A watermark is made for every partition of a source on its own, because order means something only within a partition.
//! The worker tells the least of those of its partitions; a receiver takes the least over all senders.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::chain::{Outlet, Receiver};
use crate::dataflow::host::Host;
use crate::element::Generator;
use crate::error::Result;
use crate::metrics::{Gauge, Step};
use crate::operators::stateless::Here;
use crate::record::{Mark, Rec};

/// The kind of the step, and the beginning of its name as long as its author gives it none.
pub(crate) const EVENT_TIME: &str = "event_time";

/// How watermarks follow from the event times of a partition.
#[derive(Clone)]
pub struct Watermarks {
    rule: Rule,
    idle_after: Option<Duration>,
}

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
    /// use tidegate::testing::{Count, VecSource, collect};
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
        Self { rule: Rule::Bounded(out_of_order.as_millis() as i64), idle_after: None }
    }

    /// Event times never go back within a partition: a record that is older than one before it is late once a window of
    /// its time is over.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::testing::{Count, VecSource, collect};
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

    /// A rule of one's own: from the partition's highest event time so far and that of the record at hand to the
    /// watermark (all in milliseconds). A watermark never goes back, whatever the rule says.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::testing::{Count, TestJob, TestSource, VecSink};
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
        Self { rule: Rule::Own(Rc::new(rule)), idle_after: None }
    }

    /// A partition that is read to its end and brings nothing for this long no longer holds the watermark back, until it
    /// brings something again. Without this it holds it back for ever.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use tidegate::clock::ManualClock;
    /// use tidegate::testing::{Count, TestJob, TestSource, VecSink};
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
}

/// The state of one partition.
struct Progress {
    highest: i64,
    watermark: i64,
    idle: bool,
    ended: bool,
}

/// See [`crate::Stream::event_time`].
pub(crate) struct EventTime<T, F> {
    here: Here,
    step: Arc<Step>,
    at: F,
    watermarks: Watermarks,
    partitions: Vec<Progress>,
    told: Option<Mark>,
    watermark_gauge: Gauge,
    next: Outlet<T>,
}

impl<T, F> EventTime<T, F> {
    pub(crate) fn new(
        host: &Rc<Host>,
        step: &Arc<Step>,
        at: F,
        watermarks: Watermarks,
        next: Outlet<T>,
    ) -> Self {
        let here = Here::new(host, step);
        let watermark_gauge = host.gauge(step, "watermark_ms");
        let (step, partitions) = (step.clone(), Vec::new());
        Self { here, step, at, watermarks, partitions, told: None, watermark_gauge, next }
    }

    fn tell(&mut self, mark: Mark)
    where
        T: 'static,
    {
        if self.told != Some(mark) {
            self.told = Some(mark);
            if mark.at > i64::MIN && mark.at < i64::MAX {
                self.watermark_gauge.set(mark.at);
            }
            self.next.watermark(mark);
        }
    }
}

impl<T: 'static, F: FnMut(&T) -> i64> Receiver<T> for EventTime<T, F> {
    fn records(&mut self, batch: &mut Vec<Rec<T>>) {
        self.here.enter();
        let partition = &mut self.partitions[self.here.host.at.current_partition()];
        let mut highest = partition.highest;
        match &self.watermarks.rule {
            Rule::Bounded(bound) => {
                for record in batch.iter_mut() {
                    self.here.record(record);
                    record.ts = (self.at)(&record.val);
                    highest = highest.max(record.ts);
                }
                let watermark = highest.saturating_sub(*bound).saturating_sub(1);
                partition.watermark = partition.watermark.max(watermark);
            }
            Rule::Own(rule) => {
                for record in batch.iter_mut() {
                    self.here.record(record);
                    record.ts = (self.at)(&record.val);
                    highest = highest.max(record.ts);
                    partition.watermark = partition.watermark.max(rule(highest, record.ts));
                }
            }
        }
        partition.highest = highest;
        self.next.records(batch);
    }

    /// Watermarks are made here; all that comes from before is the end of everything.
    fn watermark(&mut self, mark: Mark) {
        if mark == Mark::END {
            self.tell(mark);
        }
    }
}

impl<T: 'static, F: FnMut(&T) -> i64> Generator for EventTime<T, F> {
    fn uid(&self) -> String {
        self.step.uid()
    }

    fn open(&mut self, partition: usize, kept: Option<&Value>) -> Result<()> {
        let (highest, watermark) = match kept {
            Some(kept) => serde_json::from_value(kept.clone())?,
            None => (i64::MIN, i64::MIN),
        };
        debug_assert_eq!(partition, self.partitions.len());
        self.partitions.push(Progress { highest, watermark, idle: false, ended: false });
        Ok(())
    }

    fn set_idle(&mut self, partition: usize, idle: bool) {
        self.partitions[partition].idle = idle;
    }

    fn end(&mut self, partition: usize) {
        self.partitions[partition].ended = true;
    }

    fn keep(&self, partition: usize) -> Value {
        let Progress { highest, watermark, .. } = self.partitions[partition];
        serde_json::json!([highest, watermark])
    }

    fn idle_after_ms(&self) -> Option<u64> {
        self.watermarks.idle_after.map(|quiet| quiet.as_millis() as u64)
    }

    fn advance(&mut self) {
        let open = || self.partitions.iter().filter(|p| !p.ended);
        let told = self.told.map_or(i64::MIN, |mark| mark.at);
        let mark = match open().filter(|p| !p.idle).map(|p| p.watermark).min() {
            Some(least) => Mark::at(least.max(told)),
            // All idle, so that nobody holds back the one that had come furthest; or none left: a worker without
            // partitions must not hold back the others.
            None => {
                let furthest = open().map(|p| p.watermark).max().unwrap_or(i64::MIN);
                Mark { at: furthest.max(told), idle: true }
            }
        };
        if mark.at > i64::MIN || mark.idle {
            self.tell(mark);
        }
    }
}
